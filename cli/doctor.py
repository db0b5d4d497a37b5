"""`sparse3d doctor`: what this machine can run, and why not the rest."""

from __future__ import annotations

from typing import Annotated

import typer

from sparse3d.cli.console import print_json


def doctor(json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False) -> None:
    """Check this machine: what runs, what does not, and what to do about it."""
    from sparse3d.doctor import checks

    found = checks()
    if json:
        print_json([vars(check) for check in found])
    else:
        for check in found:
            typer.secho(
                "ok   " if check.works else ("FAIL " if check.required else "no   "),
                fg="green" if check.works else "yellow",
                nl=False,
            )
            typer.echo(f"{check.name:<22} {check.detail}")
    if any(check.required and not check.works for check in found):
        raise typer.Exit(2)

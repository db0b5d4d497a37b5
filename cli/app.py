"""The Typer application: one module for each command, one place that turns errors into exit codes."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sparse3d import __version__
from sparse3d.cli.console import error
from sparse3d.cli.densify import densify
from sparse3d.cli.doctor import doctor
from sparse3d.cli.evaluate import evaluate
from sparse3d.cli.export import export
from sparse3d.cli.hallucinate import hallucinate
from sparse3d.cli.init import init
from sparse3d.cli.models import app as models
from sparse3d.cli.pose import pose
from sparse3d.cli.recon import recon
from sparse3d.cli.render import render
from sparse3d.cli.view import view
from sparse3d.errors import UserError


class _Commands(TyperGroup):
    """Exit codes: 2 for what the user can put right, 130 for Ctrl-C; anything else is a fault of ours and shows its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as problem:
            error(str(problem))
            raise typer.Exit(2) from problem
        except KeyboardInterrupt:
            error("stopped. Finished stages are kept; the same command goes on from there")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From a handful of photos to an explorable 3D Gaussian scene.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"sparse3d {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command()(recon)
app.command()(pose)
app.command()(init)
app.command()(densify)
app.command()(hallucinate)
app.command()(view)
app.command()(render)
app.command()(export)
app.command(name="eval")(evaluate)
app.add_typer(models, name="models")
app.command()(doctor)


def main() -> None:
    """Entry point of the `sparse3d` script."""
    # Torch's worker threads would otherwise spin between operations and, when other programs run or our own kernels'
    # threads do, hold up the ones that have work: ten times slower on two busy cores. Must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()

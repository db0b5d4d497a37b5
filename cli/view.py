"""`sparse3d view`: scenes in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparse3d.cli.console import note, until_stopped
from sparse3d.cli.options import Host, Port


def view(
    scenes: Annotated[
        list[Path],
        typer.Argument(
            help="A scene folder, a file of Gaussians, a COLMAP model or a transforms.json; several are shown side by side.",
            show_default=False,
        ),
    ],
    port: Port = 8080,
    host: Host = "127.0.0.1",
    auth: Annotated[
        bool | None,
        typer.Option(
            "--auth/--no-auth",
            help="Ask for a token that stands in the address. On by default where others can reach the page.",
            show_default=False,
        ),
    ] = None,
    max_gaussians: Annotated[
        int, typer.Option(min=1, help="Draw at most this many, the most visible ones.")
    ] = 1_000_000,
) -> None:
    """Show scenes in the browser: splats, cameras with their photos, points, depth; measure, crop, make films."""
    from sparse3d.viewer.serve import serve
    from sparse3d.viewer.sources import open_source

    found = [open_source(path) for path in scenes]
    servers, address = serve(found, host=host, port=port, auth=auth, max_gaussians=max_gaussians, say=note)
    typer.echo(address)
    try:
        until_stopped()
    finally:
        for server in servers:
            server.stop()

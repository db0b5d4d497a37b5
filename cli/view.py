"""`sparse3d view`: a scene in the browser."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Annotated

import typer

from sparse3d.cli.console import note
from sparse3d.cli.options import Scene

_LOCAL = ("127.0.0.1", "localhost", "::1")


def view(
    scene: Scene,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The next free one is taken when it is in use.")] = 8080,
    host: Annotated[
        str, typer.Option(help="Address to listen on. The default is reached from this machine only.")
    ] = "127.0.0.1",
) -> None:
    """Show a scene in the browser: splats, cameras with their photos, points, depth."""
    from sparse3d.io.load import load_scene
    from sparse3d.viewer.server import address, open_server

    loaded = load_scene(scene)
    server = open_server(
        loaded.gaussians,
        loaded.posed,
        depths=loaded.depths,
        look=loaded.look,
        host=host,
        port=port,
    )
    if host not in _LOCAL:
        note(f"warning: listening on {host}: everyone who reaches this machine can look at the scene")
    typer.echo(address(server))
    note("press Ctrl-C to stop")
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)

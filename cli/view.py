"""`sparse3d view`: a scene in the browser."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from sparse3d.cli.console import note


def view(
    scene: Annotated[
        Path,
        typer.Argument(
            metavar="SCENE|FILE",
            help="A scene folder; a .ply, .compressed.ply, .splat, .ksplat, .spz, .sog or .glb; a folder with a COLMAP model or transforms.json "
            "and its photos.",
            show_default=False,
        ),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="The next free one is taken when it is in use.")] = 8080,
    host: Annotated[
        str, typer.Option(help="Address to listen on. The default is reached from this machine only.")
    ] = "127.0.0.1",
    auth: Annotated[
        bool,
        typer.Option("--auth/--no-auth", help="On other addresses: ask visitors for the token in the printed address."),
    ] = True,
) -> None:
    """Show a scene in the browser: splats, cameras with their photos, points, depth."""
    from sparse3d.io.anything import load_anything
    from sparse3d.viewer.gate import new_token
    from sparse3d.viewer.server import address, is_local, open_server

    loaded = load_anything(scene)
    token = new_token() if auth and not is_local(host) else None
    server = open_server(
        loaded.gaussians,
        loaded.posed,
        depths=loaded.depths,
        background=loaded.background,
        host=host,
        port=port,
        token=token,
    )
    if not is_local(host):
        who = "everyone who reaches this machine" if token is None else "everyone who has the address below"
        note(f"warning: listening on {host}: {who} can look at the scene")
    if port not in (0, server.get_port()):
        note(f"port {port} is in use; took {server.get_port()}")
    typer.echo(address(server))
    note("press Ctrl-C to stop")
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
    server.stop()

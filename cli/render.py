"""`sparse3d render`: pictures of a scene along given cameras or a path around it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparse3d.cli.console import print_json
from sparse3d.cli.options import Json, Renderer, Scene
from sparse3d.cli.progress import reporter
from sparse3d.errors import UserError


def render(
    scene: Scene,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures.")] = Path("renders"),
    camera: Annotated[
        Path | None,
        typer.Option(
            help="transforms.json: each frame is drawn to <stem>.png at its own size. Or a camera path saved in "
            "nerfstudio's viewer: 0000.png, ...",
            show_default=False,
        ),
    ] = None,
    path: Annotated[
        str | None, typer.Option(help="orbit: a loop through the photographed side of the scene.", show_default=False)
    ] = None,
    frames: Annotated[int, typer.Option(min=2, help="Pictures along the path.")] = 60,
    renderer: Renderer = "auto",
    json: Json = False,
) -> None:
    """Draw a scene to PNG files."""
    if (camera is None) == (path is None):
        raise UserError("render needs one of --camera FILE and --path orbit")
    from sparse3d.stills import render_file, render_path

    with reporter() as report:
        if camera is not None:
            files = render_file(scene, camera, output, backend=renderer, report=report)
        else:
            files = render_path(scene, str(path), frames, output, backend=renderer, report=report)
    if json:
        print_json({"files": files})
    else:
        typer.echo(output)

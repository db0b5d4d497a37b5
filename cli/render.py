"""`sparse3d render`: pictures or a film of a scene along given cameras or a path around it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sparse3d.cli.console import print_json
from sparse3d.cli.options import Json, Renderer, Scene
from sparse3d.cli.progress import reporter
from sparse3d.errors import UserError


def render(
    scene: Scene,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A folder for PNG files, or a film: a name that ends in .mp4 or .gif."),
    ] = Path("renders"),
    camera: Annotated[
        Path | None,
        typer.Option(
            help="transforms.json: each frame is drawn to <stem>.png at its own size. Or a camera path saved in "
            "a viewer (nerfstudio's or ours): 0000.png, ...",
            show_default=False,
        ),
    ] = None,
    path: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.json",
            help="orbit: a loop through the photographed side of the scene. interpolate: from photo to photo. spiral, ellipse, lemniscate, dolly. "
            "Or a saved camera path.",
            show_default=False,
        ),
    ] = None,
    frames: Annotated[int, typer.Option(min=2, help="Pictures along a named path.")] = 60,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH|LONGER", help="Of the pictures; by default that of the photos.", show_default=False),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=240,
            help="Frames in a second of a film; by default the path's own, else 30.",
            show_default=False,
        ),
    ] = None,
    depth: Annotated[
        bool, typer.Option("--depth", help="Depth instead of colours: 16-bit PNG files, or coloured in a film.")
    ] = False,
    alpha: Annotated[
        bool, typer.Option("--alpha", help="PNG files with an alpha channel, nothing behind the scene.")
    ] = False,
    renderer: Renderer = "auto",
    json: Json = False,
) -> None:
    """Draw a scene to PNG files or a film. After an interruption the same command goes on."""
    if (camera is None) == (path is None):
        raise UserError("render needs one of --camera FILE and --path orbit")
    if depth and alpha:
        raise UserError("--depth and --alpha: choose one of the two; a run draws one kind of picture")
    from sparse3d.sequence import cameras_of_file, cameras_of_path, parsed_size
    from sparse3d.sequence import render as run

    def cameras(loaded: Any) -> Any:
        pixels = None if size is None else parsed_size(size, loaded)
        return (
            cameras_of_file(camera, pixels)
            if camera is not None
            else cameras_of_path(loaded, str(path), frames, pixels)
        )

    kind = "depth" if depth else "alpha" if alpha else "color"
    with reporter() as report:
        files = run(scene, output, cameras, kind=kind, fps=fps, backend=renderer, report=report)
    if json:
        print_json({"files": files})
    else:
        typer.echo(output)

"""`sparse3d export`: a scene, or a file of splats, in the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparse3d.cli.console import print_json
from sparse3d.cli.options import Json
from sparse3d.cli.progress import reporter
from sparse3d.errors import UserError


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SCENE|FILE",
            help="A scene folder; or a .ply, .compressed.ply, .splat, .ksplat, .spz, .sog, .glb.",
            show_default=False,
        ),
    ],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="ply, compressed-ply, splat, ksplat, spz, sog, gltf (splats); html (one page with a viewer); points, mesh; colmap, nerfstudio (photos and cameras).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="By default in the folder exports of the scene.", show_default=False),
    ] = None,
    max_sh_degree: Annotated[int, typer.Option(min=0, max=3, help="Leave out view dependence above this degree.")] = 3,
    up: Annotated[
        str,
        typer.Option(
            help="as-is: the scene's own axes (of photos: y down). y: turned so that y is up. .spz and .glb are y up by themselves."
        ),
    ] = "as-is",
    faces: Annotated[int, typer.Option(min=4, help="Triangles of a mesh at most.")] = 200_000,
    resolution: Annotated[int, typer.Option(min=16, max=1024, help="Voxels along the longest side, of a mesh.")] = 256,
    json: Json = False,
) -> None:
    """Write a scene for another program, or convert a file of splats."""
    from sparse3d.export import Options
    from sparse3d.export import export as run

    if up not in ("as-is", "y"):
        raise UserError(f"--up {up}: choose as-is or y")
    with reporter() as report:
        written = run(source, format, output, Options(max_sh_degree, up, faces, resolution), report=report)
    if json:
        print_json({"written": written})
    else:
        typer.echo(written)

"""`sparse3d export`: a scene, or a file of Gaussians, in the format of another program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparse3d.cli.console import note, print_json
from sparse3d.cli.options import Json, Renderer


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SCENE",
            help="A scene folder, as `sparse3d recon` makes, or a file of Gaussians: .ply (also compressed), .spz, .splat, .sog, .ksplat, .glb.",
            show_default=False,
        ),
    ],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="ply, compressed-ply, spz, splat, sog, gltf, usd (Gaussians); colmap, nerfstudio (photos, cameras, points); points (centres as a "
            "cloud); mesh (.glb, .obj or .ply with vertex colours).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File or folder to write; by default the scene's name with the format's suffix, here.",
            show_default=False,
        ),
    ] = None,
    up: Annotated[
        str | None,
        typer.Option(
            metavar="AXIS",
            help="Axis that points up in what is written: x, -x, y, -y, z or -z. By default y for spz, gltf, usd and mesh, -y for the others.",
            show_default=False,
        ),
    ] = None,
    level: Annotated[
        bool, typer.Option("--level", help="Turn the scene first so that the mean up of its cameras is up.")
    ] = False,
    spz_frame: Annotated[
        str,
        typer.Option(
            help="Axes of SPZ files read and written: rub (as specified) or raw (those of PLY, as some converters do)."
        ),
    ] = "rub",
    max_sh_degree: Annotated[
        int, typer.Option(min=0, max=3, help="Leave out view-dependent colour above this degree.")
    ] = 3,
    min_opacity: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Leave out fainter Gaussians. By default 1/255, points 0.1.", show_default=False
        ),
    ] = None,
    voxel: Annotated[
        float | None,
        typer.Option(
            min=1e-9, help="Of the mesh: edge of a cell, world units. By default 1.5 pixels.", show_default=False
        ),
    ] = None,
    faces: Annotated[int, typer.Option(min=4, help="Of the mesh: simplified to at most so many triangles.")] = 200_000,
    renderer: Renderer = "auto",
    json: Json = False,
) -> None:
    """Write a scene in the format of another program, or convert a file of Gaussians."""
    from sparse3d.export import ExportOptions
    from sparse3d.export import export as run

    options = ExportOptions(
        up=up,
        level=level,
        spz_frame=spz_frame,
        max_sh_degree=max_sh_degree,
        min_opacity=min_opacity,
        voxel=voxel,
        faces=faces,
        renderer=renderer,
    )
    written = run(source, format, output, options)
    if written.left_out:
        note(f"left out {written.left_out} of {written.gaussians} Gaussians: too faint to be seen, or no numbers")
    if json:
        print_json({"path": written.path, "gaussians": written.gaussians, "left_out": written.left_out})
    else:
        typer.echo(written.path)

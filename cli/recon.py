"""`sparse3d recon`: photos in, scene folder out."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from sparse3d.cli.console import note, print_json
from sparse3d.cli.options import Json, Renderer
from sparse3d.cli.progress import reporter


def recon(
    inputs: Annotated[
        list[Path], typer.Argument(help="A folder of photos, photo files, or one video.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The scene folder to make, or to continue.")] = Path(
        "scene"
    ),
    preset: Annotated[str, typer.Option(help="fast, balanced, quality, or a YAML file.")] = "balanced",
    poses: Annotated[
        Path | None,
        typer.Option(
            help="Known cameras: a COLMAP model folder, a transforms.json, a scene folder, cameras.xml of Metashape, a .csv or "
            "folder of .xmp of RealityCapture, a folder of Polycam, Record3D or 3D Scanner App.",
            show_default=False,
        ),
    ] = None,
    intrinsics: Annotated[
        str | None,
        typer.Option(
            metavar="FX,FY,CX,CY",
            help="Intrinsics of all photos, pixels of the files; also FX or FX,CX,CY.",
            show_default=False,
        ),
    ] = None,
    max_size: Annotated[
        int | None, typer.Option(min=64, help="Longer side of the working images, pixels.", show_default=False)
    ] = None,
    frames: Annotated[int | None, typer.Option(min=2, help="Frames to take from a video.", show_default=False)] = None,
    holdout: Annotated[int, typer.Option(min=0, help="Keep every Nth photo aside and measure on it. 0: none.")] = 0,
    strict: Annotated[bool, typer.Option(help="Stop at an unreadable photo or a missing camera.")] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of all randomness.", show_default=False)] = None,
    renderer: Renderer = "auto",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="A.B=C", help="One setting, as optimize.steps=500. Repeatable.", show_default=False
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Warnings only.")] = False,
    json: Json = False,
) -> None:
    """Reconstruct a scene from two or more photos.

    A second run with the same photos and settings does only what is missing.
    """
    from sparse3d.config import load_config
    from sparse3d.pipeline import recon as run

    flags = {"photos.max_size": max_size, "photos.frames": frames, "seed": seed}
    assignments = [f"{name}={value}" for name, value in flags.items() if value is not None]
    if intrinsics is not None:
        assignments.append(f"photos.intrinsics={dumps(intrinsics)}")  # in quotes, or YAML would read a number or a list
    if renderer != "auto":
        assignments.append(f"renderer={renderer}")
    config = load_config(preset, [*(settings or []), *assignments])
    with reporter(quiet) as report:
        result = run(inputs, output, config, poses=poses, holdout=holdout, strict=strict, report=report)
    if json:
        print_json(vars(result))
        return
    typer.echo(result.scene)
    if not quiet:
        note(f"report: {result.scene / 'report.html'}")
        note(f"viewer: sparse3d view {result.scene}")

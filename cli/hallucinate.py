"""`sparse3d hallucinate`: a scene of a single photo."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from sparse3d.cli.console import note, print_json
from sparse3d.cli.options import Json
from sparse3d.cli.progress import reporter
from sparse3d.cli.settings import Intrinsics, MaxSize, Output, Quiet, Settings


def hallucinate(
    single: Annotated[Path, typer.Option("--single", help="The photo.", show_default=False)],
    output: Output = Path("scene"),
    depth_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|ID|FOLDER",
            help="Who tells depth: auto (Depth Anything V2 Small where it was fetched, else geometric), geometric (ground, walls and sky by the "
            "picture's geometry, no weights), or a network of transformers by hub id or folder.",
            show_default=False,
        ),
    ] = None,
    depth: Annotated[
        Path | None,
        typer.Option(
            help="A depth map of the photo: .npy or .exr in metres, 16-bit .png in millimetres, 8-bit .png of inverse depth.",
            show_default=False,
        ),
    ] = None,
    travel: Annotated[
        float | None,
        typer.Option(
            help="How far cameras will move, as a share of the median depth; 0.3, or 0.1 where depth is guessed.",
            show_default=False,
        ),
    ] = None,
    intrinsics: Intrinsics = None,
    max_size: MaxSize = None,
    settings: Settings = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make a scene of one photo: its depth, cut at edges, with the background continued behind them.

    What comes out is a scene folder like any other, for `sparse3d view` and `sparse3d render`.
    """
    from sparse3d.config import load_config
    from sparse3d.pipeline import lift_photo

    named = {"lift.depth_model": depth_model, "lift.depth": depth and str(depth), "photos.intrinsics": intrinsics}
    chosen = [*(settings or []), *(f"{name}={dumps(value)}" for name, value in named.items() if value is not None)]
    numbers = {"lift.travel": travel, "photos.max_size": max_size}
    chosen += [f"{name}={value}" for name, value in numbers.items() if value is not None]
    with reporter(quiet) as report:
        facts = lift_photo(single, output, load_config(assignments=chosen), report=report)
    if json:
        print_json({"scene": output, **facts})
        return
    of = facts["lift"]
    unit = "m" if of["metric"] else "of the median depth (no metric scale)"
    kind = "approximate depth" if of["approximate"] else "depth"
    note(f"{kind} by {of['depth']} (licence: {of['licence']}); focal length by {of['intrinsics']}")
    note(
        f"move up to {of['radius']:.2g} {unit}; {100 * of['invented']:.0f} % of the Gaussians are behind what the photo shows, and invented"
    )
    note(f"viewer: sparse3d view {output}")
    typer.echo(output)

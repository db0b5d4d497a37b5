"""`sparse3d hallucinate`: a scene of a single photo."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from sparse3d.cli.console import note, print_json
from sparse3d.cli.options import Json
from sparse3d.cli.progress import reporter
from sparse3d.cli.settings import Intrinsics, MaxSize, Output, Preset, Quiet, Seed, Settings


def hallucinate(
    single: Annotated[Path, typer.Option("--single", help="The photo.", show_default=False)],
    output: Output = Path("scene"),
    depth_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|ID|FOLDER",
            help="Who tells depth: auto (Depth Anything V2 Small where it was fetched, else geometric), geometric (ground, walls and sky by the "
            "picture's geometry, no weights), moge-2, depth-anything-3 (their packages; moge-2:FILE for other weights), or a network of transformers by "
            "hub id or folder.",
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
    prior: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Who draws what the photo does not show: auto (wan-vace where its weights and a GPU are here, else classical), none, classical "
            "(fills by colours from around, needs no weights), or wan-vace, svd, sana-wm, inpaint, seva as in sparse3d densify.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="ID|FOLDER", help="Weights of the prior; by default the published ones.", show_default=False
        ),
    ] = None,
    views: Annotated[int | None, typer.Option(min=1, help="How many views it draws.", show_default=False)] = None,
    preset: Preset = "balanced",
    intrinsics: Intrinsics = None,
    seed: Seed = None,
    max_size: MaxSize = None,
    settings: Settings = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make a scene of one photo: lifted by its depth, cut at edges, grown outwards by a prior, and optimized.

    What comes out is a scene folder like any other. A second run with the same photo and settings does only what is missing.
    """
    from sparse3d.config import load_config
    from sparse3d.pipeline import hallucinate as run

    named = {
        "lift.depth_model": depth_model,
        "lift.depth": depth and str(depth),
        "densify.prior": prior,
        "densify.weights": weights,
        "photos.intrinsics": intrinsics,
    }
    chosen = [*(settings or []), *(f"{name}={dumps(value)}" for name, value in named.items() if value is not None)]
    numbers = {"lift.travel": travel, "lift.views": views, "photos.max_size": max_size, "seed": seed}
    chosen += [f"{name}={value}" for name, value in numbers.items() if value is not None]
    with reporter(quiet) as report:
        facts = run(single, output, load_config(preset, chosen), report=report)
    if json:
        print_json({"scene": output, **facts})
        return
    typer.echo(output)
    if not quiet:
        _say(facts["lift"], output)


def _say(of: dict[str, Any], output: Path) -> None:
    """What the scene is made of, and how far to go."""
    unit = "m" if of["metric"] else "of the median depth (no metric scale)"
    kind = "approximate depth" if of["approximate"] else "depth"
    note(f"{kind} by {of['depth']} (licence: {of['licence']}); focal length by {of['intrinsics']}")
    note(
        f"move up to {of['radius']:.2g} {unit}; from there {100 * of['invented']:.0f} % of a picture is not in the photo, and invented"
    )
    note(f"viewer: sparse3d view {output}")

"""`sparse3d recon`: photos in, scene folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparse3d.cli.console import note, print_json
from sparse3d.cli.options import Json, Renderer
from sparse3d.cli.progress import reporter
from sparse3d.cli.settings import (
    Frames,
    Initializer,
    Inputs,
    Intrinsics,
    Matchers,
    MaxSize,
    Output,
    Poses,
    Preset,
    Prior,
    Quiet,
    Refine,
    Regularizer,
    Seed,
    Settings,
    Strict,
    Weights,
    assignments,
)


def recon(
    inputs: Inputs,
    output: Output = Path("scene"),
    preset: Preset = "balanced",
    poses: Poses = None,
    refine: Refine = False,
    intrinsics: Intrinsics = None,
    matchers: Matchers = None,
    initializer: Initializer = None,
    weights: Weights = None,
    prior: Prior = None,
    regularizer: Regularizer = None,
    max_size: MaxSize = None,
    frames: Frames = None,
    holdout: Annotated[int, typer.Option(min=0, help="Keep every Nth photo aside and measure on it. 0: none.")] = 0,
    strict: Strict = False,
    seed: Seed = None,
    renderer: Renderer = "auto",
    settings: Settings = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Reconstruct a scene from two or more photos.

    A second run with the same photos and settings does only what is missing.
    """
    from sparse3d.config import load_config
    from sparse3d.pipeline import recon as run

    chosen = assignments(
        settings,
        intrinsics=intrinsics,
        matchers=matchers,
        refine=refine,
        max_size=max_size,
        frames=frames,
        seed=seed,
        initializer=initializer,
        weights=weights,
        prior=prior,
        regularizer=regularizer,
    )
    if renderer != "auto":
        chosen.append(f"renderer={renderer}")
    config = load_config(preset, chosen)
    with reporter(quiet) as report:
        result = run(inputs, output, config, poses=poses, holdout=holdout, strict=strict, report=report)
    if json:
        print_json(vars(result))
        return
    typer.echo(result.scene)
    if not quiet:
        note(f"report: {result.scene / 'report.html'}")
        note(f"viewer: sparse3d view {result.scene}")

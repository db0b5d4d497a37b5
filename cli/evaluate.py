"""`sparse3d eval`: PSNR, SSIM and LPIPS on photos that the scene has not learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparse3d.cli.console import note, print_json
from sparse3d.cli.options import Json, Renderer, Scene


def evaluate(
    scene: Scene,
    photos: Annotated[
        Path | None,
        typer.Option(help="Folder of held-out photos; without it, those of recon --holdout.", show_default=False),
    ] = None,
    poses: Annotated[
        Path | None,
        typer.Option(help="Their cameras in the scene's frame, as for recon --poses.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for renders beside photos; not that of the photos.", show_default=False
        ),
    ] = None,
    renderer: Renderer = "auto",
    json: Json = False,
) -> None:
    """Measure a scene on held-out photos with known cameras."""
    from sparse3d.evaluate import evaluate as run
    from sparse3d.metrics.lpips import HOW_TO_GET

    result = run(scene, photos, poses, output, backend=renderer, warn=note)
    if "lpips" not in result.mean:
        note(HOW_TO_GET)
    if json:
        print_json({"mean": result.mean, "views": result.views})
        return
    for name, scores in [*result.views.items(), ("mean", result.mean)]:
        typer.echo(f"{name:<24} " + "  ".join(f"{key} {value:.3f}" for key, value in scores.items()))

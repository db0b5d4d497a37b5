"""Scores of a scene on views it has not learned from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.io.images import write_image
from sparse3d.io.views import file_names
from sparse3d.metrics.image import psnr, ssim
from sparse3d.metrics.lpips import Lpips
from sparse3d.render import Draw
from sparse3d.types import View

Scores = dict[str, float]


ALIGNED = " aligned"  # ends the names of scores from cameras that were aligned to their photos


def evaluate_views(
    draw: Draw,
    views: Sequence[View],
    folder: Path | None = None,
    lpips: Lpips | None = None,
    align: Callable[[View], View] | None = None,
) -> dict[str, Scores]:
    """PSNR, SSIM and, with its weights, LPIPS of each view.

    Where cameras were refined with the scene, those of held-out photos are not of its frame to the pixel. `align` then gives
    a second set of scores, whose names end in " aligned"; the first is that of the cameras as they are.

    Args:
        draw: Draws the scene.
        views: Held-out photos with cameras in the scene's frame.
        folder: Where the render is written beside the photo, `<stem>.png`; None writes nothing.
        lpips: The network; None leaves LPIPS out.
        align: Gives a view with its camera aligned to the scene by its photo; only for cameras that were refined.

    Returns:
        Scores by view name.
    """
    stems = file_names([view.name for view in views])
    results: dict[str, Scores] = {}
    for view in views:
        image = draw(view.cameras).image[0].clamp(0, 1)
        results[view.name] = _scores(image, view, lpips)
        if align is not None:
            image = draw(align(view).cameras).image[0].clamp(0, 1)
            results[view.name] |= {name + ALIGNED: value for name, value in _scores(image, view, lpips).items()}
        if folder is not None:
            write_image(folder / f"{stems[view.name]}.png", beside(image, view.image))
    return results


def _scores(image: Tensor, view: View, lpips: Lpips | None) -> Scores:
    scores = {"psnr": psnr(image, view.image, view.mask), "ssim": ssim(image, view.image, view.mask)}
    return scores if lpips is None else scores | {"lpips": lpips(image, view.image)}


def beside(image: Tensor, target: Tensor) -> Tensor:
    """Render left, photo right. (3, H, W) twice -> (3, H, 2 W)"""
    return torch.cat([image, target], dim=2)


def mean_scores(results: dict[str, Scores]) -> Scores:
    """Mean of each score over the views.

    Raises:
        UserError: there are no views.
    """
    if not results:
        raise UserError(
            "there are no held-out views to measure on. Give some with --photos and --poses, or run recon with --holdout 8"
        )
    names = next(iter(results.values()))
    return {name: math.fsum(scores[name] for scores in results.values()) / len(results) for name in names}

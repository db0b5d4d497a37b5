"""Scores of a scene on views it has not learned from."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def evaluate_views(
    draw: Draw, views: Sequence[View], folder: Path | None = None, lpips: Lpips | None = None
) -> dict[str, Scores]:
    """PSNR, SSIM and, with its weights, LPIPS of each view.

    Args:
        draw: Draws the scene.
        views: Held-out photos with cameras in the scene's frame.
        folder: Where the render is written beside the photo, `<stem>.png`; None writes nothing.
        lpips: The network; None leaves LPIPS out.

    Returns:
        Scores by view name.
    """
    stems = file_names([view.name for view in views])
    results: dict[str, Scores] = {}
    for view in views:
        image = draw(view.cameras).image[0].clamp(0, 1)
        results[view.name] = {"psnr": psnr(image, view.image, view.mask), "ssim": ssim(image, view.image, view.mask)}
        if lpips is not None:
            results[view.name]["lpips"] = lpips(image, view.image)
        if folder is not None:
            write_image(folder / f"{stems[view.name]}.png", beside(image, view.image))
    return results


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

"""The one way into pose estimation: photos in, undistorted posed views out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from sparse3d.config import PoseConfig
from sparse3d.geometry import fitted_size, resize_image
from sparse3d.pose import colmap
from sparse3d.pose.known import load_known
from sparse3d.progress import StageReporter
from sparse3d.types import Photo, PosedViews, View


def estimate_poses(
    photos: Sequence[Photo],
    config: PoseConfig,
    *,
    known: Path | None,
    max_size: int,
    strict: bool,
    seed: int,
    progress: StageReporter,
) -> PosedViews:
    """Undistorted views at the working size.

    Args:
        photos: At least two.
        config: Structure from motion.
        known: COLMAP model, transforms.json or scene folder with the cameras; None finds them from the photos.
        max_size: Longer side of the views that come back, pixels.
        strict: A camera of `known` without its photo, or a photo without a camera, is an error.
        seed: Of all random choices.
        progress: Told what happens.

    Raises:
        UserError: no cameras; says why and what to do.
    """
    if known is not None:
        progress.start(f"cameras from {known}")
        posed = load_known(known, photos, strict=strict, warn=progress.warning)
    else:
        posed = colmap.estimate(photos, config, seed, progress)
    return PosedViews(tuple(_resized(view, max_size) for view in posed.views), posed.points)


def _resized(view: View, max_size: int) -> View:
    size = fitted_size(view.height, view.width, max_size)
    image, K = resize_image(view.image, view.K, *size)
    mask = view.mask
    if mask is not None and size != tuple(mask.shape):
        mask = torch.nn.functional.interpolate(mask[None, None].float(), size, mode="area")[0, 0] > 0.5
    return replace(view, image=image, K=K, mask=mask)

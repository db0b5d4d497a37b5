"""A photo set whose cameras are found from the training photos alone, and its test views in the frame of what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from harness.photo_sets import Fold, PhotoSet, fitted, in_order, photo_files, true_views
from sparse3d.config import Config
from sparse3d.io.intrinsics import parse_intrinsics
from sparse3d.io.photos import load_photos
from sparse3d.metrics.pose import align_cameras
from sparse3d.pose.estimate import estimate_poses
from sparse3d.pose.report import PoseReport
from sparse3d.progress import StageReporter
from sparse3d.types import View

_SAME_FOCAL = 1e-3  # relative


def with_estimated_cameras(scene: Path, fold: Fold, size: int, config: Config) -> PhotoSet:
    """The fold with cameras as `sparse3d recon` finds them, EXIF and all.

    No photo of the test views is looked at: their true cameras come over by the best similarity of the training cameras, their
    focal length is the estimated one. What is left of errors is to be taken out against the finished scene, by
    `sparse3d.optimize.align`, as InstantSplat (arXiv:2403.20309) does.

    Args:
        scene: Folder of the set.
        fold: Its photos.
        size: Longer side of the views, pixels.
        config: `photos.intrinsics`, `pose`, `seed`.

    Raises:
        UserError: no cameras were found.
    """
    given = parse_intrinsics(config.photos.intrinsics) if config.photos.intrinsics else None
    files = photo_files(scene, fold.training)
    photos = load_photos(files, config.pose.max_size, strict=True, intrinsics=given, warn=print)
    found = estimate_poses(
        photos, config.pose, known=None, max_size=size, strict=False, seed=config.seed, progress=StageReporter("pose")
    )
    assert found.report is not None
    placed = found.views.views
    true = true_views(scene, fold)
    truth = fitted([true[view.name] for view in placed], size)
    test = fitted(in_order(true, fold.held_out), size)
    left_out = tuple(f"{photo.name}: {photo.why}" for photo in found.report.photos if not photo.placed)
    return PhotoSet(found.views, in_frame_of(placed, truth, test, found.report), truth, left_out)


def in_frame_of(
    placed: Sequence[View], truth: Sequence[View], test: Sequence[View], report: PoseReport
) -> tuple[View, ...]:
    """Test views with their true cameras moved into the frame of the estimated ones, and with the estimated focal length.

    Args:
        placed: Training views with estimated cameras, at least two.
        truth: The same with their true ones.
        test: With their true ones.
        report: What the estimate says of focal lengths.
    """
    estimated, true, others = (torch.stack([view.c2w for view in some]).double() for some in (placed, truth, test))
    moved = align_cameras(true, estimated).apply_to_cameras(others).float()
    return tuple(
        replace(view, c2w=c2w, K=_camera(view, placed[0], report)) for view, c2w in zip(test, moved, strict=True)
    )


def _camera(view: View, placed: View, report: PoseReport) -> Tensor:
    """K of a test view: the training view's, but of the lens itself where the training views were undistorted and so zoomed.

    The photos of a set have no distortion any more; what little the estimate finds is not applied to test views.
    """
    K = placed.cameras.scaled_to(view.height, view.width).K[0].clone()
    focal = max(view.height, view.width) * sum(of_camera for of_camera, _ in report.focal) / len(report.focal)
    if abs(focal / float(K[0, 0]) - 1) > _SAME_FOCAL:
        K[0, 0] = K[1, 1] = focal
    return K

"""Given cameras that are refined, and photos without a camera that are placed beside those that have one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import torch

from sparse3d.config import PoseConfig
from sparse3d.geometry import invert_rigid
from sparse3d.io._pycolmap import pycolmap
from sparse3d.io.lens import KnownCamera, Lens
from sparse3d.metrics.pose import align_cameras
from sparse3d.pose.correspondences import Correspondences, union
from sparse3d.pose.intrinsics import first_cameras
from sparse3d.pose.judge import cameras as model_cameras
from sparse3d.pose.judge import links, poses
from sparse3d.pose.known import view_of
from sparse3d.pose.ladder import matcher_names
from sparse3d.pose.mapping import Problem, extend, posed_model
from sparse3d.pose.matching import matcher
from sparse3d.pose.points import colour_points, points_of
from sparse3d.pose.refine import refine, triangulate
from sparse3d.pose.solve import hold_each_other, without
from sparse3d.pose.triangulate import as_photos
from sparse3d.pose.two_view import verify
from sparse3d.progress import StageReporter
from sparse3d.types import Photo, PosedViews

_WIDER = 3.0  # times the error up to which matches agree: given cameras may be off by a little


def adopt(
    posed: PosedViews, others: Sequence[Photo], config: PoseConfig, seed: int, progress: StageReporter
) -> PosedViews:
    """Given views and, beside them, the photos without a camera that matches can place.

    The given cameras stay where they are; with `refine_given` they are adjusted too, and the whole is brought back
    onto them by the best similarity.

    Args:
        posed: Undistorted views with given cameras, at least two.
        others: Photos without a camera, lens distortion still in them.
        config: Matchers and thresholds; `refine_given`.
        seed: Of all RANSACs.
        progress: Told what happens, and warned of photos that stay without a camera.

    Returns:
        The given views, in their order, then those that were placed; with new points.
    """
    photos = [*as_photos(posed), *others]
    given = range(len(posed.views))
    longest = [max(view.height, view.width) for view in posed.views]
    start = float(np.median([float(view.K[0, 0]) / size for view, size in zip(posed.views, longest, strict=True)]))
    cameras = first_cameras(photos, config.shared_camera, start)
    known = tuple(sorted({cameras[i].camera_id for i in given}))
    error = config.max_error * max(max(photo.image.shape[1:]) for photo in photos)
    given_model = posed_model(
        cameras, {i: invert_rigid(view.c2w.double()).numpy() for i, view in enumerate(posed.views)}
    )
    pairs = list(combinations(range(len(photos)), 2))
    parts: list[Correspondences] = []
    for name in matcher_names(config, progress):
        parts.append(matcher(name, config).match(photos, pairs, progress))
        correspondences = union(parts)
        model = triangulate(given_model, correspondences, cameras, config, _WIDER * error, seed)
        if others:
            model = _with_others(model, Problem(correspondences, cameras, {}, known), set(given), config, error, seed)
        if len(poses(model)) == len(photos):
            break
    if config.refine_given:
        model = refine(model, correspondences, cameras, config, max_error_px=error, fixed=known, rough=True, seed=seed)
        _bring_back(model, posed)
    found = poses(model)
    for index, photo in enumerate(others, start=len(posed.views)):
        if index not in found:
            progress.warning(f"{photo.name} has no given camera, and its matches place it nowhere safely; left out")
    colour_points(model, photos)
    points = points_of(model, [photo.name for photo in photos])
    return PosedViews(_views(posed, photos, model, config.refine_given), points)


def _with_others(
    model: Any, problem: Problem, given: set[int], config: PoseConfig, max_error_px: float, seed: int
) -> Any:
    """The given cameras as they are, and those of further photos that hold to them."""
    correspondences, cameras, known = problem.correspondences, problem.cameras, problem.fixed
    pairs = verify(
        correspondences,
        cameras,
        max_error_px=2 * max_error_px,
        min_inliers=config.min_inliers,
        min_ratio=config.min_ratio,
        seed=seed,
    )
    model = extend(replace(problem, pairs=pairs), model, config, seed, config.time_limit_s)
    model = refine(
        model,
        correspondences,
        cameras,
        config,
        max_error_px=max_error_px,
        fixed=known,
        still=sorted(given),
        seed=seed,
    )
    return _without_loose(model, correspondences, given, config, max_error_px)


def _without_loose(
    model: Any, correspondences: Correspondences, held: set[int], config: PoseConfig, max_error_px: float
) -> Any:
    """The model without views that do not hold to the given ones, directly or through others that do."""
    of = links(model, correspondences, max_error_px)
    loose = set(poses(model)) - held
    while True:
        joined = {
            view
            for view in loose
            if hold_each_other([link for pair, link in of.items() if view in pair and set(pair) & held], config)
        }
        if not joined:
            return without(model, loose)
        held, loose = held | joined, loose - joined


def _bring_back(model: Any, posed: PosedViews) -> None:
    """Moves a refined model so that its cameras lie on the given ones as well as they can, in place."""
    found = poses(model)
    refined = torch.stack([invert_rigid(_square(found[i])) for i in range(len(posed.views))])
    similarity = align_cameras(refined, torch.stack([view.c2w.double() for view in posed.views]))
    colmap = pycolmap()
    model.transform(
        colmap.Sim3d(similarity.scale, colmap.Rotation3d(similarity.rotation.numpy()), similarity.translation.numpy())
    )


def _views(posed: PosedViews, photos: Sequence[Photo], model: Any, refined: bool) -> tuple[Any, ...]:
    found, lenses = poses(model), model_cameras(model)
    views = []
    for index, photo in enumerate(photos):
        given = index < len(posed.views)
        if given and not refined:
            views.append(posed.views[index])
        elif index in found:
            camera = lenses[index]
            lens = Lens(camera.model.name, tuple(camera.params), camera.height, camera.width)
            c2w = invert_rigid(_square(found[index]))
            views.append(view_of(photo, KnownCamera(photo.name, lens, c2w), "the reconstruction"))
    return tuple(views)


def _square(w2c: np.ndarray) -> torch.Tensor:
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3] = torch.from_numpy(np.array(w2c))
    return pose

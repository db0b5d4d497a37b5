"""Sparse points for cameras that came without any."""

from __future__ import annotations

from itertools import combinations

from sparse3d.config import PoseConfig
from sparse3d.geometry import invert_rigid
from sparse3d.pose.intrinsics import first_cameras
from sparse3d.pose.mapping import posed_model
from sparse3d.pose.matching import matcher
from sparse3d.pose.points import colour_points, points_of
from sparse3d.pose.refine import triangulate as triangulate_model
from sparse3d.progress import StageReporter
from sparse3d.types import Photo, Points, PosedViews

_WIDER = 2.0  # times the error up to which matches agree: given cameras may be off by a little


def triangulate(
    posed: PosedViews, config: PoseConfig, seed: int, progress: StageReporter = StageReporter("pose")
) -> Points:
    """Points matched between views (SIFT) and triangulated with their cameras held fixed, through COLMAP.

    Args:
        posed: At least two views; their own points are not used.
        config: Features and matching.
        seed: Of all RANSACs.
        progress: Told what happens.

    Returns:
        Points in the frame of the cameras; none where nothing matches.
    """
    photos = as_photos(posed)
    cameras = first_cameras(photos, shared=False, start=1.0)
    pairs = list(combinations(range(len(photos)), 2))
    correspondences = matcher("sift", config).match(photos, pairs, progress)
    model = posed_model(cameras, {i: invert_rigid(view.c2w.double()).numpy() for i, view in enumerate(posed.views)})
    error = _WIDER * config.max_error * max(max(view.height, view.width) for view in posed.views)
    model = triangulate_model(model, correspondences, cameras, config, error, seed)
    colour_points(model, photos)
    return points_of(model, posed.names)


def as_photos(posed: PosedViews) -> list[Photo]:
    """Undistorted views as photos whose intrinsics are known."""
    return [Photo(view.name, view.image, view.K, "given", view.name, view.mask) for view in posed.views]

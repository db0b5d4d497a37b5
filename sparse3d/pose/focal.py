"""Where focal lengths start, for photos that do not say theirs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparse3d.config import PoseConfig
from sparse3d.io._pycolmap import pycolmap
from sparse3d.pose.correspondences import Correspondences, Pair
from sparse3d.pose.intrinsics import first_cameras
from sparse3d.pose.mapping import Problem, write_database
from sparse3d.pose.two_view import TwoView
from sparse3d.types import Photo

RATIOS = (0.85, 1.4, 0.6)  # focal length over longer side where the pairs do not tell: 61, 39 and 80 degrees of view
_PAIRS = 10  # with most matches that are asked
_MATCHES = 800  # of each at most, evenly taken


def start_ratios(
    photos: Sequence[Photo], correspondences: Correspondences, config: PoseConfig, max_error_px: float, seed: int
) -> tuple[float, ...]:
    """Focal lengths over the longer side to start from, best first: what the view graph says, then the usual ones.

    Fundamental matrices of the pairs bind the focal length (Sweeney et al. 2015, Optimizing the Viewing Graph for
    Structure-from-Motion; pycolmap.calibrate_view_graph).
    """
    if all(photo.intrinsics != "default" for photo in photos):
        return RATIOS[:1]  # not used
    cameras = first_cameras(photos, config.shared_camera, RATIOS[0])
    pairs = _fundamental(correspondences, cameras, config.min_inliers, max_error_px, seed)
    if not pairs:
        return RATIOS
    options = pycolmap().ViewGraphCalibrationOptions()
    options.random_seed = seed
    with tempfile.TemporaryDirectory(prefix="sparse3d-focal-") as temporary:
        path = Path(temporary) / "d.db"
        write_database(path, Problem(correspondences, cameras, pairs))
        if not pycolmap().calibrate_view_graph(path, options):
            return RATIOS
        database = pycolmap().Database.open(str(path))
        try:
            found = {camera.camera_id: camera for camera in database.read_all_cameras()}
        finally:
            database.close()
    guessed = {cameras[i].camera_id for i, photo in enumerate(photos) if photo.intrinsics == "default"}
    ratio = float(
        np.median([found[key].mean_focal_length() / max(found[key].width, found[key].height) for key in guessed])
    )
    if not 1 / config.max_focal_ratio < ratio < config.max_focal_ratio:
        return RATIOS
    return (ratio, *RATIOS)


def _fundamental(
    correspondences: Correspondences, cameras: Sequence[Any], min_inliers: int, max_error_px: float, seed: int
) -> dict[Pair, TwoView]:
    """Pairs with a fundamental matrix, of a sample of their matches."""
    colmap = pycolmap()
    options = colmap.TwoViewGeometryOptions()
    options.min_num_inliers = min_inliers
    options.ransac.max_error = max_error_px
    options.ransac.random_seed = seed
    options.compute_relative_pose = True
    found = {}
    for pair in sorted(correspondences.matches, key=lambda pair: -correspondences.count(pair))[:_PAIRS]:
        a, b = pair
        matched = correspondences.matches[pair]
        if len(matched) < min_inliers:
            continue
        matched = matched[np.unique(np.linspace(0, len(matched) - 1, _MATCHES).round().astype(int))]
        geometry = colmap.estimate_two_view_geometry(
            cameras[a],
            correspondences.keypoints[a],
            cameras[b],
            correspondences.keypoints[b],
            matched.astype(np.uint32),
            options,
        )
        inliers = np.asarray(geometry.inlier_matches, dtype=np.int64).reshape(-1, 2)
        if len(inliers) >= min_inliers:
            found[pair] = TwoView(inliers, len(matched), "general", float(np.degrees(geometry.tri_angle)), geometry)
    return found

"""What two photos alone say of their relative pose: essential matrix, parallax, and whether one plane explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sparse3d.io._pycolmap import pycolmap
from sparse3d.pose.correspondences import Correspondences, Pair

Kind = Literal["general", "planar", "rotation"]

_SIMPLE_SHARE = 0.85  # inliers that a homography, or a rotation alone, explains too, from which the pair is one


@dataclass(frozen=True)
class TwoView:
    """The geometry of a verified pair."""

    inliers: np.ndarray  # (K, 2) indices of keypoints, as in Correspondences.matches
    putative: int  # matches before verification
    kind: Kind
    angle_deg: float  # median triangulation angle of the inliers
    geometry: Any  # pycolmap.TwoViewGeometry, calibrated

    @property
    def ratio(self) -> float:
        """Inliers among the putative matches."""
        return len(self.inliers) / max(self.putative, 1)


def verify(
    correspondences: Correspondences,
    cameras: Sequence[Any],
    *,
    max_error_px: float,
    min_inliers: int,
    min_ratio: float,
    seed: int,
    pairs: Sequence[Pair] | None = None,
) -> dict[Pair, TwoView]:
    """Pairs whose matches fit one essential matrix.

    The five-point method in LO-RANSAC (pycolmap). A wrong focal length bends the pose and costs few inliers, so the
    result is as good as the cameras: verify again when they are known better.

    Args:
        correspondences: Of V photos.
        cameras: V pycolmap cameras, pixels of the photos.
        max_error_px: Inliers are closer to their epipolar line.
        min_inliers, min_ratio: What a pair needs to be kept.
        seed: Of RANSAC.
        pairs: Only these; all when left out.
    """
    found = {}
    for pair in correspondences.matches if pairs is None else pairs:
        if correspondences.count(pair) >= max(min_inliers, 5):
            result = _two_view(correspondences, pair, cameras[pair[0]], cameras[pair[1]], max_error_px, seed)
            if result is not None and len(result.inliers) >= min_inliers and result.ratio >= min_ratio:
                found[pair] = result
    return found


def _ransac(max_error_px: float, seed: int) -> Any:
    options = pycolmap().RANSACOptions()
    options.max_error = max_error_px
    options.min_inlier_ratio = 0.15
    options.confidence = 0.9999
    options.min_num_trials = 300
    options.max_num_trials = 10_000
    options.random_seed = seed
    return options


def _two_view(
    correspondences: Correspondences, pair: Pair, first: Any, second: Any, max_error_px: float, seed: int
) -> TwoView | None:
    colmap = pycolmap()
    matched = correspondences.matches[pair]
    a, b = correspondences.points(pair)
    essential = colmap.estimate_essential_matrix(a, b, first, second, _ransac(max_error_px, seed))
    if essential is None:
        return None
    inlier = np.asarray(essential["inlier_mask"], dtype=bool)
    geometry = colmap.TwoViewGeometry()
    geometry.config = colmap.TwoViewGeometryConfiguration.CALIBRATED
    geometry.E = essential["E"]
    geometry.inlier_matches = matched[inlier].astype(np.uint32)
    keypoints = correspondences.keypoints
    if not colmap.estimate_two_view_geometry_pose(first, keypoints[pair[0]], second, keypoints[pair[1]], geometry):
        return None
    return TwoView(
        matched[inlier],
        len(matched),
        _kind(a[inlier], b[inlier], first, second, max_error_px, seed),
        float(np.degrees(geometry.tri_angle)),
        geometry,
    )


def _kind(a: np.ndarray, b: np.ndarray, first: Any, second: Any, max_error_px: float, seed: int) -> Kind:
    """Whether something simpler than an essential matrix explains its inliers, whose pose is then in doubt."""
    homography = pycolmap().estimate_homography_matrix(a, b, _ransac(2 * max_error_px, seed))
    if homography is None or homography["num_inliers"] < _SIMPLE_SHARE * len(a):
        return "general"
    mask = np.asarray(homography["inlier_mask"], dtype=bool)
    rays_a, rays_b = (_directions(*of) for of in ((first, a), (second, b)))
    u, _, vt = np.linalg.svd(rays_b[mask].T @ rays_a[mask])  # Kabsch: the rotation that brings the rays together
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    apart = np.linalg.norm(rays_a @ rotation.T - rays_b, axis=1) * second.mean_focal_length()
    return "rotation" if (apart < 2 * max_error_px).mean() >= _SIMPLE_SHARE else "planar"


def _directions(camera: Any, pixels: np.ndarray) -> np.ndarray:
    rays = np.concatenate([np.asarray(camera.cam_from_img(pixels)), np.ones((len(pixels), 1))], axis=1)
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)

"""How well a reconstruction explains the matches, and which of its views are held well enough to be believed.

A wrong pose is worse than none: what a mapper registers is only a proposal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparse3d.pose.correspondences import Correspondences, Pair
from sparse3d.pose.mapping import image_index


@dataclass(frozen=True)
class Link:
    """How one pair of registered views agrees with the reconstruction."""

    consistent: np.ndarray  # (M,) bool: within the error of the epipolar line and before both cameras
    sure: float  # sum of the scores of the consistent matches
    gain: float  # sum over matches of 1 - (error / max_error)^2, none below 0

    @property
    def count(self) -> int:
        """Consistent matches."""
        return int(self.consistent.sum())


def poses(model: Any) -> dict[int, np.ndarray]:
    """World to camera of the registered photos by index, (3, 4) each."""
    return {
        image_index(model.image(i).name): np.asarray(model.image(i).cam_from_world().matrix())
        for i in model.reg_image_ids()
    }


def cameras(model: Any) -> dict[int, Any]:
    """Cameras of the registered photos by index."""
    return {image_index(model.image(i).name): model.image(i).camera for i in model.reg_image_ids()}


def links(model: Any, correspondences: Correspondences, max_error_px: float) -> dict[Pair, Link]:
    """Every compared pair of registered views held against the model's cameras; by matches, not by the model's points.

    Points are made by what a mapper believed; putative matches are the same for all models, so their gain compares
    models, as MSAC compares poses (Torr and Zisserman 2000).
    """
    pose, camera = poses(model), cameras(model)
    found = {}
    for pair in correspondences.matches:
        a, b = pair
        if a in pose and b in pose and correspondences.count(pair):
            error = _errors(*correspondences.points(pair), camera[a], camera[b], pose[a], pose[b])
            good = error < max_error_px
            found[pair] = Link(
                good,
                float(correspondences.scores[pair][good].sum()),
                float(np.maximum(0.0, 1 - (error / max_error_px) ** 2).sum()),
            )
    return found


def total_gain(of: Mapping[Pair, Link]) -> float:
    """Over all pairs."""
    return sum(link.gain for link in of.values())


def _errors(
    a: np.ndarray, b: np.ndarray, first: Any, second: Any, pose_a: np.ndarray, pose_b: np.ndarray
) -> np.ndarray:
    """Sampson error of matches, pixels, infinite behind a camera. (M,)"""
    R = pose_b[:, :3] @ pose_a[:, :3].T
    t = pose_b[:, 3] - R @ pose_a[:, 3]
    rays_a = _rays(first, a)
    rays_b = _rays(second, b)
    # Sampson error of x_b^T [t]x R x_a, in pixels of the mean focal length
    E = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]]) @ R
    E /= max(float(np.linalg.norm(t)), 1e-12)
    line_b, line_a = rays_a @ E.T, rays_b @ E
    residual = (rays_b * line_b).sum(1)
    norm = (line_a[:, :2] ** 2).sum(1) + (line_b[:, :2] ** 2).sum(1)
    focal = (first.mean_focal_length() + second.mean_focal_length()) / 2
    with np.errstate(invalid="ignore"):
        error = np.abs(residual) / np.sqrt(np.maximum(norm, 1e-24)) * focal
    error = np.where(np.isfinite(error), error, np.inf)
    # depths along both rays by least squares: positive where the point is before the cameras
    turned = rays_a @ R.T
    aa, bb, ab = (turned**2).sum(1), (rays_b**2).sum(1), (turned * rays_b).sum(1)
    at, bt = turned @ t, rays_b @ t
    determinant = np.maximum(aa * bb - ab**2, 1e-18)
    before = (ab * bt - bb * at > 0) & (aa * bt - ab * at > 0) & (determinant > 1e-17)
    return np.where(before, error, np.inf)


def _rays(camera: Any, pixels: np.ndarray) -> np.ndarray:
    plane = np.asarray(camera.cam_from_img(np.ascontiguousarray(pixels, dtype=np.float64)))
    return np.concatenate([plane, np.ones((len(plane), 1))], axis=1)

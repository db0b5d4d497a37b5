"""Cameras and points made by formulas, what a matcher would see of them, and how well that can be solved at best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from sparse3d.config import PoseConfig
from sparse3d.io._pycolmap import pycolmap
from sparse3d.pose.budget import Budget
from sparse3d.pose.correspondences import Correspondences
from sparse3d.pose.judge import poses
from sparse3d.pose.solve import Solution, solve

WIDTH, HEIGHT = 1008, 756
MAX_ERROR_PX = PoseConfig().max_error * WIDTH

Array = np.ndarray


@dataclass(frozen=True)
class Truth:
    """V pinhole cameras, alike, and P points that all may see."""

    w2c: Array  # (V, 4, 4)
    points: Array  # (P, 3)
    focal: float = 0.85 * WIDTH  # pixels

    def seen(self, view: int) -> tuple[Array, Array]:
        """Pixels of all points in a view, and which of them lie in the picture. (P, 2), (P,)"""
        local = self.points @ self.w2c[view, :3, :3].T + self.w2c[view, :3, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = self.focal * local[:, :2] / local[:, 2:] + np.array([WIDTH, HEIGHT]) / 2
        inside = (pixels >= 0).all(1) & (pixels[:, 0] < WIDTH) & (pixels[:, 1] < HEIGHT) & (local[:, 2] > 0)
        return pixels, inside


def looking_at(target: Array, centre: Array, roll_deg: float = 0.0) -> Array:
    """World to camera of a camera at `centre` that looks at `target`, the world's y down. (4, 4)"""
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    angle = np.radians(roll_deg)
    down = np.cross(forward, right)
    axes = np.stack(
        [np.cos(angle) * right + np.sin(angle) * down, np.cos(angle) * down - np.sin(angle) * right, forward]
    )
    w2c = np.eye(4)
    w2c[:3, :3], w2c[:3, 3] = axes, -axes @ centre
    return w2c


def arc(views: int, step_deg: float = 15.0, seed: int = 0) -> Array:
    """Cameras 6 units from the origin, around it by `step_deg` each, up and down, near and far by a little. (V, 4, 4)"""
    rng = np.random.default_rng(seed)
    made = []
    for view in range(views):
        angle = np.radians(step_deg * (view - (views - 1) / 2))
        centre = 6 * np.array([np.sin(angle), 0, -np.cos(angle)]) + rng.uniform(-0.7, 0.7, 3)
        made.append(looking_at(rng.uniform(-0.2, 0.2, 3), centre, rng.uniform(-8, 8)))
    return np.stack(made)


def room(views: int, points: int = 150, step_deg: float = 15.0, seed: int = 0, focal: float = 0.85) -> Truth:
    """Cameras on an arc around points in a box as deep as wide; `focal` over the longer side."""
    rng = np.random.default_rng(100 + seed)
    scale = 0.85 / focal  # a longer lens sees less: the box shrinks with its view
    return Truth(
        arc(views, step_deg, seed), rng.uniform(-1, 1, (points, 3)) * [2.2 * scale, 1.6 * scale, 1.8], focal * WIDTH
    )


def matched(
    truth: Truth,
    *,
    noise_px: float = 0.5,
    outliers: float = 0.3,
    score: float = 0.8,
    seed: int = 0,
    sees: Callable[[int, int], bool] = lambda a, b: True,
) -> Correspondences:
    """What a matcher would give: every point seen by both views of a pair, and random pairs of positions besides.

    Args:
        truth: Cameras and points.
        noise_px: Standard deviation of each keypoint, per axis; a keypoint is the same one in all pairs.
        outliers: Share of the random ones among all matches of a pair.
        score: Of every match.
        seed: Of noise and outliers.
        sees: Which pairs are matched at all.
    """
    rng = np.random.default_rng(seed)
    views = len(truth.w2c)
    projected = [truth.seen(view) for view in range(views)]
    keypoints = [[pixels + rng.normal(0, noise_px, pixels.shape)] for pixels, _ in projected]
    count = [len(truth.points)] * views
    matches = {}
    for a, b in combinations(range(views), 2):
        if sees(a, b):
            both = np.flatnonzero(projected[a][1] & projected[b][1])
            false = round(len(both) * outliers / (1 - outliers))
            added = []
            for view in (a, b):
                keypoints[view].append(rng.uniform(0, 1, (false, 2)) * [WIDTH, HEIGHT])
                added.append(np.arange(count[view], count[view] + false))
                count[view] += false
            matches[a, b] = np.concatenate([np.stack([both, both], axis=1), np.stack(added, axis=1)])
    scores = {pair: np.full(len(found), score) for pair, found in matches.items()}
    return Correspondences(tuple(np.concatenate(parts) for parts in keypoints), matches, scores)


def camera(focal_px: float, key: int = 1, prior: bool = False) -> Any:
    """A pycolmap camera with the principal point at the centre."""
    made = pycolmap().Camera(
        camera_id=key, model="SIMPLE_PINHOLE", width=WIDTH, height=HEIGHT, params=[focal_px, WIDTH / 2, HEIGHT / 2]
    )
    made.has_prior_focal_length = prior
    return made


def solved(
    correspondences: Correspondences, cameras: Sequence[Any], fixed: Sequence[int] = (), seed: int = 0, **settings: Any
) -> Solution:
    """`solve` with the defaults and a minute."""
    return solve(
        correspondences,
        cameras,
        PoseConfig(**settings),
        max_error_px=MAX_ERROR_PX,
        fixed=fixed,
        seed=seed,
        budget=Budget(60),
    )


def angle_deg(a: Array, b: Array) -> float:
    """Between two directions; exact for small ones too."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


def turn_deg(rotation: Array) -> float:
    """The angle of a rotation; exact for small ones too."""
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    return float(np.degrees(np.arctan2(np.linalg.norm(axis) / 2, (np.trace(rotation) - 1) / 2)))


def relative(pose: Array, first: Array) -> tuple[Array, Array]:
    """Rotation from `first` to `pose`, and where `pose` stands as `first` sees it. (3, 3), (3,)"""
    centre = -pose[:3, :3].T @ pose[:3, 3]
    return pose[:3, :3] @ first[:3, :3].T, first[:3, :3] @ centre + first[:3, 3]


def errors_of(model: Any, truth: Truth) -> dict[tuple[int, int], tuple[float, float]]:
    """Rotation and direction error of each ordered pair of placed views, degrees; free of frame and scale."""
    found = poses(model)
    errors = {}
    for a in found:
        for b in found:
            if a != b:
                R, way = relative(found[b], found[a])
                true_R, true_way = relative(truth.w2c[b], truth.w2c[a])
                errors[a, b] = turn_deg(R.T @ true_R), angle_deg(way, true_way)
    return errors


@dataclass(frozen=True)
class Bound:
    """Standard deviations relative to view 0 that no unbiased estimate from the same keypoints undercuts."""

    rotation_deg: Array  # (V,)
    direction_deg: Array  # (V,)
    focal_px: float  # 0 when it is known


def cramer_rao(truth: Truth, noise_px: float, open_focal: bool) -> Bound:
    """The Cramér-Rao bound of poses, points and one focal length, of all points that two views or more see.

    Fisher information J^T J / noise^2 of the projection f (y1 / y3, y2 / y3), y = exp(w) R X + t; the points are
    eliminated (Schur complement), view 0 is held, and the weakest direction, which is the scale, is left out.
    """
    views = len(truth.w2c)
    seen = np.stack([truth.seen(view)[1] for view in range(views)])
    size = 6 * views + 1
    information = np.zeros((size, size))
    for p in np.flatnonzero(seen.sum(0) >= 2):
        J_camera, J_point = [], []
        for view in np.flatnonzero(seen[:, p]):
            R, t = truth.w2c[view, :3, :3], truth.w2c[view, :3, 3]
            turned = R @ truth.points[p]
            y = turned + t
            J_y = truth.focal / y[2] * np.array([[1, 0, -y[0] / y[2]], [0, 1, -y[1] / y[2]]])
            row = np.zeros((2, size))
            row[:, 6 * view : 6 * view + 3] = -J_y @ cross(turned)
            row[:, 6 * view + 3 : 6 * view + 6] = J_y
            row[:, -1] = truth.focal * y[:2] / y[2]  # by the focal length's logarithm
            J_camera.append(row)
            J_point.append(J_y @ R)
        A, B = np.concatenate(J_camera), np.concatenate(J_point)
        information += A.T @ A - A.T @ B @ np.linalg.solve(B.T @ B, B.T @ A)
    kept = np.arange(6, size if open_focal else size - 1)
    covariance = np.zeros((size, size))
    strength, along = np.linalg.eigh(information[np.ix_(kept, kept)])
    if not strength[1] > 1e-6 * strength[-1] > 1e3 * strength[0]:
        raise ValueError(f"more than the scale is open: {strength[:3]} of {strength[-1]}")
    covariance[np.ix_(kept, kept)] = (along[:, 1:] / strength[1:]) @ along[:, 1:].T * noise_px**2
    rotation, direction = np.zeros(views), np.zeros(views)
    for view in range(1, views):
        own = covariance[6 * view : 6 * view + 6, 6 * view : 6 * view + 6]
        rotation[view] = np.degrees(np.sqrt(np.trace(own[:3, :3])))
        R, t = truth.w2c[view, :3, :3], truth.w2c[view, :3, 3]
        # centre -R^T exp(-w) t: it moves by R^T [t]x^T w = -R^T (t x w) ... and by -R^T dt
        J = np.concatenate([-R.T @ cross(t), -R.T], axis=1)
        centre = -R.T @ t + truth.w2c[0, :3, :3].T @ truth.w2c[0, :3, 3]
        length = np.linalg.norm(centre)
        across = np.eye(3) - np.outer(centre, centre) / length**2
        direction[view] = np.degrees(np.sqrt(np.trace(across @ J @ own @ J.T @ across))) / length
    return Bound(rotation, direction, truth.focal * float(np.sqrt(covariance[-1, -1])))


def cross(v: Array) -> Array:
    """[v]x, the matrix of the cross product. (3, 3)"""
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])

"""Which views to compare with which, and between which depths to look."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse3d.config import InitConfig
from sparse3d.errors import UserError
from sparse3d.geometry import scene_extent
from sparse3d.init.sfm import MAX_ERROR_PX
from sparse3d.types import Points, PosedViews, View

_BEST_ANGLE_DEG = 7.0  # triangulation angle that matches best: wide enough for depth, narrow enough to look alike


def surroundings(views: PosedViews, config: InitConfig) -> tuple[list[list[int]], list[tuple[float, float]]]:
    """For each view the others to compare it with, best first, and the nearest and farthest depth to look at, world units.

    Points with a large reprojection error have no say. Errors as of `depth_range`.
    """
    points = views.points.within(MAX_ERROR_PX)
    extent = scene_extent(torch.stack([view.c2w for view in views.views]))
    ranges = [depth_range(view, points, config.near, config.far, extent) for view in views.views]
    return choose_sources(PosedViews(views.views, points), config.sources), ranges


def choose_sources(views: PosedViews, count: int) -> list[list[int]]:
    """The views to compare each view with, best first.

    Shared points vote with a weight that peaks at a triangulation angle of 7 degrees (MVSNet, arXiv:1804.02505,
    supplementary: piecewise Gaussian with sigma 3 below and 10 above). Views without shared points follow by the angle between
    their optical axes, up to 60 degrees.

    Args:
        views: V views.
        count: At most so many sources for each.

    Returns:
        V lists of indices.
    """
    c2w = torch.stack([view.c2w for view in views.views])
    centres, axes = c2w[:, :3, 3], c2w[:, :3, 2]
    scores = _shared_point_scores(views, centres)
    axis_angle = torch.rad2deg(torch.acos((axes @ axes.T).clamp(-1, 1)))
    distance = (centres[:, None] - centres).norm(dim=-1)  # cdist would lose small ones far from the origin
    usable = (axis_angle < 60) & (distance > 1e-9)
    # without points: an order among usable views that prefers near directions, always below any shared point
    fallback = torch.where(usable, 1e-6 / (1 + axis_angle), torch.zeros_like(scores))
    scores = torch.where(scores > 0, scores, fallback)
    scores.fill_diagonal_(0)
    return [[int(j) for j in row.argsort(descending=True)[:count] if row[j] > 0] for row in scores]


def _shared_point_scores(views: PosedViews, centres: Tensor) -> Tensor:
    """(V, V) sum over shared points of the angle weight."""
    index = {name: i for i, name in enumerate(views.names)}
    count = len(views.views)
    sees = torch.zeros(count, len(views.points), dtype=torch.bool)
    for point, track in enumerate(views.points.tracks):
        for name in track:
            if name in index:
                sees[index[name], point] = True
    scores = torch.zeros(count, count)
    if len(views.points) == 0:
        return scores
    rays = torch.nn.functional.normalize(views.points.xyz[None] - centres[:, None], dim=-1)  # (V, P, 3)
    for i in range(count):
        for j in range(i + 1, count):
            both = sees[i] & sees[j]
            if both.any():
                angle = torch.rad2deg(torch.acos((rays[i, both] * rays[j, both]).sum(-1).clamp(-1, 1)))
                sigma = torch.where(angle < _BEST_ANGLE_DEG, 3.0, 10.0)
                scores[i, j] = scores[j, i] = torch.exp(-((angle - _BEST_ANGLE_DEG) ** 2) / (2 * sigma**2)).sum()
    return scores


def depth_range(
    view: View, points: Points, near: float | None, far: float | None, rig_extent: float
) -> tuple[float, float]:
    """Nearest and farthest depth worth looking at from a view.

    From the points that the view sees (all points in front of it when it sees fewer than 8): the 1 % and 99 %
    quantiles of their depth, widened by a third on both sides, as sparse points seldom sit on the extremes. Without points: half to a
    hundred times the extent of the camera rig.

    Args:
        view: The view.
        points: Sparse points.
        near, far: Given by the user, world units; each wins over what is found.
        rig_extent: World units.

    Raises:
        UserError: the user's range is empty.
    """
    seen = torch.tensor([view.name in track for track in points.tracks], dtype=torch.bool)
    w2c = view.cameras.w2c[0]
    depths = points.xyz @ w2c[2, :3] + w2c[2, 3] if len(points) else torch.zeros(0)
    chosen = depths[seen & (depths > 0)] if int(seen.sum()) >= 8 else depths[depths > 0]
    if len(chosen) >= 8:
        low, high = torch.quantile(chosen, torch.tensor([0.01, 0.99])).tolist()
        found = low / 1.33, high * 1.33
    else:
        found = 0.5 * rig_extent, 100 * rig_extent
    chosen_near = found[0] if near is None else near
    chosen_far = found[1] if far is None else far
    if not 0 < chosen_near < chosen_far:
        raise UserError(
            f"depth range [{chosen_near:g}, {chosen_far:g}] of view {view.name} is empty or behind the camera. Set init.near and "
            "init.far so that 0 < near < far, or leave both out to read them from the sparse points"
        )
    return chosen_near, chosen_far

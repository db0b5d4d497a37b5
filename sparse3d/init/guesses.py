"""Gaussians where no depth was found but colour exists: sky, plain walls, what only one view sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse3d.init.depth_map import DepthMap, block_size, world_points
from sparse3d.init.sfm import round_gaussians
from sparse3d.init.surfels import block_colors
from sparse3d.init.visibility import looked_through, seen_differently
from sparse3d.io._pycolmap import cv2
from sparse3d.push_pull import block_means, push_pull
from sparse3d.types import Gaussians

_SIGMA = 0.6  # standard deviation, in distances to the next Gaussian
_OPACITY = 0.5
_LARGE_HOLE = 0.02  # of the picture


def guesses(found: DepthMap, others: Sequence[DepthMap], stride: int, tolerance: float) -> Gaussians:
    """Round Gaussians in the holes of a depth map: at the depth that `completed` gives them, or at the far end.

    The far end takes those that another view contradicts at the nearer place, because it looks through there or shows
    another colour, if their hole is large: a shell of sky and background. In small holes, and where views look through the far end
    too, they are left out.

    Args:
        found: A view's depth map.
        others: Those of the other views.
        stride: One for each block of stride x stride pixels of which more than half have no depth.
        tolerance: Relative difference of depths that still agree.

    Returns:
        Gaussians of SH degree 0 and opacity 0.5; none where the view's mask is False.
    """
    view = found.view
    mask = torch.ones_like(found.depth) if view.mask is None else view.mask.float()
    chosen = block_means(((found.depth == 0) * mask)[None], stride)[0] > 0.5
    color = block_colors(view.image, stride)[chosen]
    depth = 1 / block_means(1 / completed(found)[None], stride)[0]
    near, far = (world_points(view, z, stride)[chosen] for z in (depth, torch.full_like(depth, found.far)))
    moved = looked_through(near, others, tolerance) | seen_differently(near, color, others, tolerance)
    kept = ~moved | (_in_large_hole(chosen) & ~looked_through(far, others, tolerance))
    points = torch.where(moved[:, None], far, near)
    size = _SIGMA * block_size(view, stride) * torch.where(moved, found.far, depth[chosen])
    return round_gaussians(points, size, _OPACITY, color)[kept]


def _in_large_hole(empty: Tensor) -> Tensor:
    """Which empty blocks lie in a connected hole of more than a fiftieth of the picture. (rows, columns) bool -> (P,) bool"""
    _, labels, stats, _ = cv2().connectedComponentsWithStats(empty.numpy().astype("uint8"), connectivity=8)
    sizes = torch.from_numpy(stats[:, cv2().CC_STAT_AREA].copy())
    return (sizes > _LARGE_HOLE * empty.numel())[torch.from_numpy(labels).long()][empty]


def completed(found: DepthMap) -> Tensor:
    """Depth at every pixel: the known one where there is one, elsewhere that of what lies around, the smoother the farther off.

    Inverse depth by push and pull.

    Args:
        found: A view's depth map.

    Returns:
        (H, W) world units; the far end everywhere in a view without any depth.
    """
    known = (found.depth > 0).float()
    if not known.any():
        return torch.full_like(found.depth, found.far)
    inverse = torch.where(found.depth > 0, 1 / found.depth.clamp(min=1e-12), 0.0)
    return 1 / push_pull(inverse[None], known)[0].clamp(min=1 / found.far)

"""What the depth maps of other views say of points in the world."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.init.depth_map import DepthMap, sampled

_BLUR = 5  # pixels, odd: colours are compared at the middle of so many, for points are off by a few
_OTHER_COLOR = 0.15  # difference of one channel at which two colours are not the same thing


def looked_through(points: Tensor, maps: Sequence[DepthMap], tolerance: float) -> Tensor:
    """Which points stand before what another view sees and others confirm: nothing can be there. (P, 3) -> (P,) bool"""
    through = torch.zeros(len(points), dtype=torch.bool)
    for found in maps:
        there, z = sampled(found.depth * (found.support > 0), found.view, points)
        through |= (there > 0) & (z > 0) & (z < there * (1 - tolerance))
    return through


def settled(points: Tensor, maps: Sequence[DepthMap], tolerance: float) -> Tensor:
    """Which points lie where some view already has a depth, at it or before it. (P, 3) -> (P,) bool"""
    known = torch.zeros(len(points), dtype=torch.bool)
    for found in maps:
        there, z = sampled(found.depth, found.view, points)
        known |= (there > 0) & (z > 0) & (z < there * (1 + tolerance))
    return known


def seen_differently(points: Tensor, colors: Tensor, maps: Sequence[DepthMap], tolerance: float) -> Tensor:
    """Which points another view shows in another colour, where nothing that it knows hides them. (P, 3), (P, 3) -> (P,) bool"""
    different = torch.zeros(len(points), dtype=torch.bool)
    for found in maps:
        there, z = sampled(found.depth, found.view, points)
        inside, _ = sampled(torch.ones_like(found.depth), found.view, points)
        hidden = (there > 0) & (z > there * (1 + tolerance))
        smooth = F.avg_pool2d(found.view.image[None], _BLUR, 1, _BLUR // 2, count_include_pad=False)[0]
        shown = torch.stack([sampled(channel, found.view, points)[0] for channel in smooth], dim=1)
        different |= (inside > 0) & ~hidden & ((shown - colors).abs().amax(dim=1) > _OTHER_COLOR)
    return different

"""Depth maps to Gaussians: one for each block of pixels, what several views agree on only once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.config import InitConfig
from sparse3d.init.planesweep import DepthMap, sampled, world_points
from sparse3d.init.sfm import sh_from_rgb
from sparse3d.types import Gaussians

_AGREED_OPACITY = 0.7
_LONE_OPACITY = 0.25
_SIGMA = 0.6  # standard deviation of a Gaussian, in distances to the next one


def from_depth_maps(maps: Sequence[DepthMap], config: InitConfig) -> Gaussians:
    """Gaussians on the surfaces of depth maps.

    A depth that another view confirms is taken at a high opacity; one that only its own view saw, if it matched well
    enough, at a low one, for the optimizer to keep or drop. A surface that an earlier view already covers as finely is not repeated.

    Args:
        maps: Depth maps with their views.
        config: `stride`, `min_score` and `consistency`.

    Returns:
        Round Gaussians of SH degree 0.
    """
    means, radii, colors, opacities = [], [], [], []
    taken: list[DepthMap] = []
    for current in maps:
        points, size, color, support, score = _blocks(current, config.stride)
        keep = (size > 0) & ((support > 0) | (score >= config.min_score))
        points, size, color, support = points[keep], size[keep], color[keep], support[keep]
        fresh = ~_covered(points, size, support, taken, config)
        taken.append(current)
        means.append(points[fresh])
        radii.append(size[fresh])
        colors.append(color[fresh])
        opacities.append(torch.where(support[fresh] > 0, _AGREED_OPACITY, _LONE_OPACITY))
    centres = torch.cat(means) if means else torch.zeros(0, 3)
    quats = torch.zeros(len(centres), 4)
    quats[:, 0] = 1.0
    log_scales = (_SIGMA * torch.cat(radii)).log()[:, None].expand(-1, 3).contiguous() if means else torch.zeros(0, 3)
    logits = torch.logit(torch.cat(opacities)) if means else torch.zeros(0)
    return Gaussians(centres, quats, log_scales, logits, sh_from_rgb(torch.cat(colors) if means else torch.zeros(0, 3)))


def _blocks(current: DepthMap, stride: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One sample for each stride x stride block: position, spacing in world units (0: none), colour, support, score.

    The position is on the ray through the block's centre, for that is where the colour, the block's mean, belongs.
    """
    half = stride // 2
    depth = current.depth[half::stride, half::stride]
    rows, columns = depth.shape
    points = world_points(current.view, depth, stride)
    spacing = stride * depth / current.view.K[0, 0]
    pad = (0, columns * stride - current.view.width, 0, rows * stride - current.view.height)
    image = F.pad(
        current.view.image[None], (max(pad[0], 0), max(pad[1], 0), max(pad[2], 0), max(pad[3], 0)), mode="replicate"
    )
    color = F.avg_pool2d(image, stride)[0, :, :rows, :columns].permute(1, 2, 0)
    support, score = current.support[half::stride, half::stride], current.score[half::stride, half::stride]
    return points.reshape(-1, 3), spacing.reshape(-1), color.reshape(-1, 3), support.reshape(-1), score.reshape(-1)


def _covered(points: Tensor, size: Tensor, support: Tensor, taken: Sequence[DepthMap], config: InitConfig) -> Tensor:
    """Which agreed points an earlier view already has at this depth and at least about as finely. (M,) bool"""
    covered = torch.zeros(len(points), dtype=torch.bool)
    for earlier in taken:
        view = earlier.view
        agreed, z = sampled(earlier.depth * (earlier.support > 0), view, points)
        spacing = config.stride * z / view.K[0, 0]
        agrees = (agreed > 0) & ((agreed - z).abs() <= config.consistency * z)
        covered |= agrees & (support > 0) & (spacing <= 1.4 * size)
    return covered

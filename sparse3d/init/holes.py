"""Depth maps tidied: specks removed, small holes filled from around; large ones stay holes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.io._pycolmap import cv2

_LARGEST = 0.002  # of the picture's pixels that a hole may have to be filled
_SPECK = 0.0002  # of the picture's pixels that a piece of surface needs
_SAME, _STEPS = 0.03, 16  # relative step of depth on one surface, and how many units it is split in
_RADIUS = 8  # pixels of the guided filter's window
_SMOOTH = 1e-4  # variance of grey below which a patch is taken as one surface
_LEAST = 0.1  # share of a filter window that must be known


def without_specks(depth: Tensor) -> Tensor:
    """Depth without surfaces that are too small to be trusted: pieces of less than a five-thousandth of the picture within which depth
    changes by less than 3 % from pixel to pixel.

    Args:
        depth: (H, W) world units, 0 where unknown.

    Returns:
        (H, W)
    """
    known = depth > 0
    if not known.any():
        return depth
    nearest = depth[known].min()
    steps = torch.where(known, 1 + _STEPS * (depth.clamp(min=1e-30) / nearest).log() / math.log1p(_SAME), 0.0)
    image = steps.clamp(0, 32767).round().to(torch.int16).numpy()
    cv2().filterSpeckles(image, 0, max(1, int(_SPECK * depth.numel())), _STEPS)
    return torch.where(torch.from_numpy(image) > 0, depth, 0.0)


def fill_small(depth: Tensor, weight: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
    """Depth with its small holes filled, edges where the picture has them.

    In each window inverse depth is a linear function of grey, fitted to what is known (guided filter: He, Sun and Tang 2013,
    doi 10.1109/TPAMI.2012.213, eq. 5 to 8, with weights).

    Args:
        depth: (H, W) world units, 0 where unknown.
        weight: (H, W) how far each known depth counts, 0 or more.
        guide: (H, W) grey in [0, 1].

    Returns:
        (H, W) depth and (H, W) bool, what was filled.
    """
    known = depth > 0
    small = _small_holes(known)
    if not small.any():
        return depth, small
    w = weight * known
    inverse = torch.where(known, 1 / depth.clamp(min=1e-12), torch.zeros_like(depth))
    scale = inverse.max().clamp(min=1e-12)
    inverse = inverse / scale
    count = _box(w)
    total = count.clamp(min=1e-6)
    mean_guide, mean_inverse = _box(w * guide) / total, _box(w * inverse) / total
    covariance = _box(w * guide * inverse) / total - mean_guide * mean_inverse
    variance = _box(w * guide * guide) / total - mean_guide**2
    slope = covariance / (variance + _SMOOTH)
    offset = mean_inverse - slope * mean_guide
    enough = (_box(known.float()) >= _LEAST).float()
    windows = _box(enough).clamp(min=1e-6)
    value = (_box(enough * slope) * guide + _box(enough * offset)) / windows
    # what lies beyond all that is known around is an extrapolation in grey
    low = -F.max_pool2d(-torch.where(known, inverse, torch.inf)[None, None], 2 * _RADIUS + 1, 1, _RADIUS)[0, 0]
    high = F.max_pool2d(inverse[None, None], 2 * _RADIUS + 1, 1, _RADIUS)[0, 0]
    filled = small & (_box(enough) > 0) & (high > 0)
    value = torch.minimum(torch.maximum(value, low), high)
    return torch.where(filled, 1 / (value * scale).clamp(min=1e-12), depth), filled


def _small_holes(known: Tensor) -> Tensor:
    """(H, W) bool, unknown pixels in connected groups of at most a five-hundredth of the picture."""
    _, labels, stats, _ = cv2().connectedComponentsWithStats((~known).numpy().astype("uint8"), connectivity=4)
    sizes = torch.from_numpy(stats[:, cv2().CC_STAT_AREA].copy())
    small = sizes <= _LARGEST * known.numel()
    small[0] = False  # what is known
    return small[torch.from_numpy(labels).long()]


def _box(values: Tensor) -> Tensor:
    """Mean over a window, those beyond the border left out. (H, W) -> (H, W)"""
    side = 2 * _RADIUS + 1
    return F.avg_pool2d(values[None, None], side, 1, _RADIUS, count_include_pad=False)[0, 0]

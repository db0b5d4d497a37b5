"""Filling what is unknown from around it, the smoother the farther off."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sparse3d.shapes import check_shapes


def push_pull(values: Tensor, weights: Tensor) -> Tensor:
    """Pictures with their holes filled, by push and pull over a pyramid (Gortler et al., "The Lumigraph", SIGGRAPH 1996, section 3.4).

    Args:
        values: (C, H, W), anything finite where the weight is 0.
        weights: (H, W) in [0, 1]: 1 keeps the value, 0 takes it from around.

    Returns:
        (C, H, W); 0 where nothing is known anywhere.
    """
    check_shapes(values=(values, "C H W"), weights=(weights, "H W"))
    return _pulled(values, weights)


def _pulled(values: Tensor, weights: Tensor) -> Tensor:
    if min(weights.shape) <= 2:
        mean = (values * weights).sum((1, 2), keepdim=True) / weights.sum().clamp(min=1e-12)
        return weights * values + (1 - weights) * mean
    summed = block_means(weights[None], 2)[0]
    coarse = _pulled(block_means(values * weights, 2) / summed.clamp(min=1e-12), summed)
    finer = F.interpolate(coarse[None], values.shape[1:], mode="bilinear")[0]
    return weights * values + (1 - weights) * finer


def block_means(values: Tensor, stride: int) -> Tensor:
    """Mean of each stride x stride block, those at the border of what there is. (C, H, W) -> (C, rows, columns)"""
    return F.avg_pool2d(values[None], stride, ceil_mode=True, count_include_pad=False)[0]

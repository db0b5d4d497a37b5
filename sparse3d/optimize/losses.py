"""Losses between a rendered and a photographed picture."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse3d.metrics.image import ssim_map


def photometric_loss(image: Tensor, target: Tensor, ssim_weight: float, mask: Tensor | None = None) -> Tensor:
    """(1 - w) L1 + w (1 - SSIM), 3DGS eq. 7.

    Args:
        image, target: (3, H, W)
        ssim_weight: w, in [0, 1].
        mask: (H, W) bool; other pixels are given the target's value, so that they pull at nothing.

    Returns:
        A scalar.
    """
    if mask is not None:
        image = torch.where(mask, image, target)
    l1 = (image - target).abs().mean()
    if ssim_weight == 0:
        return l1
    return (1 - ssim_weight) * l1 + ssim_weight * (1 - ssim_map(image, target).mean())

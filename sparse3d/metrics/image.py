"""PSNR and SSIM as the 3DGS papers compute them."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse3d.kernels.ssim import ssim_map
from sparse3d.shapes import check_shapes


def psnr(image: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio, images clipped to [0, 1] first.

    Args:
        image, target: (3, H, W)
        mask: (H, W) bool; only these pixels count.

    Returns:
        Decibels; infinite for equal images.
    """
    check_shapes(image=(image, "C H W"), target=(target, "C H W"))
    error = (image.clamp(0, 1) - target.clamp(0, 1)) ** 2
    if mask is not None:
        error = error[:, mask]
    return float(-10 * torch.log10(error.mean()))


def ssim(image: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Mean of `ssim_map`, images clipped to [0, 1] first; over the mask's pixels when one is given."""
    check_shapes(image=(image, "C H W"), target=(target, "C H W"))
    values = ssim_map(image.clamp(0, 1), target.clamp(0, 1))
    return float((values if mask is None else values[:, mask]).mean())

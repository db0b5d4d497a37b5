"""PSNR and SSIM as the 3DGS papers compute them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparse3d.metrics.blur import window_mean
from sparse3d.shapes import check_shapes

_C1, _C2 = 0.01**2, 0.03**2  # Wang et al. 2004, images in [0, 1]


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


def ssim_map(image: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of every pixel and channel; differentiable in `image`.

    Wang et al. 2004, eq. 13, with the 11-tap Gaussian window (sigma 1.5) and zero padding of the 3DGS papers.

    Args:
        image, target: (C, H, W) in [0, 1].

    Returns:
        (C, H, W), at most 1.
    """
    check_shapes(image=(image, "C H W"), target=(target, "C H W"))
    return _Ssim.apply(image, target)


def ssim(image: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Mean of `ssim_map`, images clipped to [0, 1] first; over the mask's pixels when one is given."""
    values = ssim_map(image.clamp(0, 1), target.clamp(0, 1))
    return float((values if mask is None else values[:, mask]).mean())


class _Ssim(torch.autograd.Function):
    """SSIM with the gradient written out: three windowed means instead of autograd's graph of ten."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        mean_x, mean_y, xx, yy, xy = window_mean(torch.stack([x, y, x * x, y * y, x * y])).unbind(0)
        a1 = 2 * mean_x * mean_y + _C1
        a2 = 2 * (xy - mean_x * mean_y) + _C2
        b1 = mean_x**2 + mean_y**2 + _C1
        b2 = xx - mean_x**2 + yy - mean_y**2 + _C2
        ctx.save_for_backward(x, y, mean_x, mean_y, a1, a2, b1, b2)
        return a1 * a2 / (b1 * b2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, y, mean_x, mean_y, a1, a2, b1, b2 = ctx.saved_tensors
        scaled = gradient / (b1 * b2)
        value = a1 * a2 * scaled
        by_xy = 2 * a1 * scaled  # derivative by window_mean(x y)
        by_xx = -value / b2  # by window_mean(x x)
        by_mean = 2 * mean_y * (a2 - a1) * scaled - 2 * mean_x * (value / b1 - value / b2)  # by window_mean(x)
        m_mean, m_xx, m_xy = window_mean(torch.stack([by_mean, by_xx, by_xy])).unbind(0)
        return m_mean + 2 * x * m_xx + y * m_xy, None

"""SSIM as the 3DGS papers compute it, in PyTorch: the meaning of the SSIM in cpu_loss.py."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

C1, C2 = 0.01**2, 0.03**2  # Wang et al. 2004, images in [0, 1]
TAPS = 11
SIGMA_PX = 1.5
_BLOCK = 64  # output pixels of one product; the band of TAPS then fills a sixth of the matrix


def taps() -> Tensor:
    """The window along one axis, of sum 1. (TAPS,) float64"""
    offsets = torch.arange(TAPS, dtype=torch.float64) - TAPS // 2
    window = torch.exp(-(offsets**2) / (2 * SIGMA_PX**2))
    return window / window.sum()


@lru_cache(maxsize=8)
def _band(dtype: torch.dtype, device: torch.device) -> Tensor:
    """(BLOCK + TAPS - 1, BLOCK): column j holds the window at rows j to j + TAPS - 1."""
    window = taps()
    band = torch.zeros(_BLOCK + TAPS - 1, _BLOCK, dtype=torch.float64)
    for column in range(_BLOCK):
        band[column : column + TAPS, column] = window
    return band.to(dtype=dtype, device=device)


def _blur_rows(images: Tensor) -> Tensor:
    """Windowed sum along the last dimension, zeros beyond the ends."""
    width = images.shape[-1]
    blocks = -(-width // _BLOCK)
    padded = F.pad(images, (TAPS // 2, blocks * _BLOCK - width + TAPS // 2))
    pieces = padded.unfold(-1, _BLOCK + TAPS - 1, _BLOCK)  # (..., blocks, BLOCK + TAPS - 1)
    # one plain product of two matrices: a batched one of these strides is done piece by piece
    product = pieces.reshape(-1, _BLOCK + TAPS - 1) @ _band(images.dtype, images.device)
    return product.reshape(*images.shape[:-1], blocks * _BLOCK)[..., :width]


def window_mean(images: Tensor) -> Tensor:
    """Mean under the 11x11 Gaussian window (sigma 1.5 px) of SSIM, zeros beyond the border.

    Linear and its own adjoint, since the window is symmetric.

    Args:
        images: (..., H, W)

    Returns:
        (..., H, W)
    """
    return _blur_rows(_blur_rows(images).transpose(-1, -2)).transpose(-1, -2)


def ssim_map(image: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of every pixel and channel; differentiable in `image`.

    Wang et al. 2004, eq. 13, with the 11-tap Gaussian window (sigma 1.5) and zero padding of the 3DGS papers.

    Args:
        image, target: (C, H, W) in [0, 1].

    Returns:
        (C, H, W), at most 1.

    Raises:
        ValueError: the shapes differ or are not (C, H, W).
    """
    if image.ndim != 3 or image.shape != target.shape:
        raise ValueError(f"image is {tuple(image.shape)} and target {tuple(target.shape)}, needed the same (C, H, W)")
    return _Ssim.apply(image, target)


class _Ssim(torch.autograd.Function):
    """SSIM with the gradient written out: three windowed means instead of autograd's graph of ten."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        mean_x, mean_y, xx, yy, xy = window_mean(torch.stack([x, y, x * x, y * y, x * y])).unbind(0)
        a1 = 2 * mean_x * mean_y + C1
        a2 = 2 * (xy - mean_x * mean_y) + C2
        b1 = mean_x**2 + mean_y**2 + C1
        b2 = xx - mean_x**2 + yy - mean_y**2 + C2
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

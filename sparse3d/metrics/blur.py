"""The 11-tap Gaussian window of SSIM as matrix products, which a CPU does many times faster than a convolution."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = 11
SIGMA_PX = 1.5
_BLOCK = 64  # output pixels of one product; the band of TAPS then fills a sixth of the matrix


@lru_cache(maxsize=8)
def _band(dtype: torch.dtype, device: torch.device) -> Tensor:
    """(BLOCK + TAPS - 1, BLOCK): column j holds the window at rows j to j + TAPS - 1."""
    offsets = torch.arange(TAPS, dtype=torch.float64) - TAPS // 2
    window = torch.exp(-(offsets**2) / (2 * SIGMA_PX**2))
    window /= window.sum()
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

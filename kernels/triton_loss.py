"""The photometric loss of 3DGS on a CUDA GPU in Triton, with its gradient: L1 and ssim.py in two kernels.

In Triton's interpreter as triton_sweep.py. Nothing waits for the GPU, so that nothing is said of numbers that are not finite.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse3d.kernels import triton_loss_kernels
from sparse3d.kernels.cpu import check
from sparse3d.kernels.ssim import TAPS, taps
from sparse3d.kernels.triton_sweep import DEVICE

_BLOCK = 128  # pixels of a program


def photometric_loss(image: Tensor, target: Tensor, ssim_weight: float, mask: Tensor | None = None) -> Tensor:
    """(1 - w) L1 + w (1 - SSIM), 3DGS (arXiv:2308.04079) eq. 7 with the SSIM of `sparse3d.kernels.ssim.ssim_map`.

    Differentiable once, in `image` alone. An image of any strides is not copied.

    Args:
        image: (3, H, W) float32 on a CUDA device, in [0, 1].
        target: (3, H, W) like it.
        ssim_weight: w, in [0, 1].
        mask: (H, W) bool; other pixels are given the target's value, so that they pull at nothing.

    Returns:
        A scalar.

    Raises:
        ValueError: a tensor has another shape, type or device, or the weight is out of its range.
    """
    check("image", image, "3 H W", empty=False, device=DEVICE)
    check("target", target, f"3 {image.shape[1]} {image.shape[2]}", device=DEVICE)
    if mask is not None:
        check("mask", mask, f"{image.shape[1]} {image.shape[2]}", torch.bool, device=DEVICE)
    if not 0 <= ssim_weight <= 1:
        raise ValueError(f"ssim_weight is {ssim_weight}, needed 0 to 1")
    keep = torch.is_grad_enabled() and image.requires_grad
    loss: Tensor = _PhotometricLoss.apply(image, target, ssim_weight, mask, keep)
    return loss


@lru_cache(maxsize=8)
def _window(device: torch.device) -> Tensor:
    return taps().float().to(device)


class _PhotometricLoss(torch.autograd.Function):
    """The gradient comes with the loss, since nearly every loss is differentiated; `backward` hands it over."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor, ssim_weight: float, mask: Tensor | None, keep: bool) -> Tensor:
        image = image.detach()
        channels, height, width = image.shape
        grid = (triton.cdiv(height * width, _BLOCK), channels)
        losses = image.new_empty(grid[0] * grid[1])
        gradient = torch.empty(image.shape if keep else (0,), dtype=image.dtype, device=image.device)
        slopes = image.new_empty((5, *image.shape) if keep else (0,))
        pictures = (
            image,
            *image.stride(),
            target.detach().contiguous(),
            target if mask is None else mask.contiguous().view(torch.uint8),
            _window(image.device),
            height,
            width,
        )
        settings = {"TAPS": TAPS, "MASKED": mask is not None, "BLOCK": _BLOCK}
        weights = ((1 - ssim_weight) / image.numel(), ssim_weight / image.numel())
        triton_loss_kernels.compare[grid](*pictures, slopes, losses, gradient, *weights, GRADIENT=keep, **settings)
        if keep:
            triton_loss_kernels.spread[grid](*pictures, slopes, gradient, **settings)
            ctx.save_for_backward(gradient)
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_loss, None, None, None, None

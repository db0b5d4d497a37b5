"""Losses between a rendered and a photographed picture."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from sparse3d.kernels import cpu, cpu_loss
from sparse3d.kernels.cpu_loss import Target
from sparse3d.kernels.ssim import ssim_map


def photometric_loss(image: Tensor, target: Tensor | Target, ssim_weight: float, mask: Tensor | None = None) -> Tensor:
    """(1 - w) L1 + w (1 - SSIM), 3DGS eq. 7; for float32 by the compiled kernel on the CPU and by Triton on a CUDA GPU, where they are installed.

    Args:
        image: (3, H, W)
        target: (3, H, W), or what `prepare_target` made of it.
        ssim_weight: w, in [0, 1].
        mask: (H, W) bool; other pixels are given the target's value, so that they pull at nothing.

    Returns:
        A scalar.
    """
    target = prepare_target(target) if cpu.takes(image) else target
    if isinstance(target, Target):
        return cpu_loss.photometric_loss(image, target, ssim_weight, mask)
    if image.device.type == "cuda" and image.dtype == torch.float32 and find_spec("triton") is not None:
        from sparse3d.kernels import triton_loss

        return triton_loss.photometric_loss(image, target, ssim_weight, mask)
    if mask is not None:
        image = torch.where(mask, image, target)
    l1 = (image - target).abs().mean()
    if ssim_weight == 0:
        return l1
    return (1 - ssim_weight) * l1 + ssim_weight * (1 - ssim_map(image, target).mean())


def prepare_target(target: Tensor | Target) -> Tensor | Target:
    """A target for many calls of `photometric_loss`: with its window means where the compiled kernel takes it.

    Those spare a fourth of the time and take three times the image's memory. Other targets are returned as they are.

    Args:
        target: (3, H, W)
    """
    if isinstance(target, Tensor) and cpu.takes(target) and not target.requires_grad:
        return Target(target)
    return target

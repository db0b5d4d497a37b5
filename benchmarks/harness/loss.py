"""The photometric loss in three forms."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.timing import Stopwatch, Time
from sparse3d.kernels import cpu_loss
from sparse3d.kernels.ssim import C1, C2, SIGMA_PX, TAPS, ssim_map

_SSIM_WEIGHT = 0.2


def loss_calls(width: int, height: int) -> list[Callable[[], Time]]:
    """Time of: preparing a target, then loss and gradient by the kernel, by our PyTorch form and by PyTorch's convolutions."""
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(height, width, 3, generator=generator).requires_grad_()  # the memory of a rasterizer's picture
    target = torch.rand(3, height, width, generator=generator)
    prepared = cpu_loss.Target(target)

    def prepare() -> Time:
        watch = Stopwatch()
        cpu_loss.Target(target)
        return watch.lap()

    def differentiated(loss: Callable[[Tensor], Tensor]) -> Callable[[], Time]:
        def call() -> Time:
            watch = Stopwatch()
            torch.autograd.grad(loss(rgb.permute(2, 0, 1)), rgb)
            return watch.lap()

        return call

    return [
        prepare,
        differentiated(lambda image: cpu_loss.photometric_loss(image, prepared, _SSIM_WEIGHT)),
        differentiated(lambda image: _mixed(image, target, ssim_map(image, target))),
        differentiated(lambda image: _mixed(image, target, ssim_by_convolution(image, target))),
    ]


def ssim_by_convolution(image: Tensor, target: Tensor) -> Tensor:
    """SSIM as 3DGS and its descendants write it: five grouped convolutions of the 11x11 window. (3, H, W)"""
    offsets = torch.arange(TAPS, dtype=image.dtype) - TAPS // 2
    window = torch.exp(-(offsets**2) / (2 * SIGMA_PX**2))
    window = window / window.sum()
    kernel = (window[:, None] * window).expand(3, 1, TAPS, TAPS)

    def blur(values: Tensor) -> Tensor:
        return F.conv2d(values, kernel, padding=TAPS // 2, groups=3)

    mean_x, mean_y = blur(image), blur(target)
    xx, yy, xy = blur(image**2) - mean_x**2, blur(target**2) - mean_y**2, blur(image * target) - mean_x * mean_y
    return (2 * mean_x * mean_y + C1) * (2 * xy + C2) / ((mean_x**2 + mean_y**2 + C1) * (xx + yy + C2))


def _mixed(image: Tensor, target: Tensor, ssim: Tensor) -> Tensor:
    return (1 - _SSIM_WEIGHT) * (image - target).abs().mean() + _SSIM_WEIGHT * (1 - ssim.mean())

"""The photometric loss of 3DGS in C++, with its gradient: L1 and ssim.py in one pass over the image.

Chosen, forced and threaded as the rasterizer in cpu.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse3d.kernels.cpu import check, compiled, empty


class Target:
    """A target image with its window means, for many losses against the same one.

    Holds three copies of the image, and does not follow later changes of it.
    """

    def __init__(self, image: Tensor) -> None:
        """Computes the means.

        Args:
            image: (3, H, W) float32 on the CPU.

        Raises:
            ValueError: the image has another shape, type or device, or no pixels.
        """
        check("target", image, "3 H W", empty=False)
        self.shape = image.shape
        self.compiled = compiled().ssim_target(image.detach().contiguous(), torch.get_num_threads())


def photometric_loss(image: Tensor, target: Tensor | Target, ssim_weight: float, mask: Tensor | None = None) -> Tensor:
    """(1 - w) L1 + w (1 - SSIM), 3DGS (arXiv:2308.04079) eq. 7 with the SSIM of `sparse3d.kernels.ssim.ssim_map`.

    Differentiable once, in `image` alone. An image whose memory is (H, W, 3), as a rasterizer's with its channels moved
    first, is not copied.

    Args:
        image: (3, H, W) float32 on the CPU, in [0, 1].
        target: (3, H, W) like it, or what `Target` made of that.
        ssim_weight: w, in [0, 1].
        mask: (H, W) bool; other pixels are given the target's value, so that they pull at nothing.

    Returns:
        A scalar.

    Raises:
        ValueError: a tensor has another shape, type or device, or the weight is out of its range.
    """
    prepared = target if isinstance(target, Target) else Target(target)
    keep = torch.is_grad_enabled() and image.requires_grad
    loss: Tensor = _PhotometricLoss.apply(image, prepared, ssim_weight, mask, keep)
    return loss


def loss_and_gradient(
    image: Tensor, target: Target, ssim_weight: float, mask: Tensor | None = None
) -> tuple[float, Tensor]:
    """`photometric_loss` and its gradient in the image, at once and without autograd.

    Args:
        image, target, ssim_weight, mask: As there.

    Returns:
        The loss, and (3, H, W) in the memory of (H, W, 3).

    Raises:
        ValueError: as there.
    """
    gradient = empty((*image.shape[1:], 3)).permute(2, 0, 1)
    return _loss(image, target, ssim_weight, mask, gradient), gradient


def _loss(image: Tensor, target: Target, ssim_weight: float, mask: Tensor | None, gradient: Tensor | None) -> float:
    """The loss; sets the gradient, whose memory is (H, W, 3)."""
    check("image", image, "3 H W")
    if image.shape != target.shape:
        raise ValueError(f"image is {tuple(image.shape)} and the target {tuple(target.shape)}; they must be alike")
    if mask is not None:
        check("mask", mask, f"{image.shape[1]} {image.shape[2]}", torch.bool)
    if not 0 <= ssim_weight <= 1:
        raise ValueError(f"ssim_weight is {ssim_weight}, needed 0 to 1")
    l1, dissimilarity = compiled().photometric_loss(
        target.compiled,
        image.detach().permute(1, 2, 0).contiguous(),
        None if mask is None else mask.contiguous().view(torch.uint8),
        ssim_weight,
        None if gradient is None else gradient.permute(1, 2, 0),
        torch.get_num_threads(),
    )
    return float((1 - ssim_weight) * l1 + ssim_weight * dissimilarity)


class _PhotometricLoss(torch.autograd.Function):
    """The gradient comes with the loss, since nearly every loss is differentiated; `backward` hands it over."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Target, ssim_weight: float, mask: Tensor | None, keep: bool) -> Tensor:
        if not keep:
            return torch.tensor(_loss(image, target, ssim_weight, mask, None))
        loss, gradient = loss_and_gradient(image, target, ssim_weight, mask)
        ctx.save_for_backward(gradient)
        return torch.tensor(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        if grad_loss != 1:  # as it is for the loss that is differentiated itself
            gradient = gradient * grad_loss
        return gradient, None, None, None, None

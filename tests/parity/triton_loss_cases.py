"""The Triton loss against L1 and kernels/ssim.py in float64. test_triton_loss.py runs this file, in a process of its own.

On a GPU, or on the CPU in Triton's interpreter, which takes milliseconds for each operation: images are small.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparse3d.kernels import triton_loss
from sparse3d.kernels.ssim import ssim_map

DEVICE = torch.device(triton_loss.DEVICE)
# As of the compiled kernel: float32 rounds at 6e-8, and windows are sums of 121 terms.
LOSS_ATOL = 1e-6
GRADIENT_RTOL = 5e-6
SMOOTH_RTOL = 7e-4  # of smooth bright images, whose variance is a difference of numbers near 1


def reference_loss(image: Tensor, target: Tensor, ssim_weight: float, mask: Tensor | None = None) -> Tensor:
    if mask is not None:
        image = torch.where(mask, image, target)
    return (1 - ssim_weight) * (image - target).abs().mean() + ssim_weight * (1 - ssim_map(image, target).mean())


def pictures(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image, target and mask; the image has the memory of a rasterizer's."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(height, width, 3, generator=generator).permute(2, 0, 1)
    target = torch.rand(3, height, width, generator=generator)
    return image, target, torch.rand(height, width, generator=generator) > 0.3


def value_and_gradient(loss, image: Tensor, *rest) -> tuple[Tensor, Tensor]:
    image = image.detach().requires_grad_()
    value = loss(image, *rest)
    return value.detach(), torch.autograd.grad(value, image)[0]


def assert_agrees(image: Tensor, target: Tensor, weight: float, mask: Tensor | None, rtol: float) -> None:
    moved = [None if tensor is None else tensor.to(DEVICE) for tensor in (image, target, mask)]
    arguments = (moved[1], weight, moved[2])
    value, gradient = value_and_gradient(triton_loss.photometric_loss, moved[0], *arguments)
    wanted, wanted_gradient = value_and_gradient(reference_loss, image.double(), target.double(), weight, mask)
    assert value.shape == () and value.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(value.cpu().double(), wanted, rtol=0, atol=LOSS_ATOL)
    largest = wanted_gradient.abs().max().item()
    torch.testing.assert_close(gradient.cpu().double(), wanted_gradient, rtol=0, atol=rtol * largest)
    with torch.no_grad():
        alone = triton_loss.photometric_loss(moved[0], *arguments)
    torch.testing.assert_close(alone, value, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("size", "weight", "masked"),
    [((1, 1), 0.2, False), ((5, 7), 1.0, True), ((13, 29), 0.4, True), ((17, 12), 0.0, False)],
)
def test_value_and_gradient_match_reference(size, weight, masked):
    image, target, mask = pictures(*size)
    assert_agrees(image, target, weight, mask if masked else None, GRADIENT_RTOL)


def test_smooth_images():
    noise, other, _ = pictures(14, 15)
    assert_agrees(0.7 + 1e-3 * noise, 0.9 + 1e-3 * other, 1.0, None, SMOOTH_RTOL)


def test_masked_pixels_count_for_nothing():
    """Whatever the image holds there."""
    image, target, mask = (tensor.to(DEVICE) for tensor in pictures(13, 14))
    spoiled = torch.where(mask, image, torch.nan)
    value, gradient = value_and_gradient(triton_loss.photometric_loss, image, target, 0.2, mask)
    again, gradient_again = value_and_gradient(triton_loss.photometric_loss, spoiled, target, 0.2, mask)
    assert torch.equal(value, again) and torch.equal(gradient, gradient_again)
    assert (gradient[:, ~mask] == 0).all()


def test_gradient_is_scaled_by_what_follows():
    image, target, _ = (tensor.to(DEVICE) for tensor in pictures(6, 9))
    _, gradient = value_and_gradient(triton_loss.photometric_loss, image, target, 0.2)
    _, scaled = value_and_gradient(lambda *inputs: -2.5 * triton_loss.photometric_loss(*inputs), image, target, 0.2)
    torch.testing.assert_close(scaled, -2.5 * gradient)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": torch.zeros(3, 6, 8)}, "target is"),
        ({"image": torch.zeros(3, 6, 7).double()}, "image is torch.float64"),
        ({"mask": torch.ones(6, 7)}, "mask is torch.float32"),
        ({"ssim_weight": 1.5}, "ssim_weight is 1.5"),
    ],
)
def test_bad_input(change, words):
    arguments = {"image": torch.zeros(3, 6, 7), "target": torch.zeros(3, 6, 7), "ssim_weight": 0.2} | change
    moved = {name: value.to(DEVICE) if isinstance(value, Tensor) else value for name, value in arguments.items()}
    with pytest.raises(ValueError, match=words):
        triton_loss.photometric_loss(**moved)

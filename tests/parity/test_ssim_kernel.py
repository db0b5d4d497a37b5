"""The C++ loss against L1 and kernels/ssim.py in float64. Without the compiled module these fail, unless the install
left it out on purpose (SPARSE3D_PURE)."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

if os.environ.get("SPARSE3D_PURE"):
    pytest.skip("SPARSE3D_PURE is set: this install has no compiled kernels", allow_module_level=True)

from sparse3d.kernels import cpu, cpu_loss
from sparse3d.kernels.ssim import ssim_map
from sparse3d.optimize import losses

# One pixel; smaller than the window; as large; no multiple of anything; several tiles of 48 x 128 pixels with seams.
SIZES = [(1, 1), (5, 7), (11, 11), (37, 29), (64, 130), (130, 49), (257, 97)]

# Differences to float64, the loss absolute and the gradient relative to its largest entry: about 4x the largest seen
# over 50 seeds of all sizes on each instruction set (2.6e-7 and 1.2e-6). float32 rounds at 6e-8, and the window sums 11
# taps four times.
LOSS_ATOL = 1e-6
GRADIENT_RTOL = 5e-6
# In smooth bright images the target's variance, compared with C2 = 9e-4, is a difference of numbers near 1, so that
# rounding is about 1e-4 of it. Seen: 1.5e-4, and 4.2e-4 for the PyTorch version in float32.
SMOOTH_RTOL = 7e-4


def reference_loss(image: Tensor, target: Tensor, ssim_weight: float, mask: Tensor | None = None) -> Tensor:
    if mask is not None:
        image = torch.where(mask, image, target)
    return (1 - ssim_weight) * (image - target).abs().mean() + ssim_weight * (1 - ssim_map(image, target).mean())


def pictures(height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Image, target and mask; the image has the memory of a rasterizer's."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(height, width, 3, generator=generator).permute(2, 0, 1)
    return (
        image,
        torch.rand(3, height, width, generator=generator),
        torch.rand(height, width, generator=generator) > 0.3,
    )


def value_and_gradient(loss, image: Tensor, target: Tensor, *rest) -> tuple[Tensor, Tensor]:
    image = image.detach().requires_grad_()
    value = loss(image, target, *rest)
    return value.detach(), torch.autograd.grad(value, image)[0]


def assert_agrees(
    image: Tensor, target: Tensor, weight: float, mask: Tensor | None, rtol: float = GRADIENT_RTOL
) -> None:
    value, gradient = value_and_gradient(cpu_loss.photometric_loss, image, target, weight, mask)
    wanted, wanted_gradient = value_and_gradient(reference_loss, image.double(), target.double(), weight, mask)
    assert value.shape == () and value.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(value.double(), wanted, rtol=0, atol=LOSS_ATOL)
    largest = max(wanted_gradient.abs().max().item(), 1e-12)  # of equal images it is 0 but for rounding
    torch.testing.assert_close(gradient.double(), wanted_gradient, rtol=0, atol=rtol * largest)
    # the same without a gradient, which takes a shorter way
    with torch.no_grad():
        torch.testing.assert_close(cpu_loss.photometric_loss(image, target, weight, mask), value, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("weight", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_value_and_gradient_match_reference(size, masked, weight, isa):
    image, target, mask = pictures(*size)
    assert_agrees(image, target, weight, mask if masked else None)


@pytest.mark.parametrize("weight", [0.0, 0.2, 1.0])
def test_close_images(weight, isa):
    """Near the end of an optimization; the kernel must not lose what little there is to cancellation, as the PyTorch
    version in float32 does (3e-4 of the gradient)."""
    noise, target, _ = pictures(64, 130)
    assert_agrees(target + 0.002 * (noise - 0.5), target, weight, None)


@pytest.mark.parametrize("levels", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.9, 0.6), (0.5, 0.5)])
def test_constant_images(levels, isa):
    image, target = (torch.full((3, 40, 60), level) for level in levels)
    assert_agrees(image, target, 0.2, None, rtol=SMOOTH_RTOL)


def test_smooth_images(isa):
    noise, other, _ = pictures(40, 60)
    assert_agrees(0.7 + 1e-3 * noise, 0.9 + 1e-3 * other, 1.0, None, rtol=SMOOTH_RTOL)


@pytest.mark.parametrize("weight", [0.0, 0.2, 1.0])
def test_equal_images_have_neither_loss_nor_gradient(weight, isa):
    """As abs() at 0 in PyTorch, and at the maximum of SSIM."""
    image, _, _ = pictures(37, 29)
    value, gradient = value_and_gradient(cpu_loss.photometric_loss, image, image.clone(), weight)
    assert value == 0
    assert gradient.abs().max() == 0


@pytest.mark.parametrize("weight", [0.0, 0.2])
def test_masked_pixels_count_for_nothing(weight, isa):
    """Whatever the image holds there."""
    image, target, mask = pictures(37, 29)
    spoiled = torch.where(mask, image, torch.nan)
    value, gradient = value_and_gradient(cpu_loss.photometric_loss, image, target, weight, mask)
    again, gradient_again = value_and_gradient(cpu_loss.photometric_loss, spoiled, target, weight, mask)
    assert torch.equal(value, again) and torch.equal(gradient, gradient_again)
    assert (gradient[:, ~mask] == 0).all()
    nothing, no_gradient = value_and_gradient(
        cpu_loss.photometric_loss, spoiled, target, weight, torch.zeros_like(mask)
    )
    assert nothing == 0 and (no_gradient == 0).all()


@pytest.mark.parametrize("weight", [0.0, 0.2])
def test_thread_count_changes_no_bit(weight, threads, isa):
    image, target, mask = pictures(300, 171)
    threads(1)
    alone = value_and_gradient(cpu_loss.photometric_loss, image, target, weight, mask)
    for count in (2, 3, 8):
        threads(count)
        together = value_and_gradient(cpu_loss.photometric_loss, image, target, weight, mask)
        assert torch.equal(alone[0], together[0]) and torch.equal(alone[1], together[1])


def test_prepared_target_and_memory_layout_change_nothing():
    image, target, _ = pictures(37, 60)
    want = value_and_gradient(cpu_loss.photometric_loss, image, target, 0.2)
    prepared = cpu_loss.Target(target)
    for one in (image, image.contiguous()):
        got = value_and_gradient(cpu_loss.photometric_loss, one, prepared, 0.2)
        assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


def test_gradient_is_scaled_by_what_follows():
    image, target, _ = pictures(20, 30)
    _, gradient = value_and_gradient(cpu_loss.photometric_loss, image, target, 0.2)
    _, scaled = value_and_gradient(lambda *inputs: -2.5 * cpu_loss.photometric_loss(*inputs), image, target, 0.2)
    torch.testing.assert_close(scaled, -2.5 * gradient)


def test_the_optimizer_uses_it(monkeypatch):
    """losses.photometric_loss chooses the kernel for float32 alone, and both ways agree."""
    image, target, mask = pictures(37, 29)
    calls = []
    compiled = cpu_loss.photometric_loss
    monkeypatch.setattr(cpu_loss, "photometric_loss", lambda *inputs: calls.append(1) or compiled(*inputs))
    fast = losses.photometric_loss(image, target, 0.2, mask)
    assert len(calls) == 1
    slow = losses.photometric_loss(image.double(), target.double(), 0.2, mask)
    assert len(calls) == 1
    torch.testing.assert_close(fast.double(), slow, rtol=0, atol=LOSS_ATOL)
    assert torch.equal(losses.photometric_loss(image, losses.prepare_target(target), 0.2, mask), fast)
    monkeypatch.setattr(cpu, "available", lambda: False)
    torch.testing.assert_close(losses.photometric_loss(image, target, 0.2, mask), fast, rtol=0, atol=LOSS_ATOL)

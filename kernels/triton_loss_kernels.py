"""What triton_loss.py runs on a GPU. Each lane has one pixel of one channel and sums the whole window of SSIM itself: neighbours
load the same numbers, so that they come from the cache, and no sum over a window is stored and read again.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sparse3d.kernels import ssim

_C1 = tl.constexpr(ssim.C1)
_C2 = tl.constexpr(ssim.C2)


@triton.jit
def _pixels(image, target, mask, at, x, y, stride_x, stride_y, width, there, MASKED: tl.constexpr):
    """The two pictures at some pixels, the image as the target where the mask is not; 0 outside."""
    want = tl.load(target + at + y * width + x, mask=there, other=0.0)
    got = tl.load(image + y * stride_y + x * stride_x, mask=there, other=0.0)
    if MASKED:
        got = tl.where(tl.load(mask + y * width + x, mask=there, other=0) != 0, got, want)
    return got, want


@triton.jit
def compare(
    image, stride_c, stride_y, stride_x, target, mask, window, height, width,
    slopes, losses, gradient, l1_weight, ssim_weight,
    TAPS: tl.constexpr, MASKED: tl.constexpr, GRADIENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Each program's part of the loss; with GRADIENT what `spread` needs, and the gradient of L1.

    Sums are of differences to the middle's own target, in which few digits are lost where both pictures are smooth.
    """
    channel = tl.program_id(1)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    count = width * height
    exists = pixel < count
    x, y = pixel % width, pixel // width
    image += channel * stride_c
    got, want = _pixels(image, target, mask, channel * count, x, y, stride_x, stride_y, width, exists, MASKED)
    zero = tl.zeros((BLOCK,), tl.float32)
    inside, s_x, s_y, s_xx, s_yy, s_xy = zero, zero, zero, zero, zero, zero
    for k in range(TAPS * TAPS):
        u, v = x + (k % TAPS - TAPS // 2), y + (k // TAPS - TAPS // 2)
        there = exists & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        weight = tl.load(window + k % TAPS) * tl.load(window + k // TAPS)
        a, b = _pixels(image, target, mask, channel * count, u, v, stride_x, stride_y, width, there, MASKED)
        weight = tl.where(there, weight, 0.0)
        a -= want
        b -= want
        inside += weight
        s_x += weight * a
        s_y += weight * b
        s_xx += weight * a * a
        s_yy += weight * b * b
        s_xy += weight * a * b
    # beyond the border is black, not the middle's target
    outside = 1.0 - inside
    black = want * want * inside * outside
    mean_x, mean_y = s_x + want * inside, s_y + want * inside
    var_x = s_xx - s_x * s_x + 2 * want * s_x * outside + black
    var_y = s_yy - s_y * s_y + 2 * want * s_y * outside + black
    covariance = s_xy - s_x * s_y + want * (s_x + s_y) * outside + black
    a1, b1 = 2 * mean_x * mean_y + _C1, mean_x * mean_x + mean_y * mean_y + _C1
    a2, b2 = 2 * covariance + _C2, var_x + var_y + _C2
    light, structure = a1 / b1, a2 / b2
    difference = got - want
    loss = l1_weight * tl.abs(difference) + ssim_weight * (1 - light * structure)
    program = channel * tl.num_programs(0) + tl.program_id(0)
    tl.store(losses + program, tl.sum(tl.where(exists, loss, 0.0), axis=0))
    if GRADIENT:
        size = tl.num_programs(1) * count
        to = slopes + channel * count + pixel
        tl.store(to, -ssim_weight * structure * 2 * (mean_y - light * mean_x) / b1, mask=exists)
        tl.store(to + size, ssim_weight * light * structure / b2, mask=exists)
        tl.store(to + 2 * size, -ssim_weight * light * 2 / b2, mask=exists)
        tl.store(to + 3 * size, mean_x, mask=exists)
        tl.store(to + 4 * size, mean_y, mask=exists)
        sign = tl.where(difference > 0, 1.0, tl.where(difference < 0, -1.0, 0.0))
        tl.store(gradient + channel * count + pixel, l1_weight * sign, mask=exists)


@triton.jit
def spread(
    image, stride_c, stride_y, stride_x, target, mask, window, height, width, slopes, gradient,
    TAPS: tl.constexpr, MASKED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adds to the gradient what each pixel is to the windows that it lies in; 0 where the mask is not."""
    channel = tl.program_id(1)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    count = width * height
    size = tl.num_programs(1) * count
    exists = pixel < count
    x, y = pixel % width, pixel // width
    image += channel * stride_c
    got, want = _pixels(image, target, mask, channel * count, x, y, stride_x, stride_y, width, exists, MASKED)
    total = tl.zeros((BLOCK,), tl.float32)
    for k in range(TAPS * TAPS):
        u, v = x + (k % TAPS - TAPS // 2), y + (k // TAPS - TAPS // 2)
        there = exists & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        weight = tl.load(window + k % TAPS) * tl.load(window + k // TAPS)
        at = slopes + channel * count + v * width + u
        by_mean = tl.load(at, mask=there, other=0.0)
        by_variance = tl.load(at + size, mask=there, other=0.0)
        by_covariance = tl.load(at + 2 * size, mask=there, other=0.0)
        mean_x = tl.load(at + 3 * size, mask=there, other=0.0)
        mean_y = tl.load(at + 4 * size, mask=there, other=0.0)
        total += weight * (by_mean + 2 * (got - mean_x) * by_variance + (want - mean_y) * by_covariance)
    at = gradient + channel * count + pixel
    total += tl.load(at, mask=exists, other=0.0)
    if MASKED:
        total = tl.where(tl.load(mask + y * width + x, mask=exists, other=0) != 0, total, 0.0)
    tl.store(at, total, mask=exists)

"""What triton_sweep.py runs on a GPU. Each lane has one pixel at one plane and samples the source wherever a window asks for
it: a GPU does that faster than it stores and reads warped images.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sparse3d.kernels import sweep

_NEAREST = tl.constexpr(sweep.NEAREST)
_UNSEEN = tl.constexpr(-2.0)  # the score of a source that does not see the pixel


@triton.jit
def _row(transfer, u, v, depth):
    """A row of the (3, 4) transfer, times the point's depth where that belongs."""
    ahead = tl.load(transfer) * u + tl.load(transfer + 1) * v + tl.load(transfer + 2)
    return depth * ahead + tl.load(transfer + 3)


@triton.jit
def _warp(transfer, u, v, depth):
    """Pixels of the source, and whether the point is in front of its camera: `sweep.warps`."""
    z = _row(transfer + 8, u, v, depth)
    near = tl.maximum(z, _NEAREST)
    return _row(transfer, u, v, depth) / near, _row(transfer + 4, u, v, depth) / near, z > _NEAREST


@triton.jit
def _sample(source, width, height, x, y, wanted):
    """The source between pixel centres, borders repeated: `census.bilinear`. 0 where it is not wanted."""
    x = tl.minimum(tl.maximum(x - 0.5, 0.0), width - 1.0)
    y = tl.minimum(tl.maximum(y - 0.5, 0.0), height - 1.0)
    left, top = x.to(tl.int32), y.to(tl.int32)
    right, below = x - left.to(tl.float32), y - top.to(tl.float32)
    upper = source + top * width + left
    lower = source + tl.minimum(top + 1, height - 1) * width + left
    step = tl.where(left + 1 < width, 1, 0)
    a, b = tl.load(upper, mask=wanted, other=0.0), tl.load(upper + step, mask=wanted, other=0.0)
    c, d = tl.load(lower, mask=wanted, other=0.0), tl.load(lower + step, mask=wanted, other=0.0)
    a = a + right * (b - a)
    return a + below * (c + right * (d - c) - a)


@triton.jit
def _store_score(score, source_width, source_height, transfer, x, y, depth, at, exists):
    """Stores a score where the source sees the pixel, else `_UNSEEN`."""
    sx, sy, ahead = _warp(transfer, x + 0.5, y + 0.5, depth)
    seen = ahead & (sx > 0) & (sy > 0) & (sx < source_width) & (sy < source_height)
    tl.store(at, tl.where(seen, score, _UNSEEN), mask=exists)


@triton.jit
def zncc(
    reference, width, height, source, source_width, source_height, transfer, depths, relief, scores,
    noise, WINDOW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`sweep.zncc_volume` for BLOCK pixels at one plane."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    plane = tl.program_id(1)
    exists = pixel < width * height
    x, y = pixel % width, pixel // width
    plane_depth = tl.load(depths + plane)
    count = tl.zeros((BLOCK,), tl.float32)
    sum_r, sum_rr, sum_s, sum_ss, sum_rs = count, count, count, count, count
    for k in range(WINDOW * WINDOW):
        u, v = x + (k % WINDOW - WINDOW // 2), y + (k // WINDOW - WINDOW // 2)
        there = exists & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        depth = plane_depth * tl.load(relief + v * width + u, mask=there, other=1.0)
        sx, sy, _ = _warp(transfer, u + 0.5, v + 0.5, depth)
        r = tl.load(reference + v * width + u, mask=there, other=0.0)
        s = _sample(source, source_width, source_height, sx, sy, there)
        count += tl.where(there, 1.0, 0.0)
        sum_r += r
        sum_rr += r * r
        sum_s += s
        sum_ss += s * s
        sum_rs += r * s
    middle = plane_depth * tl.load(relief + pixel, mask=exists, other=1.0)
    count = tl.maximum(count, 1.0)
    mean_r, mean_s = sum_r / count, sum_s / count
    var_r = tl.maximum(sum_rr / count - mean_r * mean_r, 0.0) + noise
    var_s = tl.maximum(sum_ss / count - mean_s * mean_s, 0.0) + noise
    score = (sum_rs / count - mean_r * mean_s) / tl.sqrt(var_r * var_s)
    at = scores + plane.to(tl.int64) * (width * height) + pixel
    _store_score(score, source_width, source_height, transfer, x, y, middle, at, exists)


@triton.jit
def census(
    reference, width, height, source, source_width, source_height, transfer, depths, relief, scores,
    COLUMNS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`census.census_volume` for BLOCK pixels at one plane."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    plane = tl.program_id(1)
    exists = pixel < width * height
    x, y = pixel % width, pixel // width
    plane_depth = tl.load(depths + plane)
    middle = plane_depth * tl.load(relief + pixel, mask=exists, other=1.0)
    sx, sy, _ = _warp(transfer, x + 0.5, y + 0.5, middle)
    centre_r = tl.load(reference + pixel, mask=exists, other=0.0)
    centre_s = _sample(source, source_width, source_height, sx, sy, exists)
    count = tl.full((BLOCK,), -1.0, tl.float32)  # the pixel itself is in the loop, where it differs in nothing
    differ = tl.zeros((BLOCK,), tl.float32)
    for k in range(COLUMNS * ROWS):
        u, v = x + (k % COLUMNS - COLUMNS // 2), y + (k // COLUMNS - ROWS // 2)
        there = exists & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        depth = plane_depth * tl.load(relief + v * width + u, mask=there, other=1.0)
        sx, sy, _ = _warp(transfer, u + 0.5, v + 0.5, depth)
        darker_r = tl.load(reference + v * width + u, mask=there, other=0.0) < centre_r
        darker_s = _sample(source, source_width, source_height, sx, sy, there) < centre_s
        count += tl.where(there, 1.0, 0.0)
        differ += tl.where(there & (darker_r != darker_s), 1.0, 0.0)
    score = (count - 2.0 * differ) / tl.maximum(count, 1.0)
    at = scores + plane.to(tl.int64) * (width * height) + pixel
    _store_score(score, source_width, source_height, transfer, x, y, middle, at, exists)


@triton.jit
def pooled(volumes, sources, scores, count, BLOCK: tl.constexpr):
    """`sweep.pooled` for BLOCK scores: one is of the better half if fewer than half of the others are better."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = at < count
    seen = tl.zeros((BLOCK,), tl.int32)
    sum_seen = tl.zeros((BLOCK,), tl.float32)
    volume = volumes + at
    for _ in range(sources):
        score = tl.load(volume, mask=exists, other=_UNSEEN)
        seen += (score > -1.5).to(tl.int32)
        sum_seen += tl.where(score > -1.5, score, 0.0)
        volume += count
    wanted = (seen + 1) // 2
    total = tl.zeros((BLOCK,), tl.float32)
    volume = volumes + at
    for s in range(sources):
        score = tl.load(volume, mask=exists, other=_UNSEEN)
        volume += count
        better = tl.zeros((BLOCK,), tl.int32)
        rivals = volumes + at
        for other in range(sources):
            rival = tl.load(rivals, mask=exists, other=_UNSEEN)
            rivals += count
            better += ((rival > score) | ((rival == score) & (other < s))).to(tl.int32)
        total += tl.where(better < wanted, score, 0.0)
    best, mean = total / tl.maximum(wanted, 1).to(tl.float32), sum_seen / tl.maximum(seen, 1).to(tl.float32)
    score = 0.5 * (best + mean)
    tl.store(scores + at, tl.where(seen > 0, score, -1.0), mask=exists)


@triton.jit
def correlate(
    reference, width, height, sources, source_width, source_height, source_count, channels, transfers, depths, scores,
    scale, CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`correlation.feature_sweep` for BLOCK pixels at one plane. Features have their channels last."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    plane = tl.program_id(1)
    exists = pixel < width * height
    x, y = pixel % width, pixel // width
    depth = tl.load(depths + plane)
    total = tl.zeros((BLOCK,), tl.float32)
    for s in range(source_count):
        sx, sy, ahead = _warp(transfers + 12 * s, x + 0.5, y + 0.5, depth)
        sx = tl.where(ahead, tl.minimum(tl.maximum(sx - 0.5, -1.0), source_width * 1.0), -1.0)
        sy = tl.where(ahead, tl.minimum(tl.maximum(sy - 0.5, -1.0), source_height * 1.0), -1.0)
        left, top = tl.floor(sx).to(tl.int32), tl.floor(sy).to(tl.int32)
        right, below = (sx - left.to(tl.float32))[:, None], (sy - top.to(tl.float32))[:, None]
        row = exists & (top >= 0) & (top < source_height)
        next_row = exists & (top + 1 >= 0) & (top + 1 < source_height)
        column, next_column = (left >= 0) & (left < source_width), (left + 1 >= 0) & (left + 1 < source_width)
        upper = ((s * source_height + top).to(tl.int64) * source_width + left) * channels
        lower = upper + source_width * channels
        for first in range(0, channels, CHANNELS):
            c = (first + tl.arange(0, CHANNELS))[None, :]
            some = c < channels
            f = tl.load(reference + pixel.to(tl.int64)[:, None] * channels + c, mask=exists[:, None] & some, other=0.0)
            at = sources + upper[:, None] + c
            a = tl.load(at, mask=(row & column)[:, None] & some, other=0.0)
            b = tl.load(at + channels, mask=(row & next_column)[:, None] & some, other=0.0)
            at = sources + lower[:, None] + c
            d = tl.load(at, mask=(next_row & column)[:, None] & some, other=0.0)
            e = tl.load(at + channels, mask=(next_row & next_column)[:, None] & some, other=0.0)
            a = a + right * (b - a)
            total += tl.sum(f * (a + below * (d + right * (e - d) - a)), axis=1)
    tl.store(scores + plane.to(tl.int64) * (width * height) + pixel, total * scale, mask=exists)

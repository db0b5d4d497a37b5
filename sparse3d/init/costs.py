"""Plane-sweep matching scores and the smooth choice among them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.geometry import pixel_rays

_NOISE = 1.5 / 255  # standard deviation of a patch that is taken for sensor noise


def sweep_depths(near: float, far: float, planes: int) -> Tensor:
    """Depth planes of a plane-sweep cost volume, even in inverse depth.

    Even steps in 1/depth are about even steps along the epipolar line, so no plane is spent on distances
    that pixels cannot tell apart. Source: MVSplat (arXiv:2403.14627), cost volume.

    Args:
        near, far: Depth range in world units, 0 < near < far.
        planes: Number of planes D, at least 2.

    Returns:
        Depths from near to far. (D,) float32, world units.

    Raises:
        ValueError: the range is empty or reaches behind the camera.
    """
    if not 0 < near < far or planes < 2:
        raise ValueError(
            f"depth range [{near}, {far}] with {planes} planes; needed 0 < near < far and at least 2 planes"
        )
    return 1.0 / torch.linspace(1.0 / near, 1.0 / far, planes)


def zncc_volume(
    reference: Tensor,
    K: Tensor,
    source: Tensor,
    source_K: Tensor,
    reference_to_source: Tensor,
    depths: Tensor,
    window: int,
) -> Tensor:
    """Zero-mean normalized cross-correlation of a view with one source warped over depth planes.

    Args:
        reference: (H, W) grey.
        K: (3, 3) of `reference`.
        source: (Hs, Ws) grey.
        source_K: (3, 3) of `source`.
        reference_to_source: (4, 4) camera axes of one to those of the other.
        depths: (D,) world units.
        window: Side in pixels, odd.

    Returns:
        (D, H, W) in [-1, 1]; NaN where the source does not see the pixel at that depth.
    """
    height, width = reference.shape
    rays = pixel_rays(K, height, width)
    matrix = source_K @ reference_to_source[:3, :3]
    turned, shift = rays @ matrix.T, source_K @ reference_to_source[:3, 3]  # source pixel ~ depth * turned + shift
    mean_r = _box(reference, window)
    var_r = _box(reference**2, window) - mean_r**2
    size = torch.tensor([source.shape[1], source.shape[0]], dtype=torch.float32)
    scores = torch.empty(len(depths), height, width)
    for start in range(0, len(depths), 8):
        chunk = depths[start : start + 8, None, None, None]
        homogeneous = chunk * turned + shift
        z = homogeneous[..., 2:]
        pixels = homogeneous[..., :2] / z.clamp(min=1e-9)
        inside = (z[..., 0] > 1e-9) & (pixels > 0).all(-1) & (pixels < size).all(-1)
        grid = 2 * pixels / size - 1
        warped = F.grid_sample(source.expand(len(chunk), 1, -1, -1), grid, padding_mode="border", align_corners=False)[
            :, 0
        ]
        mean_s, mean_ss, mean_rs = (_box(x, window) for x in (warped, warped**2, warped * reference))
        var_s = mean_ss - mean_s**2
        # noise in the denominator: patches without texture score near 0 instead of at random
        scale = torch.sqrt((var_r.clamp(min=0) + _NOISE**2) * (var_s.clamp(min=0) + _NOISE**2))
        score = (mean_rs - mean_r * mean_s) / scale
        scores[start : start + 8] = torch.where(inside, score, torch.full_like(score, torch.nan))
    return scores


def best_half(volumes: list[Tensor]) -> Tensor:
    """Mean score over the better half of the sources that see a pixel, so that an occluded source has no vote.

    Args:
        volumes: S of (D, H, W), NaN where unseen.

    Returns:
        (D, H, W); -1 where no source sees the pixel.
    """
    stacked = torch.stack(volumes)
    seen = (~stacked.isnan()).sum(dim=0)
    stacked = torch.nan_to_num(stacked, nan=-2.0).sort(dim=0, descending=True).values
    wanted = (seen + 1) // 2
    use = torch.arange(len(volumes))[:, None, None, None] < wanted
    return torch.where(seen > 0, (stacked * use).sum(dim=0) / wanted.clamp(min=1), torch.full_like(stacked[0], -1.0))


def semi_global(costs: Tensor, guide: Tensor, small: float = 0.08, large: float = 0.6) -> Tensor:
    """Costs summed along four scan directions, with a price on depth steps between neighbours.

    Hirschmüller 2008 (doi 10.1109/TPAMI.2007.1166), eq. 13: one plane costs `small`, more cost `large`, and `large`
    is lowered where the guide has an edge.

    Args:
        costs: (D, H, W)
        guide: (H, W) grey.

    Returns:
        (D, H, W)
    """
    volume = costs.permute(1, 2, 0).contiguous()  # (H, W, D)
    total = torch.zeros_like(volume)
    for axis in (0, 1):
        along = volume if axis == 0 else volume.transpose(0, 1).contiguous()
        grey = guide if axis == 0 else guide.T
        edge = torch.zeros_like(grey)
        edge[1:] = (grey[1:] - grey[:-1]).abs()
        forward = _scan(along, large / (1 + 20 * edge), small)
        backward = _scan(along.flip(0), large / (1 + 20 * torch.cat([edge[1:], edge[:1]]).flip(0)), small).flip(0)
        both = forward + backward
        total += both if axis == 0 else both.transpose(0, 1)
    return total.permute(2, 0, 1)


def _scan(volume: Tensor, large: Tensor, small: float) -> Tensor:
    """One direction of `semi_global`, along the first dimension of (L, M, D); `large` is (L, M)."""
    result = torch.empty_like(volume)
    result[0] = volume[0]
    for i in range(1, len(volume)):
        before = result[i - 1]
        lowest = before.min(dim=-1, keepdim=True).values
        stepped = F.pad(before, (1, 1), value=torch.inf)
        neighbours = torch.minimum(stepped[:, :-2], stepped[:, 2:]) + small
        jump = lowest + torch.clamp(large[i], min=small)[:, None]
        result[i] = volume[i] + torch.minimum(torch.minimum(before, neighbours), jump) - lowest
    return result


def winner(costs: Tensor, depths: Tensor) -> tuple[Tensor, Tensor]:
    """Depth of least cost per pixel, between the planes by a parabola in inverse depth.

    Args:
        costs: (D, H, W)
        depths: (D,) even in inverse depth.

    Returns:
        (H, W) depth in world units and (H, W) index of the winning plane.
    """
    best = costs.argmin(dim=0)
    inner = best.clamp(1, len(depths) - 2)
    left, middle, right = (costs.gather(0, (inner + i)[None])[0] for i in (-1, 0, 1))
    curvature = left - 2 * middle + right
    offset = torch.where(
        curvature > 1e-6, 0.5 * (left - right) / curvature.clamp(min=1e-6), torch.zeros_like(curvature)
    )
    position = torch.where(best == inner, inner + offset.clamp(-0.5, 0.5), best.float())
    inverse = 1 / depths
    return 1 / (inverse[0] + (inverse[-1] - inverse[0]) * position / (len(depths) - 1)), best


def _box(images: Tensor, window: int) -> Tensor:
    """Mean over a window, over fewer pixels at the border. (..., H, W)"""
    flat = images.reshape(-1, 1, *images.shape[-2:])
    half = window // 2
    rows = F.avg_pool2d(flat, (window, 1), stride=1, padding=(half, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, window), stride=1, padding=(0, half), count_include_pad=False).reshape(images.shape)

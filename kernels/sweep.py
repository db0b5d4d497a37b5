"""Plane sweep by ZNCC and semi-global matching in PyTorch, any dtype and device: the meaning of the fast kernels.

census.py and correlation.py sweep by other scores; plane_sweep.py chooses between these forms and the fast ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

NOISE = 1.5 / 255  # standard deviation of a patch that is taken for sensor noise
NEAREST = 1e-9  # what is nearer than this to the plane of a source's camera is behind it, world units
EDGE_WEIGHT = 20.0  # how fast an edge of the guide lowers the price of a jump: by half for a step of 1/20 of white


def zncc_sweep(
    reference: Tensor,
    K: Tensor,
    sources: Sequence[Tensor],
    source_Ks: Tensor,
    reference_to_sources: Tensor,
    depths: Tensor,
    window: int,
    relief: Tensor | None = None,
) -> Tensor:
    """Matching score of a view with its sources over depth planes: the `zncc_volume` of each, `pooled`.

    Args:
        reference: (H, W) grey in [0, 1].
        K: (3, 3) of `reference`, pixels.
        sources: S of (Hs, Ws) grey, each of its own size.
        source_Ks: (S, 3, 3) of `sources`, pixels.
        reference_to_sources: (S, 4, 4) camera axes of the one to those of the others.
        depths: (D,) world units.
        window: Side in pixels, odd.
        relief: (H, W) what depths are multiplied by at each pixel: the shape of a surface at depth 1; planes when left out.

    Returns:
        (D, H, W) in [-1, 1]; -1 where no source sees the pixel at that depth.
    """
    return pooled(
        [
            zncc_volume(reference, K, source, source_K, transform, depths, window, relief)
            for source, source_K, transform in zip(sources, source_Ks, reference_to_sources, strict=True)
        ]
    )


def zncc_volume(
    reference: Tensor,
    K: Tensor,
    source: Tensor,
    source_K: Tensor,
    reference_to_source: Tensor,
    depths: Tensor,
    window: int,
    relief: Tensor | None = None,
) -> Tensor:
    """Zero-mean normalized cross-correlation of a view with one source warped over depth planes.

    Args:
        reference: (H, W) grey in [0, 1].
        K: (3, 3) of `reference`, pixels.
        source: (Hs, Ws) grey.
        source_K: (3, 3) of `source`, pixels.
        reference_to_source: (4, 4) camera axes of one to those of the other.
        depths: (D,) world units.
        window: Side in pixels, odd.
        relief: (H, W) what depths are multiplied by at each pixel: the shape of a surface at depth 1; planes when left out.

    Returns:
        (D, H, W) in [-1, 1]; NaN where the source does not see the pixel at that depth.
    """
    mean_r = _box(reference, window)
    var_r = _box(reference**2, window) - mean_r**2
    scores = reference.new_empty(len(depths), *reference.shape)
    for planes, pixels, ahead in warps(reference.shape, K, source_K, reference_to_source, depths, relief):
        images, grid = source.expand(len(pixels), 1, -1, -1), normalized(pixels, source)
        warped = F.grid_sample(images, grid, padding_mode="border", align_corners=False)[:, 0]
        mean_s, mean_ss, mean_rs = (_box(x, window) for x in (warped, warped**2, warped * reference))
        var_s = mean_ss - mean_s**2
        # noise in the denominator: patches without texture score near 0 instead of at random
        scale = torch.sqrt((var_r.clamp(min=0) + NOISE**2) * (var_s.clamp(min=0) + NOISE**2))
        score = (mean_rs - mean_r * mean_s) / scale
        scores[planes] = torch.where(ahead & inside(pixels, source), score, torch.full_like(score, torch.nan))
    return scores


def warps(
    size: Sequence[int],
    K: Tensor,
    source_K: Tensor,
    reference_to_source: Tensor,
    depths: Tensor,
    relief: Tensor | None = None,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Where a source sees the pixels of a view at each depth, eight planes P at a time to spare memory.

    Args:
        size: Height and width of the view, pixels.
        K: (3, 3) of the view, pixels.
        source_K: (3, 3) of the source, pixels.
        reference_to_source: (4, 4) camera axes of the one to those of the other.
        depths: (D,) world units.
        relief: (H, W) what depths are multiplied by at each pixel; 1 when left out.

    Yields:
        Which planes; (P, H, W, 2) pixels of the source; (P, H, W) bool, whether the point is in front of its camera.
    """
    v, u = (torch.arange(n, dtype=K.dtype, device=K.device) + 0.5 for n in size)
    grid = torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1)  # (H, W, 2) pixel centres
    turn, shift = plane_transfer(K, source_K, reference_to_source)
    turned = F.pad(grid, (0, 1), value=1.0) @ turn.T
    for start in range(0, len(depths), 8):
        planes = slice(start, start + 8)
        here = depths[planes, None, None] if relief is None else depths[planes, None, None] * relief
        homogeneous = here[..., None] * turned + shift
        z = homogeneous[..., 2]
        yield planes, homogeneous[..., :2] / z.clamp(min=NEAREST)[..., None], z > NEAREST


def normalized(pixels: Tensor, image: Tensor) -> Tensor:
    """Pixels of an image (..., H, W) as `grid_sample` counts them with align_corners=False. (..., 2) -> (..., 2)"""
    return 2 * pixels / pixels.new_tensor([image.shape[-1], image.shape[-2]]) - 1


def inside(pixels: Tensor, image: Tensor) -> Tensor:
    """Which pixels lie within an image (..., H, W). (..., 2) -> (...) bool"""
    return ((pixels > 0) & (pixels < pixels.new_tensor([image.shape[-1], image.shape[-2]]))).all(dim=-1)


def plane_transfer(K: Tensor, source_K: Tensor, reference_to_source: Tensor) -> tuple[Tensor, Tensor]:
    """A, b such that the point at `depth` behind pixel (u, v) is seen by the source at depth * A (u, v, 1) + b.

    Args:
        K, source_K: (..., 3, 3) pixels.
        reference_to_source: (..., 4, 4)

    Returns:
        (..., 3, 3) and (..., 3), homogeneous pixels whose last component is the source's depth.
    """
    turn = source_K @ reference_to_source[..., :3, :3] @ torch.linalg.inv(K)
    return turn, (source_K @ reference_to_source[..., :3, 3:])[..., 0]


def pooled(volumes: list[Tensor]) -> Tensor:
    """Scores against several sources as one: half the mean of those that see a pixel, half the mean of the better half of them.

    The better half alone would let an occluded source have no vote, but also one that is hardly farther than the view:
    that one matches well at every depth, and wins. The mean alone halves the score of what some source cannot see.

    Args:
        volumes: S of (D, H, W), NaN where unseen.

    Returns:
        (D, H, W); -1 where no source sees the pixel.
    """
    stacked = torch.stack(volumes)
    seen = (~stacked.isnan()).sum(dim=0)
    stacked = torch.nan_to_num(stacked, nan=-2.0).sort(dim=0, descending=True).values
    wanted = (seen + 1) // 2
    use = torch.arange(len(volumes), device=seen.device)[:, None, None, None] < wanted
    best = (stacked * use).sum(dim=0) / wanted.clamp(min=1)
    mean = torch.where(stacked > -1.5, stacked, torch.zeros_like(stacked)).sum(dim=0) / seen.clamp(min=1)
    return torch.where(seen > 0, (best + mean) / 2, torch.full_like(best, -1.0))


def semi_global(costs: Tensor, guide: Tensor, small: float = 0.08, large: float = 0.6, paths: int = 8) -> Tensor:
    """Costs summed along straight paths into each pixel, with a price on depth steps between neighbours.

    Hirschmüller 2008 (doi 10.1109/TPAMI.2007.1166), eq. 13: one plane costs `small` (his P1), more cost `large` (P2),
    and `large` is lowered where the guide has an edge along the path.

    Args:
        costs: (D, H, W), finite.
        guide: (H, W) grey in [0, 1].
        small, large: In units of `costs`.
        paths: 4, along rows and columns, or 8, along diagonals too.

    Returns:
        (D, H, W), the sum over the paths.

    Raises:
        ValueError: `paths` is neither 4 nor 8.
    """
    if paths not in (4, 8):
        raise ValueError(f"paths is {paths}, needed 4 (rows and columns) or 8 (and diagonals)")
    volume = costs.permute(1, 2, 0).contiguous()  # (H, W, D)
    total = torch.zeros_like(volume)
    for slant in (0,) if paths == 4 else (0, 1, -1):
        total += _scan(volume, guide, small, large, slant)
        total += _scan(volume.flip(0), guide.flip(0), small, large, slant).flip(0)
    across, guide = volume.transpose(0, 1).contiguous(), guide.T
    total += _scan(across, guide, small, large, 0).transpose(0, 1)
    total += _scan(across.flip(0), guide.flip(0), small, large, 0).flip(0).transpose(0, 1)
    return total.permute(2, 0, 1)


def _scan(volume: Tensor, guide: Tensor, small: float, large: float, slant: int) -> Tensor:
    """One path of `semi_global`, from (i - 1, j - slant) to (i, j) of a volume (L, M, D) and guide (L, M)."""
    result = volume.clone()  # where a path begins, it is the cost
    here = slice(max(slant, 0), volume.shape[1] + min(slant, 0))
    there = slice(max(-slant, 0), volume.shape[1] + min(-slant, 0))
    for i in range(1, len(volume)):
        before = result[i - 1, there]
        lowest = before.min(dim=-1, keepdim=True).values
        stepped = F.pad(before, (1, 1), value=torch.inf)
        neighbours = torch.minimum(stepped[:, :-2], stepped[:, 2:]) + small
        edge = (guide[i, here] - guide[i - 1, there]).abs()
        jump = lowest + torch.clamp(large / (1 + EDGE_WEIGHT * edge), min=small)[:, None]
        result[i, here] += torch.minimum(torch.minimum(before, neighbours), jump) - lowest
    return result


def _box(images: Tensor, window: int) -> Tensor:
    """Mean over a window, over fewer pixels at the border. (..., H, W)"""
    return _box_sum(images, window) / _box_sum(torch.ones(images.shape[-2:]).to(images), window)


def _box_sum(images: Tensor, window: int) -> Tensor:
    """Sum over a window, shifted copies over rows and then over columns: pooling takes four times as long. (..., H, W)"""
    height, width = images.shape[-2:]
    half = window // 2
    above = F.pad(images, (0, 0, half, half))
    rows = torch.zeros_like(images)
    for k in range(window):
        rows += above[..., k : k + height, :]
    beside = F.pad(rows, (half, half))
    total = torch.zeros_like(images)
    for k in range(window):
        total += beside[..., k : k + width]
    return total

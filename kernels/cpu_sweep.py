"""Plane sweeps and semi-global matching in C++, as sweep.py, census.py and correlation.py mean them.

Chosen, forced and threaded as the rasterizer in cpu.py. Results are (D, H, W) in shape and (H, W, D) in memory, in
which all functions work, so that nothing is copied between them. Grey sources are sampled from 16-bit copies: ZNCC is at
most 2.2e-4 from float64 and 3e-6 in the median, as that of sweep.py in float32 (tests/parity/test_sweep_kernels.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse3d.kernels.cpu import check, compiled
from sparse3d.kernels.sweep import EDGE_WEIGHT, NOISE
from sparse3d.kernels.sweep_arguments import (
    check_features,
    check_greys,
    check_zncc_window,
    checked_relief,
    checked_transfers,
)


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
    """`sparse3d.kernels.sweep.zncc_sweep`, without gradients and without storing the warped sources.

    Args:
        reference: (H, W) grey in [0, 1]. All tensors are float32 on the CPU.
        K: (3, 3) of `reference`, pixels.
        sources: S of (Hs, Ws) grey, each of its own size.
        source_Ks: (S, 3, 3) of `sources`, pixels.
        reference_to_sources: (S, 4, 4) camera axes of the one to those of the others.
        depths: (D,) world units.
        window: Side in pixels, odd, 1 to 11.
        relief: (H, W) what depths are multiplied by at each pixel: the shape of a surface at depth 1; planes when left out.

    Returns:
        (D, H, W) in [-1, 1]; -1 where no source sees the pixel at that depth.

    Raises:
        ValueError: a tensor has another shape, type or device, an image holds infinity or NaN, relief what is not
            above 0, or the window is out of its range.
    """
    check_greys(reference, sources)
    check_zncc_window(window)
    transfers = checked_transfers(K, source_Ks, reference_to_sources, depths, len(sources))
    scores = torch.empty(*reference.shape, len(depths))
    compiled().zncc_sweep(
        reference.detach().contiguous(),
        [source.detach().contiguous() for source in sources],
        transfers,
        depths.detach().contiguous(),
        checked_relief(relief, reference),
        window,
        NOISE**2,
        scores,
        torch.get_num_threads(),
    )
    return scores.permute(2, 0, 1)


def census_sweep(
    reference: Tensor,
    K: Tensor,
    sources: Sequence[Tensor],
    source_Ks: Tensor,
    reference_to_sources: Tensor,
    depths: Tensor,
    relief: Tensor | None = None,
) -> Tensor:
    """`sparse3d.kernels.census.census_sweep` without storing the warped sources.

    Args:
        reference: (H, W) grey, any range. All tensors are float32 on the CPU.
        K: (3, 3) of `reference`, pixels.
        sources: S of (Hs, Ws) grey, each of its own size and range. Greys closer than 1/65535 of an image's range count
            as equal.
        source_Ks: (S, 3, 3) of `sources`, pixels.
        reference_to_sources: (S, 4, 4) camera axes of the one to those of the others.
        depths: (D,) world units.
        relief: (H, W) what depths are multiplied by at each pixel: the shape of a surface at depth 1; planes when left out.

    Returns:
        (D, H, W) in [-1, 1]; -1 where no source sees the pixel at that depth.

    Raises:
        ValueError: a tensor has another shape, type or device, an image holds infinity or
            NaN, or relief what is not above 0.
    """
    check_greys(reference, sources)
    transfers = checked_transfers(K, source_Ks, reference_to_sources, depths, len(sources))
    scores = torch.empty(*reference.shape, len(depths))
    compiled().census_sweep(
        reference.detach().contiguous(),
        [source.detach().contiguous() for source in sources],
        transfers,
        depths.detach().contiguous(),
        checked_relief(relief, reference),
        scores,
        torch.get_num_threads(),
    )
    return scores.permute(2, 0, 1)


def feature_sweep(
    reference: Tensor,
    K: Tensor,
    sources: Tensor,
    source_Ks: Tensor,
    reference_to_sources: Tensor,
    depths: Tensor,
) -> Tensor:
    """`sparse3d.kernels.correlation.feature_sweep` for inference: without gradients or storing the warped sources.

    Args:
        reference: (C, H, W). All tensors are float32 on the CPU.
        K: (3, 3) of `reference`, in its pixels.
        sources: (S, C, Hs, Ws)
        source_Ks: (S, 3, 3) of `sources`, in their pixels.
        reference_to_sources: (S, 4, 4) camera axes of the one to those of the others.
        depths: (D,) world units.

    Returns:
        (D, H, W), in units of the features squared.

    Raises:
        ValueError: a tensor has another shape, type or device, or features hold infinity or NaN.
    """
    check_features(reference, sources)
    transfers = checked_transfers(K, source_Ks, reference_to_sources, depths, len(sources))
    scores = torch.empty(*reference.shape[1:], len(depths))
    compiled().feature_sweep(
        reference.detach().contiguous(),
        sources.detach().contiguous(),
        transfers,
        depths.detach().contiguous(),
        scores,
        torch.get_num_threads(),
    )
    return scores.permute(2, 0, 1)


def semi_global(costs: Tensor, guide: Tensor, small: float = 0.08, large: float = 0.6, paths: int = 8) -> Tensor:
    """`sparse3d.kernels.sweep.semi_global`, without gradients.

    Args:
        costs: (D, H, W), finite. All tensors are float32 on the CPU.
        guide: (H, W) grey in [0, 1].
        small, large: In units of `costs`.
        paths: 4, along rows and columns, or 8, along diagonals too.

    Returns:
        (D, H, W), the sum over the paths.

    Raises:
        ValueError: a tensor has another shape, type or device, `paths` is neither 4 nor 8, or a price is negative.
    """
    check("costs", costs, "D H W", empty=False)
    check("guide", guide, f"{costs.shape[1]} {costs.shape[2]}")
    if paths not in (4, 8):
        raise ValueError(f"paths is {paths}, needed 4 (rows and columns) or 8 (and diagonals)")
    for name, price in (("small", small), ("large", large)):
        if not price >= 0:
            raise ValueError(f"{name} is {price}, needed a cost of 0 or more")
    volume = costs.detach().permute(1, 2, 0).contiguous()
    total = torch.empty(volume.shape)
    compiled().semi_global(
        volume, guide.detach().contiguous(), small, large, EDGE_WEIGHT, paths, total, torch.get_num_threads()
    )
    return total.permute(2, 0, 1)

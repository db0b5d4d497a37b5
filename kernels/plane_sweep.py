"""Plane sweeps and semi-global matching wherever the tensors are: the fastest form of each that this install has.

On the CPU cpu_sweep.py, on a CUDA GPU triton_sweep.py where Triton is installed (PyTorch's wheels for CUDA bring it), and
otherwise the PyTorch forms in sweep.py, census.py and correlation.py: on other devices, for other types than float32, and
where a gradient is wanted. They mean the same; tests/parity holds the fast ones to the PyTorch ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from sparse3d.kernels import census, correlation, cpu, cpu_sweep, sweep


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
    """Matching score of a view with its sources over depth planes by zero-mean normalized cross-correlation.

    `sparse3d.kernels.sweep.zncc_sweep` says how.

    Args:
        reference: (H, W) grey in [0, 1]. All tensors are of one type on one device.
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
        ValueError: from the fast forms, when a tensor has another shape, type or device, an image holds infinity or NaN,
            relief what is not above 0, or the window is out of its range.
    """
    form = _fast(reference, sources if relief is None else (*sources, relief)) or sweep
    scores: Tensor = form.zncc_sweep(reference, K, sources, source_Ks, reference_to_sources, depths, window, relief)
    return scores


def census_sweep(
    reference: Tensor,
    K: Tensor,
    sources: Sequence[Tensor],
    source_Ks: Tensor,
    reference_to_sources: Tensor,
    depths: Tensor,
    relief: Tensor | None = None,
) -> Tensor:
    """Matching score of a view with its sources over depth planes by the census transform.

    `sparse3d.kernels.census.census_sweep` says how.

    Args:
        reference: (H, W) grey, any range. All tensors are of one type on one device.
        K: (3, 3) of `reference`, pixels.
        sources: S of (Hs, Ws) grey, each of its own size and range.
        source_Ks: (S, 3, 3) of `sources`, pixels.
        reference_to_sources: (S, 4, 4) camera axes of the one to those of the others.
        depths: (D,) world units.
        relief: (H, W) what depths are multiplied by at each pixel: the shape of a surface at depth 1; planes when left out.

    Returns:
        (D, H, W) in [-1, 1]; -1 where no source sees the pixel at that depth.

    Raises:
        ValueError: from the fast forms, when a tensor has another shape, type or device, an image holds infinity or
            NaN, or relief what is not above 0.
    """
    form = _fast(reference, sources if relief is None else (*sources, relief)) or census
    scores: Tensor = form.census_sweep(reference, K, sources, source_Ks, reference_to_sources, depths, relief)
    return scores


def feature_sweep(
    reference: Tensor,
    K: Tensor,
    sources: Tensor,
    source_Ks: Tensor,
    reference_to_sources: Tensor,
    depths: Tensor,
) -> Tensor:
    """Dot products of the features of a view with those of its sources over depth planes.

    `sparse3d.kernels.correlation.feature_sweep` says how.

    Args:
        reference: (C, H, W). All tensors are of one type on one device.
        K: (3, 3) of `reference`, in its pixels.
        sources: (S, C, Hs, Ws)
        source_Ks: (S, 3, 3) of `sources`, in their pixels.
        reference_to_sources: (S, 4, 4) camera axes of the one to those of the others.
        depths: (D,) world units.

    Returns:
        (D, H, W), in units of the features squared.

    Raises:
        ValueError: from the fast forms, when a tensor has another shape, type or device, or features hold infinity or
            NaN.
    """
    form = _fast(reference, (sources,)) or correlation
    scores: Tensor = form.feature_sweep(reference, K, sources, source_Ks, reference_to_sources, depths)
    return scores


def semi_global(costs: Tensor, guide: Tensor, small: float = 0.08, large: float = 0.6, paths: int = 8) -> Tensor:
    """Costs summed along straight paths into each pixel, with a price on depth steps between neighbours.

    `sparse3d.kernels.sweep.semi_global` says how. On a GPU that is what runs: there is no Triton form.

    Args:
        costs: (D, H, W), finite.
        guide: (H, W) grey in [0, 1], of the same type on the same device.
        small, large: In units of `costs`.
        paths: 4, along rows and columns, or 8, along diagonals too.

    Returns:
        (D, H, W), the sum over the paths.

    Raises:
        ValueError: `paths` is neither 4 nor 8; on the CPU also when a tensor has another shape, type or device.
    """
    form = cpu_sweep if _fast(costs, (guide,)) is cpu_sweep else sweep
    return form.semi_global(costs, guide, small, large, paths)


def _fast(reference: Tensor, others: Iterable[Tensor]) -> ModuleType | None:
    """The module with the fast forms for such tensors; None when they are for the PyTorch forms."""
    wants_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (reference, *others))
    if reference.dtype != torch.float32 or wants_gradient:
        return None
    if reference.device.type == "cpu" and cpu.available():
        return cpu_sweep
    if reference.device.type == "cuda" and find_spec("triton") is not None:
        return import_module("sparse3d.kernels.triton_sweep")
    return None

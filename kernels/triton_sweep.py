"""Plane sweeps on a CUDA GPU in Triton, as sweep.py, census.py and correlation.py mean them.

With TRITON_INTERPRET=1 in the environment before the first import of Triton, the kernels run in its interpreter, on CPU
tensors and slowly: that is how they are tested where there is no GPU.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from sparse3d.kernels import census, sweep, triton_kernels
from sparse3d.kernels.sweep_arguments import (
    check_features,
    check_greys,
    check_zncc_window,
    checked_relief,
    checked_transfers,
)

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
_BLOCK = 256  # pixels of a program
_FEATURE_BLOCK, _FEATURE_CHANNELS = 32, 64  # of a program, at most


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
        reference: (H, W) grey in [0, 1]. All tensors are float32 on one CUDA device.
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
    check_zncc_window(window)
    return _sweep(
        triton_kernels.zncc,
        (sweep.NOISE**2, window),
        reference,
        K,
        sources,
        source_Ks,
        reference_to_sources,
        depths,
        relief,
    )


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
        reference: (H, W) grey, any range. All tensors are float32 on one CUDA device.
        K: (3, 3) of `reference`, pixels.
        sources: S of (Hs, Ws) grey, each of its own size and range.
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
    settings = (2 * census.HALF_WIDTH + 1, 2 * census.HALF_HEIGHT + 1)
    return _sweep(
        triton_kernels.census, settings, reference, K, sources, source_Ks, reference_to_sources, depths, relief
    )


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
        reference: (C, H, W). All tensors are float32 on one CUDA device.
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
    check_features(reference, sources, DEVICE)
    transfers = checked_transfers(K, source_Ks, reference_to_sources, depths, len(sources), DEVICE).float()
    _check_finite("reference", reference)
    for index, source in enumerate(sources):
        _check_finite(f"source {index}", source)
    channels, height, width = reference.shape
    scores = reference.new_empty(len(depths), height, width)
    with torch.cuda.device_of(reference):
        triton_kernels.correlate[triton.cdiv(height * width, _FEATURE_BLOCK), len(depths)](
            reference.detach().permute(1, 2, 0).contiguous(),
            width,
            height,
            sources.detach().permute(0, 2, 3, 1).contiguous(),
            sources.shape[3],
            sources.shape[2],
            len(sources),
            channels,
            transfers,
            depths.detach().contiguous(),
            scores,
            1 / (len(sources) * channels**0.5),
            CHANNELS=min(_FEATURE_CHANNELS, triton.next_power_of_2(channels)),
            BLOCK=_FEATURE_BLOCK,
        )
    return scores


def _sweep(
    kernel: triton.JITFunction,
    settings: tuple,
    reference: Tensor,
    K: Tensor,
    sources: Sequence[Tensor],
    source_Ks: Tensor,
    reference_to_sources: Tensor,
    depths: Tensor,
    relief: Tensor | None,
) -> Tensor:
    """Runs a kernel for grey images on each source, then pools their scores."""
    check_greys(reference, sources, DEVICE)
    transfers = checked_transfers(K, source_Ks, reference_to_sources, depths, len(sources), DEVICE).float()
    _check_finite("reference", reference)
    shape = checked_relief(relief, reference, DEVICE)
    if not (shape > 0).all():
        raise ValueError("relief holds numbers that are not above 0")
    _check_finite("relief", shape)
    height, width = reference.shape
    pixels, image = height * width, _centred(reference)
    volumes = reference.new_empty(len(sources), len(depths), height, width)
    with torch.cuda.device_of(reference):
        for index, source in enumerate(sources):
            _check_finite(f"source {index}", source)
            kernel[triton.cdiv(pixels, _BLOCK), len(depths)](
                image,
                width,
                height,
                _centred(source),
                source.shape[1],
                source.shape[0],
                transfers[index],
                depths.detach().contiguous(),
                shape,
                volumes[index],
                *settings,
                BLOCK=_BLOCK,
            )
        if len(sources) == 1:
            return volumes[0].clamp_(min=-1)
        scores = torch.empty_like(volumes[0])
        triton_kernels.pooled[(triton.cdiv(scores.numel(), _BLOCK),)](
            volumes, len(volumes), scores, scores.numel(), BLOCK=_BLOCK
        )
    return scores


def _check_finite(name: str, tensor: Tensor) -> None:
    if not tensor.isfinite().all():
        raise ValueError(f"{name} holds infinity or NaN")


def _centred(image: Tensor) -> Tensor:
    """With its middle at zero, where sums over windows lose fewest digits. (H, W) -> (H, W)"""
    image = image.detach()
    return (image - (image.amin() + image.amax()) / 2).contiguous()

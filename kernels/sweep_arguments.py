"""What the fast plane sweeps ask of their arguments, on any device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse3d.kernels.cpu import check
from sparse3d.kernels.sweep import plane_transfer

MOST_WINDOW = 11  # kZnccMostWindow of layout_sweep.h


def check_greys(reference: Tensor, sources: Sequence[Tensor], device: str = "cpu") -> None:
    """Holds a grey image (H, W) and S others (Hs, Ws), each of its own size, to float32, their shapes and the device.

    Raises:
        ValueError: an image is of another shape, type or device or has no pixels, or there are no sources.
    """
    check("reference", reference, "H W", empty=False, device=device)
    for index, source in enumerate(sources):
        check(f"sources[{index}]", source, "Hs Ws", empty=False, device=device)
    if len(sources) == 0:
        raise ValueError("sources is empty, needed at least one image to compare with")


def check_features(reference: Tensor, sources: Tensor, device: str = "cpu") -> None:
    """Holds features (C, H, W) and (S, C, Hs, Ws) to float32, their shapes and the device.

    Raises:
        ValueError: a tensor is of another shape, type or device, or has no channels or pixels, or there are no sources.
    """
    check("reference", reference, "C H W", empty=False, device=device)
    check("sources", sources, f"S {reference.shape[0]} Hs Ws", empty=False, device=device)


def check_zncc_window(window: int) -> None:
    """Holds the side of a ZNCC window to what the kernels are made for.

    Raises:
        ValueError: it is even, below 1 or above 11 pixels.
    """
    if window % 2 == 0 or not 1 <= window <= MOST_WINDOW:
        raise ValueError(f"window is {window}, needed an odd number of pixels from 1 to {MOST_WINDOW}")


def checked_relief(relief: Tensor | None, reference: Tensor, device: str = "cpu") -> Tensor:
    """What depths are multiplied by at each pixel of `reference` (H, W): ones when left out.

    Returns:
        (H, W) float32 on the device.

    Raises:
        ValueError: it has another shape, type or device. Whether it is above 0 is for the kernels to see.
    """
    if relief is None:
        return torch.ones(reference.shape, dtype=torch.float32, device=reference.device)
    check("relief", relief, f"{reference.shape[0]} {reference.shape[1]}", device=device)
    return relief.detach().contiguous()


def checked_transfers(
    K: Tensor, source_Ks: Tensor, reference_to_sources: Tensor, depths: Tensor, sources: int, device: str = "cpu"
) -> Tensor:
    """`plane_transfer` of each source, from cameras and depths that are held to their types, device and shapes.

    Args:
        K: (3, 3) of the reference, pixels.
        source_Ks: (S, 3, 3) of the sources, pixels.
        reference_to_sources: (S, 4, 4) camera axes of the one to those of the others.
        depths: (D,) world units.
        sources: S.
        device: That all four have to be on.

    Returns:
        (S, 3, 4) float64: the matrix and behind it the shift.

    Raises:
        ValueError: a tensor has another shape, type or device.
    """
    check("K", K, "3 3", device=device)
    check("source_Ks", source_Ks, f"{sources} 3 3", device=device)
    check("reference_to_sources", reference_to_sources, f"{sources} 4 4", device=device)
    check("depths", depths, "D", empty=False, device=device)
    turn, shift = plane_transfer(K.double(), source_Ks.double(), reference_to_sources.double())
    return torch.cat([turn, shift[..., None]], dim=-1).detach().contiguous()

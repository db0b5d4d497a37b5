"""The forward warp in C++, as warp.py means it.

Chosen, forced and threaded as the rasterizer in cpu.py. It differs from warp.py in float64 by the rounding of float32:
a vertex may be rounded to the next 1/1024 pixel, which moves colours by that much, and where a pixel's centre lies that
close to an edge of a surface the two may disagree (tests/parity/test_warp_kernels.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sparse3d.kernels.cpu import check, compiled
from sparse3d.kernels.sweep import plane_transfer
from sparse3d.kernels.warp import Warp, check_arguments


def forward_warp(
    images: Sequence[Tensor],
    depths: Sequence[Tensor],
    Ks: Tensor,
    source_to_target: Tensor,
    K: Tensor,
    height: int,
    width: int,
    *,
    near_plane: float = 0.01,
    steepest_deg: float = 85.0,
    tolerance: float = 0.02,
) -> Warp:
    """`sparse3d.kernels.warp.forward_warp`.

    Args:
        images: V of (3, Hs, Ws), each of its own size. All tensors are float32 on the CPU.
        depths: V of (Hs, Ws) world units; what is not above 0 and finite is unknown.
        Ks: (V, 3, 3) of `images`, pixels.
        source_to_target: (V, 4, 4) camera axes of the photos to those of the target.
        K: (3, 3) of the target, pixels.
        height, width: Of the target, at most 16384.
        near_plane: World units, above 0.
        steepest_deg: In (0, 90).
        tolerance: Relative difference of depth, above 0.

    Returns:
        Colour, depth, validity.

    Raises:
        ValueError: an argument has another shape, type or device, or a number is out of its range.
    """
    check("K", K, "3 3")
    check_arguments(images, depths, Ks, source_to_target, K, height, width, near_plane, steepest_deg, tolerance)
    turn, shift = plane_transfer(Ks.double(), K.double(), source_to_target.double())
    color, depth, validity = torch.empty(3, height, width), torch.empty(height, width), torch.empty(height, width)
    compiled().forward_warp(
        [image.detach().contiguous() for image in images],
        [values.detach().contiguous() for values in depths],
        torch.cat([turn, shift[..., None]], dim=-1).detach().contiguous(),
        Ks.detach().contiguous(),
        near_plane,
        math.tan(math.radians(steepest_deg)),
        tolerance,
        color,
        depth,
        validity,
        torch.get_num_threads(),
    )
    return Warp(color, depth, validity)

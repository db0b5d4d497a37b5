"""The depth planes of a sweep, and the choice among them."""

from __future__ import annotations

import torch
from torch import Tensor


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

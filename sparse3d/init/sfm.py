"""Gaussians on the sparse points of structure from motion, as 3DGS starts."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse3d.kernels.reference import SH_C0
from sparse3d.types import Gaussians, Points

START_OPACITY = 0.1  # 3DGS
MAX_ERROR_PX = 4.0  # mean reprojection error of a point that is believed


def sh_from_rgb(rgb: Tensor) -> Tensor:
    """Degree-0 coefficients that draw a colour, the inverse of `kernels.reference.sh_to_rgb`. (N, 3) -> (N, 1, 3)"""
    return ((rgb - 0.5) / SH_C0)[:, None, :]


def neighbour_distance(points: Tensor, neighbours: int = 3) -> Tensor:
    """Root mean square distance to the nearest other points, as 3DGS sizes its first Gaussians.

    Args:
        points: (P, 3)
        neighbours: How many, at least 1.

    Returns:
        (P,) same units; with fewer than 2 points, 1.
    """
    if len(points) < 2:
        return torch.ones(len(points))
    count = min(neighbours, len(points) - 1)
    parts = []
    for chunk in points.split(1024):
        # by differences: cdist's own choice, |a|^2 + |b|^2 - 2 a.b, loses small distances far from the origin
        distances = torch.cdist(chunk, points, compute_mode="donot_use_mm_for_euclid_dist")
        parts.append(distances.topk(count + 1, largest=False).values[:, 1:])
    return torch.cat(parts).pow(2).mean(dim=1).sqrt()


def from_points(points: Points) -> Gaussians:
    """One round Gaussian for each sparse point, as wide as the gap to its neighbours.

    Args:
        points: P points; those with a mean reprojection error above 4 px are left out.

    Returns:
        Gaussians of SH degree 0, opacity 0.1.
    """
    good = points.within(MAX_ERROR_PX)
    distance = neighbour_distance(good.xyz).clamp(min=1e-7)
    return round_gaussians(good.xyz, distance, START_OPACITY, good.rgb)


def round_gaussians(centres: Tensor, sigma: Tensor, opacity: float, rgb: Tensor) -> Gaussians:
    """Gaussians as wide in all directions, of one opacity and SH degree 0.

    Args:
        centres: (N, 3)
        sigma: (N,) standard deviation, world units.
        opacity: In (0, 1).
        rgb: (N, 3) in [0, 1].
    """
    quats = torch.zeros(len(centres), 4)
    quats[:, 0] = 1.0
    log_scales = sigma.log()[:, None].expand(-1, 3).contiguous()
    return Gaussians(centres, quats, log_scales, torch.full((len(centres),), opacity).logit(), sh_from_rgb(rgb))

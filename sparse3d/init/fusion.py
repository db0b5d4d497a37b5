"""Depth maps to Gaussians: flat ones on the surfaces, and what several views agree on only once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sparse3d.init.depth_map import DepthMap, block_size, sampled
from sparse3d.init.guesses import guesses
from sparse3d.init.initialization import Origin, Start
from sparse3d.init.sfm import sh_from_rgb
from sparse3d.init.surfels import Surfels, surfels
from sparse3d.init.visibility import looked_through
from sparse3d.types import Gaussians

_SIGMA = 0.6  # standard deviation along the surface, in distances to the next Gaussian
_THICKNESS = 0.25  # of a Gaussian across the surface, of its smaller one along it


def fused(
    maps: Sequence[DepthMap],
    stride: int,
    tolerance: float,
    drawn: Callable[[int, Surfels], Gaussians] | None = None,
) -> Start:
    """Gaussians on the surfaces of depth maps, and guesses where there is no depth.

    Args:
        maps: Depth maps with their views.
        stride: One Gaussian for each stride x stride pixels.
        tolerance: Relative difference of depths that still agree.
        drawn: Gaussians of the surfels of the map of that index; `flat_gaussians` when left out.

    Returns:
        Of SH degree 0: flat on the surface, as large as the block of pixels they were seen in, as opaque as their depth is certain.
        A surface that several views see is taken from one of them, at the mean of what they say; what one view alone sees
        and another looks through is dropped.
    """
    parts = []
    for index, found in enumerate(maps):
        others = [*maps[:index], *maps[index + 1 :]]
        seen = surfels(found, stride)
        seen = seen[~_covered(seen, maps[:index], stride, tolerance)]
        seen = seen[~((seen.support == 0) & looked_through(seen.centres, others, tolerance))]
        seen = _averaged(seen, found, others, tolerance)
        origin = torch.where(seen.filled, int(Origin.FILLED), int(Origin.MATCHED)).to(torch.uint8)
        parts.append(Start(flat_gaussians(seen) if drawn is None else drawn(index, seen), origin))
        parts.append(Start.of(guesses(found, others, 2 * stride, tolerance), Origin.GUESSED))
    return Start.joined(parts)


def flat_gaussians(seen: Surfels) -> Gaussians:
    """Flat ones as large as the blocks of the surfels, as opaque as these are certain."""
    along = _SIGMA * seen.spacing
    scales = torch.cat([along, _THICKNESS * along[:, :1]], dim=1)
    opacities = 0.1 + 0.7 * seen.confidence
    return Gaussians(seen.centres, seen.quats, scales.log(), opacities.logit(), sh_from_rgb(seen.color))


def _averaged(seen: Surfels, found: DepthMap, others: Sequence[DepthMap], tolerance: float) -> Surfels:
    """The surfels moved along their rays to the mean of their own depth and that of the views that agree, by confidence."""
    centre = found.view.c2w[:3, 3]
    rays = seen.centres - centre
    length = rays.norm(dim=1).clamp(min=1e-12)
    total, weight = seen.confidence.clone(), seen.confidence.clone()
    for other in others:
        there, z = sampled(other.depth, other.view, seen.centres)
        certain, _ = sampled(other.confidence, other.view, seen.centres)
        ratio = there / z.clamp(min=1e-12)  # how much farther the other sees it, along its own ray
        moved = other.view.c2w[:3, 3] + (seen.centres - other.view.c2w[:3, 3]) * ratio[:, None]
        factor = ((moved - centre) * rays).sum(dim=1) / length**2
        agrees = (there > 0) & ((ratio - 1).abs() <= tolerance) & ((factor - 1).abs() <= tolerance)
        total += torch.where(agrees, certain * factor, 0.0)
        weight += torch.where(agrees, certain, 0.0)
    return replace(seen, centres=centre + rays * torch.where(weight > 0, total / weight, 1.0)[:, None])


def _covered(seen: Surfels, taken: Sequence[DepthMap], stride: int, tolerance: float) -> Tensor:
    """Which supported surfels an earlier view already has at this depth and at least about as finely. (M,) bool"""
    covered = torch.zeros(len(seen), dtype=torch.bool)
    for earlier in taken:
        there, z = sampled(earlier.depth, earlier.view, seen.centres)
        spacing = z * block_size(earlier.view, stride)
        agrees = (there > 0) & ((there - z).abs() <= tolerance * z)
        covered |= agrees & (seen.support > 0) & (spacing <= 1.4 * seen.spacing[:, 0])
    return covered

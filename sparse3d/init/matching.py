"""Depth of one view from its sources: costs over planes, smoothed, and the least of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.geometry import project
from sparse3d.init.planes import at_depths, tilts
from sparse3d.kernels import plane_sweep
from sparse3d.types import View

_GREY = (0.299, 0.587, 0.114)
_CENSUS = 0.5  # weight of the census transform against ZNCC, which is blunter and heeds no exposure
_COARSE = 0.4  # weight of the half-sized pictures against the full ones
_UNSEEN = -0.999  # scores below this, but for rounding -1, are of places that no source sees
_SMALL, _LARGE = 0.08, 2.4  # prices of semi-global matching for a step of one plane, and for a jump
_NEAR_WINNER = 3  # planes on either side of the winner that are no rivals to it
_POINT_WEIGHT, _POINT_REACH = 0.5, 4.0  # of a sparse point's pull, and after how many planes it pulls no harder


@dataclass(frozen=True)
class Match:
    """What a sweep found for one view."""

    depth: Tensor  # (H, W) world units
    score: Tensor  # (H, W) of the chosen depth, in [-1, 1]; -1 where no source sees it
    margin: Tensor  # (H, W) how much worse the best depth elsewhere is, after smoothing, summed over its eight paths


def match(
    view: View,
    sources: Sequence[View],
    depths: Tensor,
    window: int,
    points: Tensor,
    similar: Tensor | None = None,
    similar_weight: float = 0.0,
) -> Match:
    """Depth of a view against its sources.

    Costs are 1 - scores: of the pictures the mean of ZNCC and census, which is exact, and of the pictures at half their size
    ZNCC along planes that are tilted too, which holds where cameras are far apart. Smoothed by semi-global matching
    (Hirschmüller 2008), with the best plane's parabola between planes.

    Args:
        view: (H, W) pixels.
        sources: One or more.
        depths: (D,) world units, even in inverse depth.
        window: Side of the ZNCC window, odd, pixels.
        points: (P, 3) sparse points that the view sees, in the world; their depths are preferred there.
        similar: (D, h, w) scores in [-1, 1] by something else than grey values, at any size; none when left out.
        similar_weight: Share that they have in the scores.

    Returns:
        The match.
    """
    fine = _fine(view, sources, depths, window)
    coarse = _coarse(_halved(view), [_halved(source) for source in sources], depths, window)
    scores = fine.mul_(1 - _COARSE).add_(F.interpolate(coarse[None], fine.shape[1:], mode="bilinear")[0], alpha=_COARSE)
    unseen = scores < _UNSEEN
    if similar is not None:
        scores = scores.lerp_(F.interpolate(similar[None], fine.shape[1:], mode="bilinear")[0], similar_weight)
    # what no source sees costs as much as what looks unrelated, or pixels near a border would shun their true depth
    costs = torch.where(unseen, torch.ones_like(scores), 1 - scores)
    _prefer(costs, view, depths, points)
    smooth = plane_sweep.semi_global(costs, grey(view.image), _SMALL, _LARGE)
    depth, plane = winner(smooth, depths)
    return Match(depth, scores.gather(0, plane[None])[0], _margin(smooth, plane))


def grey(image: Tensor) -> Tensor:
    """Luma of an image. (3, H, W) -> (H, W)"""
    return (image * image.new_tensor(_GREY)[:, None, None]).sum(dim=0)


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


def _halved(view: View) -> View:
    return view.resized(max(1, view.height // 2), max(1, view.width // 2))


def _arguments(view: View, sources: Sequence[View], depths: Tensor) -> dict[str, Any]:
    """What all sweeps ask for."""
    return {
        "reference": grey(view.image),
        "K": view.K,
        "sources": [grey(source.image) for source in sources],
        "source_Ks": torch.stack([source.K for source in sources]),
        "reference_to_sources": torch.stack([source.cameras.w2c[0] @ view.c2w for source in sources]),
        "depths": depths,
    }


def _fine(view: View, sources: Sequence[View], depths: Tensor, window: int) -> Tensor:
    """Mean of ZNCC and census scores. (D, H, W) in [-1, 1]"""
    arguments = _arguments(view, sources, depths)
    return plane_sweep.zncc_sweep(**arguments, window=window).lerp_(plane_sweep.census_sweep(**arguments), _CENSUS)


def _coarse(view: View, sources: Sequence[View], depths: Tensor, window: int) -> Tensor:
    """ZNCC scores, the best over planes as they are and tilted. (D, H, W) in [-1, 1]"""
    arguments = _arguments(view, sources, depths)
    best = plane_sweep.zncc_sweep(**arguments, window=window)
    for relief in tilts(view):
        tilted = at_depths(plane_sweep.zncc_sweep(**arguments, window=window, relief=relief), depths, relief)
        best = torch.maximum(best, tilted, out=best)
    return best


def _prefer(costs: Tensor, view: View, depths: Tensor, points: Tensor) -> None:
    """Raises the costs of depths away from a sparse point's at its pixel, in place; of several on a pixel the nearest counts."""
    pixels, z = project(points, view.cameras.w2c[0], view.K)
    x, y = pixels.long().unbind(1)
    seen = (z > 0) & (pixels >= 0).all(dim=1) & (x < view.width) & (y < view.height)
    nearest = torch.full((view.height * view.width,), torch.inf)
    nearest.scatter_reduce_(0, y[seen] * view.width + x[seen], z[seen], "amin")
    nearest = nearest.reshape(view.height, view.width)
    place = nearest.isfinite()
    inverse = 1 / depths
    step = (inverse[-1] - inverse[0]) / (len(depths) - 1)
    planes_off = ((inverse[:, None] - 1 / nearest[place]) / step).abs()
    costs[:, place] += _POINT_WEIGHT * (planes_off / _POINT_REACH).clamp(max=1)


def _margin(smooth: Tensor, plane: Tensor) -> Tensor:
    """Least cost away from the winner less the winner's; 0 where no plane is away from it. (H, W)"""
    volume, index = smooth.permute(1, 2, 0), plane[..., None]
    least = volume.gather(2, index)
    others = volume.clone()
    reach = torch.arange(-_NEAR_WINNER, _NEAR_WINNER + 1)
    others.scatter_(2, (index + reach).clamp(0, volume.shape[2] - 1), torch.inf)
    rival = others.amin(dim=2, keepdim=True)
    return torch.where(rival.isinf(), 0.0, rival - least)[..., 0].clamp(max=8 * _LARGE)

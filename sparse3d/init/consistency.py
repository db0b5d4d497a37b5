"""Whether views agree on where things are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse3d.geometry import project
from sparse3d.init.depth_map import sampled, world_points
from sparse3d.types import View

_BACK_PX = 2.0  # pixels that a point may be off after going to another view and back


@dataclass(frozen=True)
class Agreement:
    """What the other views say of each pixel's depth."""

    support: Tensor  # (H, W) int, how many put a surface there too
    against: Tensor  # (H, W) int, how many look through it: what they see lies behind


def agreement(index: int, views: Sequence[View], depths: Sequence[Tensor], tolerance: float) -> Agreement:
    """Compares the depth of one view with that of all others.

    Another view supports a point as `seen_again` says.

    Args:
        index: Which view.
        views: V of them.
        depths: V of (H, W), world units, 0 where unknown.
        tolerance: Relative difference of depths.

    Returns:
        Zeros where the view itself has no depth.
    """
    view, depth = views[index], depths[index]
    shape, known = depth.shape, depth > 0
    points = world_points(view, depth).reshape(-1, 3)
    support, against = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    rows, columns = torch.meshgrid(*(torch.arange(size) + 0.5 for size in shape), indexing="ij")
    pixels = torch.stack([columns, rows], dim=-1).reshape(-1, 2)
    for other, other_view in enumerate(views):
        if other == index:
            continue
        there, z, same = seen_again(points, pixels, view, other_view, depths[other], tolerance)
        support += same.reshape(shape) & known
        against += ((there > 0) & (z > 0) & (z < there * (1 - tolerance))).reshape(shape) & known & ~same.reshape(shape)
    return Agreement(support, against)


def seen_again(
    points: Tensor, pixels: Tensor, view: View, other: View, depth: Tensor, tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What another view's depth is at points of a view, and whether it is the same surface.

    It is where the other's depth is that of the point within `tolerance`, and that depth brought back into the first view lands on
    the pixel it came from (the geometric check of MVSNet, arXiv:1804.02505, section 4.2).

    Args:
        points: (P, 3) in the world.
        pixels: (P, 2) where `view` has them.
        view: The view they are from.
        other: The view that is asked.
        depth: (H, W) of `other`, world units, 0 where unknown.
        tolerance: Relative difference of depths.

    Returns:
        (P,) depth of the other view there, 0 where unknown or outside; (P,) depth of the points in it; (P,) bool, the same.
    """
    there, z = sampled(depth, other, points)
    same = (there > 0) & ((there - z).abs() <= tolerance * z)
    # the other's own point, on the same ray of the other view
    centre = other.c2w[:3, 3]
    back = centre + (points - centre) * (there / z.clamp(min=1e-12))[:, None]
    returned = project(back, view.cameras.w2c[0], view.K)[0]
    return there, z, same & ((returned - pixels).norm(dim=1) <= _BACK_PX)


def confidence(score: Tensor, margin: Tensor, agreed: Agreement) -> Tensor:
    """How likely depths are right within 3 %.

    Logistic regression on points of the full models of six photo sets, of which 3 or 6 views were matched, each set with the same
    weight. On a set that it was not fitted to, what it calls 0.9 to 0.95 is right in 0.85 to 1.0 of the cases
    (benchmarks/confidence.py, which fits it).

    Args:
        score: (H, W) of the match, in [-1, 1].
        margin: (H, W) how much worse the next best depth is, see `matching.Match`.
        agreed: What the other views say.

    Returns:
        (H, W) in [0, 1].
    """
    return torch.sigmoid(
        -2.06
        + 0.99 * score.clamp(0, 1)
        + 3.32 * margin.clamp(max=8) / 8
        + 1.85 * (agreed.support >= 1)
        + 0.53 * (agreed.support >= 2)
        - 0.80 * agreed.against.clamp(max=2)
    )

"""Where to look from around a single photo: outwards in rings, the nearest views first."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from sparse3d.paths import look_at
from sparse3d.types import Cameras, View

WIDER = 1.4  # tangent of half the field of view of the scaffold over the photo's
RINGS = 3
_TO_AND_FRO = 0.4  # of a ring's radius: how far its cameras go along the axis
_TURNS = 2.0  # of the spiral


def scaffold(photo: View) -> Cameras:
    """The photo's camera with a wider view: what lies around the picture is filled once, in context (VistaDream, arXiv:2410.16892, section 3.1)."""
    K = photo.K.clone()
    K[0, 0] /= WIDER
    K[1, 1] /= WIDER
    return Cameras(photo.c2w[None], K[None], photo.height, photo.width)


def rings(photo: View, distance: float, radius: float, count: int, used: int = RINGS) -> Tensor:
    """Cameras on rings around the photo's, which look at what it looks at.

    Args:
        photo: Whose camera it is about.
        distance: Of what it looks at, world units.
        radius: Of the outermost ring, world units.
        count: At least 1.
        used: How many rings; fewer for fewer views.

    Returns:
        (count, 4, 4) camera to world, inner rings first; outer rings have more.
    """
    used = min(used, count)
    share = [math.floor(count * (ring + 1) ** 2 / used**2) for ring in range(used)]  # as many as the discs' areas
    share = [max(total, ring + 1) for ring, total in enumerate(share)]
    sizes = [share[0], *(b - a for a, b in pairwise(share))]
    offsets = []
    for ring, size in enumerate(sizes):
        turned = math.pi * ring / max(size, 1)  # views of one ring look between those of the last
        for index in range(size):
            angle = 2 * math.pi * index / size + turned
            offsets.append(_offset(radius * (ring + 1) / used, angle))
    return _looking(photo, distance, torch.stack(offsets))


def spiral_out(photo: View, distance: float, radius: float, count: int) -> Tensor:
    """A path from the photo's camera outwards, which it begins with: for priors that draw videos. Arguments as above."""
    steps = torch.linspace(0, 1, count)
    offsets = torch.stack([_offset(radius * float(s), 2 * math.pi * _TURNS * float(s)) for s in steps])
    return torch.cat([photo.c2w[None], _looking(photo, distance, offsets)[1:]])


def _offset(radius: float, angle: float) -> Tensor:
    """In the photo's axes, half as high as wide. (3,)"""
    return radius * torch.tensor([math.cos(angle), 0.5 * math.sin(angle), _TO_AND_FRO * math.cos(2 * angle)])


def _looking(photo: View, distance: float, offsets: Tensor) -> Tensor:
    rotation, centre = photo.c2w[:3, :3], photo.c2w[:3, 3]
    focus = centre + distance * rotation[:, 2]
    return torch.stack([look_at(centre + rotation @ offset, focus, -rotation[:, 1]) for offset in offsets])

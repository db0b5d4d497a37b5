"""What every view says of what each of the others shows, at pixels spread over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from sparse3d.init.consistency import seen_again
from sparse3d.init.depth_map import DepthMap, sampled, world_points

_SAMPLES = 12_000  # pixels of a view at most, about: shares are then right to half a per cent


class Said(IntEnum):
    """What a view can say of a point that another one shows."""

    NOTHING = 0  # the point is outside its picture, behind it, where its mask is, or has no depth itself
    SAME = 1  # it has the same surface there
    HIDDEN = 2  # what it sees there lies before the point
    OTHERWISE = 3  # what it sees there lies behind the point, or is not the same on a closer look
    UNKNOWN = 4  # it has no depth there


@dataclass(frozen=True)
class Overlap:
    """Sampled pixels of one view, those that its mask leaves, and what all views say of them."""

    points: Tensor  # (P, 3) in the world; the camera's centre where there is no depth
    said: Tensor  # (V, P) uint8, values of Said; its own row is NOTHING
    places: Tensor  # (P, 2) where they lie in the picture, 0 to 1 from its upper left corner


def overlaps(maps: Sequence[DepthMap], tolerance: float) -> list[Overlap]:
    """What the views say of each other.

    Args:
        maps: V depth maps with their views.
        tolerance: Relative difference of depths that still agree.

    Returns:
        V of them.
    """
    return [_overlap(index, maps, tolerance) for index in range(len(maps))]


def _overlap(index: int, maps: Sequence[DepthMap], tolerance: float) -> Overlap:
    found = maps[index]
    height, width = found.depth.shape
    stride = max(1, round(math.sqrt(height * width / _SAMPLES)))
    rows, columns = torch.meshgrid(
        *(torch.arange(stride // 2, size, stride) for size in (height, width)), indexing="ij"
    )
    if found.view.mask is not None:
        counts = found.view.mask[rows, columns]
        rows, columns = rows[counts], columns[counts]
    rows, columns = rows.reshape(-1), columns.reshape(-1)
    points = world_points(found.view, found.depth)[rows, columns]
    pixels = torch.stack([columns, rows], dim=-1) + 0.5
    known = found.depth[rows, columns] > 0
    said = torch.full((len(maps), len(points)), int(Said.NOTHING), dtype=torch.uint8)
    for other, other_map in enumerate(maps):
        if other != index:
            said[other] = torch.where(known, _said(points, pixels, found, other_map, tolerance), int(Said.NOTHING))
    return Overlap(points, said, pixels / torch.tensor([width, height]))


def _said(points: Tensor, pixels: Tensor, found: DepthMap, other: DepthMap, tolerance: float) -> Tensor:
    """(P,) uint8"""
    there, z, same = seen_again(points, pixels, found.view, other.view, other.depth, tolerance)
    mask = torch.ones_like(other.depth) if other.view.mask is None else other.view.mask.float()
    inside = sampled(mask, other.view, points)[0] > 0
    answer = torch.full((len(points),), int(Said.OTHERWISE), dtype=torch.uint8)
    answer[z > there * (1 + tolerance)] = int(Said.HIDDEN)
    answer[same] = int(Said.SAME)
    answer[there == 0] = int(Said.UNKNOWN)
    answer[~inside] = int(Said.NOTHING)
    return answer

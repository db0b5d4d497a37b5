"""Which of many possible views to draw: those that uncover most of what lies next to what is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.densify.known import Known, completed_depth
from sparse3d.geometry import pixel_rays, project
from sparse3d.types import Cameras

LOOK_SIZE = 96  # longer side of the pictures that candidates are judged by, pixels
_SEEN = 0.3  # validity from which a pixel counts as seen
_BESIDE = 0.08  # of the longer side: unknown pixels within this of known ones are the frontier
_LEAST_SEEN = 0.3  # share of a view that has to be known, or the prior would invent it all
_LEAST_GAIN = 0.01  # share of a picture that a view uncovers more, or it uncovers nothing
_NEAREST = 0.15  # of the photos' median depth: what a camera may come close to


@dataclass(frozen=True)
class Candidate:
    """One camera and what would be seen from it."""

    c2w: Tensor  # (4, 4)
    camera: Cameras  # at LOOK_SIZE
    seen: float  # share of the picture that the photos show
    frontier: Tensor  # (P, 3) places in the world that it would uncover, next to known ones
    why_not: str = ""  # empty: it can be drawn


def looked_at(c2w: Tensor, known: Known, K: Tensor, height: int, width: int) -> list[Candidate]:
    """What each of (N, 4, 4) cameras would show.

    Args:
        c2w: Camera to world.
        known: Photos with depth; reduced to LOOK_SIZE here.
        K: (3, 3) of the views to draw, pixels of height x width.
        height, width: Of the views to draw.
    """
    small = known.at(LOOK_SIZE)
    scale = LOOK_SIZE / max(height, width)
    size = (max(8, round(height * scale)), max(8, round(width * scale)))
    nearest = _NEAREST * known.distance
    found = []
    for pose in c2w:
        camera = Cameras(pose[None], K[None], height, width).scaled_to(*size)
        seen = small.seen_from(camera)
        share = float((seen.validity > _SEEN).float().mean())
        why = ""
        if is_behind(pose[:3, 3], small):
            why = "it lies behind a surface that the photos show"
        elif (there := seen.depth[seen.validity > 0]).numel() and float(there.quantile(0.05)) < nearest:
            why = "it stands too close to a surface"
        elif share < _LEAST_SEEN:
            why = f"the photos show {100 * share:.0f} % of it, needed {100 * _LEAST_SEEN:.0f} %"
        found.append(
            Candidate(pose, camera, share, _frontier(camera, seen.validity, completed_depth(seen, small.far)), why)
        )
    return found


def is_behind(position: Tensor, known: Known, tolerance: float = 0.1) -> bool:
    """Whether a place (3,) lies behind known surfaces for every photo that has it in its picture, and one has."""
    behind = []
    for view, depth in zip(known.views, known.depths, strict=True):
        pixel, z = project(position[None], view.cameras.w2c[0], view.K)
        column, row = (int(value) for value in pixel[0].nan_to_num(-1.0).floor().clamp(-1, 1e6))
        if float(z[0]) > 0 and 0 <= column < view.width and 0 <= row < view.height:
            there = float(depth[row, column])
            behind.append(there > 0 and float(z[0]) > there * (1 + tolerance))
    return bool(behind) and all(behind)


def _frontier(camera: Cameras, validity: Tensor, depth: Tensor) -> Tensor:
    """Unknown places next to known ones, at the depth of what lies around. (P, 3)"""
    seen = (validity > _SEEN).float()
    reach = max(1, round(_BESIDE * max(camera.height, camera.width)))
    beside = F.max_pool2d(seen[None, None], 2 * reach + 1, 1, reach)[0, 0] > 0
    at = (seen == 0) & beside
    rays = pixel_rays(camera.K[0], camera.height, camera.width)[at]
    c2w = camera.c2w[0]
    return rays * depth[at][:, None] @ c2w[:3, :3].T + c2w[:3, 3]


def choose(candidates: Sequence[Candidate], count: int, *, again: bool = False) -> list[int]:
    """The views that uncover most, one after the other; what one uncovers counts for no other.

    Greedy, which for coverage is within 1 - 1/e of the best choice (Nemhauser et al. 1978). Between views that uncover
    nothing more the one that is seen the most is next; with `again`, what those before have uncovered counts anew, so that
    views are spread over what is unknown as often as there is room for.

    Args:
        candidates: Of which those with a reason against them are passed over.
        count: How many at most.
        again: Begin anew when nothing is left to uncover.

    Returns:
        Indices, in the order of choice.
    """
    open_ = [i for i, candidate in enumerate(candidates) if not candidate.why_not]
    chosen: list[int] = []
    left = {i: candidates[i].frontier for i in open_}
    while open_ and len(chosen) < count:
        if again and all(_area(candidates[i], left[i]) < _LEAST_GAIN for i in open_):
            left = {i: candidates[i].frontier for i in open_}
        best = max(open_, key=lambda i: (_area(candidates[i], left[i]), candidates[i].seen))
        chosen.append(best)
        open_.remove(best)
        del left[best]
        for i in open_:
            left[i] = left[i][~_shown(left[i], candidates[best])]
    return chosen


def _area(candidate: Candidate, places: Tensor) -> float:
    """Share of the candidate's picture that these places take up."""
    return len(places) / (candidate.camera.height * candidate.camera.width)


def _shown(places: Tensor, by: Candidate) -> Tensor:
    """Which places lie in a candidate's picture. (P, 3) -> (P,) bool"""
    pixels, z = project(places, by.camera.w2c[0], by.camera.K[0])
    size = torch.tensor([by.camera.width, by.camera.height])
    return (z > 0) & ((pixels >= 0) & (pixels < size)).all(1)


def nearest_first(c2w: Tensor, photographed: Tensor) -> list[int]:
    """An order of (N, 4, 4) views in which each is near photos or views before it. (V, 4, 4) photos"""
    from_photos = torch.cdist(c2w[:, :3, 3], photographed[:, :3, 3]).amin(1)
    between = torch.cdist(c2w[:, :3, 3], c2w[:, :3, 3])
    left, order = set(range(len(c2w))), list[int]()
    reach = from_photos.clone()
    while left:
        nearest = min(left, key=lambda i: float(reach[i]))
        order.append(nearest)
        left.remove(nearest)
        reach = torch.minimum(reach, between[:, nearest])
    return order

"""Where the pixels of one view may lie in another: segments of epipolar lines, and the depth of points on them.

pixelSplat, section 4.1. Coordinates are fractions of the image's width and height, intrinsics likewise. Everything is float64:
the depth of a sample is where two nearly parallel rays meet, which float32 gets wrong by up to a thousandth of the depth
range, and the position code multiplies that by thousands.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.shapes import check_shapes

_TOLERANCE = 1e-6  # what still counts as inside, in front, or forward
_PROJECTION_EPS = 2.0**-23
_DISPARITY_EPS = 1e-10
_PARALLEL = 1 - 1e-5  # cosine from which two rays meet nowhere
_NOWHERE = 1e10


@dataclass(frozen=True)
class EpipolarSamples:
    """Points of V views' epipolar lines in their partners, for C cells of each view and S samples of each cell."""

    valid: Tensor  # (V, C) bool, False where the partner sees nothing of the cell's ray
    xy: Tensor  # (V, C, S, 2) in [0, 1] of the partner's image, near to far; 0 where not valid
    disparity: (
        Tensor  # (V, C, S) relative disparity of the point seen there: 0 at the near, 1 at the far end of the range
    )

    def __post_init__(self) -> None:
        check_shapes(valid=(self.valid, "V C"), xy=(self.xy, "V C S 2"), disparity=(self.disparity, "V C S"))


def cell_centres(rows: int, columns: int) -> Tensor:
    """x, y of the centres of a grid over the image, row by row. (rows columns, 2)"""
    y, x = torch.meshgrid(
        (torch.arange(rows, dtype=torch.float64) + 0.5) / rows,
        (torch.arange(columns, dtype=torch.float64) + 0.5) / columns,
        indexing="ij",
    )
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def relative_disparity(depth: Tensor, near: float, far: float) -> Tensor:
    """0 at `near`, 1 at `far`, even in 1 / depth between."""
    nearest, farthest = 1 / (near + _DISPARITY_EPS), 1 / (far + _DISPARITY_EPS)
    return 1 - (1 / (depth + _DISPARITY_EPS) - farthest) / (nearest - farthest + _DISPARITY_EPS)


def depth_of(relative: Tensor, near: float, far: float) -> Tensor:
    """The depth of a relative disparity."""
    nearest, farthest = 1 / (near + _DISPARITY_EPS), 1 / (far + _DISPARITY_EPS)
    return 1 / ((1 - relative) * (nearest - farthest) + farthest + _DISPARITY_EPS)


def unit_rays(K: Tensor, xy: Tensor) -> Tensor:
    """Directions of unit length through image points, camera axes. K (3, 3), xy (..., 2) -> (..., 3)"""
    homogeneous = torch.cat([xy, torch.ones_like(xy[..., :1])], dim=-1)
    return F.normalize(homogeneous @ torch.linalg.inv(K).T, dim=-1)


def pair_samples(
    c2w: Tensor, K: Tensor, near: float, far: float, rows: int, columns: int, samples: int = 32
) -> EpipolarSamples:
    """Epipolar samples of both views of a pair, each in the other.

    Args:
        c2w: (2, 4, 4)
        K: (2, 3, 3) normalized.
        near, far: Distances along rays, world units.
        rows, columns: Cells of each view.
        samples: Points S of a segment, evenly in the image.
    """
    found = [
        _view_samples(c2w[i].double(), K[i].double(), c2w[1 - i].double(), K[1 - i].double(), near, far, rows, columns, samples)
        for i in range(2)
    ]  # fmt: skip
    return EpipolarSamples(*(torch.stack(part) for part in zip(*found, strict=True)))


def _view_samples(
    c2w: Tensor, K: Tensor, c2w_other: Tensor, K_other: Tensor,
    near: float, far: float, rows: int, columns: int, samples: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    rays = unit_rays(K, cell_centres(rows, columns)) @ c2w[:3, :3].T  # (C, 3) in the world
    w2c_other = torch.linalg.inv(c2w_other)  # not by the transpose: poses rounded to float32 are not quite rigid
    origin = w2c_other[:3, :3] @ c2w[:3, 3] + w2c_other[:3, 3]
    start, end, valid = _segments(origin, rays @ w2c_other[:3, :3].T, K_other, near, far)
    steps = (torch.arange(samples, dtype=torch.float64) + 0.5) / samples
    xy = start[:, None] + steps[:, None] * (end - start)[:, None]  # (C, S, 2)
    seen_along = unit_rays(K_other, xy) @ c2w_other[:3, :3].T
    distance = _meeting_distance(c2w[:3, 3], rays[:, None], c2w_other[:3, 3], seen_along)
    return valid, xy, relative_disparity(distance.clamp(near, far), near, far)


def _segments(origin: Tensor, rays: Tensor, K: Tensor, near: float, far: float) -> tuple[Tensor, Tensor, Tensor]:
    """The part of each ray between two distances that a camera sees.

    Args:
        origin: (3,) of all rays, camera axes.
        rays: (C, 3) unit directions.

    Returns:
        Image points of the near and the far end (C, 2), (C, 2), both 0 where nothing is seen, and where something is (C,).
    """
    t = _border_crossings(origin, rays, K)
    crossed, crossing_seen = _project(origin + t[..., None] * rays[:, None], K, eps=0)
    crossing_seen &= t > -_TOLERANCE
    ends, seen = [], []
    for distance, first in ((near, True), (far, False)):
        xy, inside = _project(origin + distance * rays, K, _PROJECTION_EPS)
        missing = torch.inf if first else -torch.inf
        ordered = torch.where(crossing_seen, t, torch.full_like(t, missing))
        chosen = (ordered.argmin(1) if first else ordered.argmax(1))[:, None]
        border = crossed.gather(1, chosen[..., None].expand(-1, -1, 2))[:, 0]
        ends.append(torch.where(inside[:, None], xy, border))
        seen.append(inside | crossing_seen.any(1))
    valid = seen[0] & seen[1]
    nothing = torch.zeros_like(ends[0])
    return torch.where(valid[:, None], ends[0], nothing), torch.where(valid[:, None], ends[1], nothing), valid


def _border_crossings(origin: Tensor, rays: Tensor, K: Tensor) -> Tensor:
    """Where rays cross the planes through the camera and the image's four borders. (C, 4) ray parameters"""
    crossings = []
    for axis in (0, 1):
        for border in (0.0, 1.0):
            slope = (border - K[axis, 2]) / K[axis, axis]  # of the plane: this coordinate over z
            crossings.append((slope * origin[2] - origin[axis]) / (rays[:, axis] - slope * rays[:, 2]))
    return torch.stack(crossings, dim=1)


def _project(points: Tensor, K: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Image points (..., 2) of points in camera axes, and whether they are in the image and in front of the camera (...)."""
    homogeneous = points / (points[..., 2:] + eps)
    xy = (homogeneous @ K.T)[..., :2]
    inside = ((xy > -_TOLERANCE) & (xy < 1 + _TOLERANCE)).all(-1) & (points[..., 2] > -_TOLERANCE)
    return xy, inside


def _meeting_distance(origin: Tensor, rays: Tensor, origin_other: Tensor, others: Tensor) -> Tensor:
    """How far from `origin` the least-squares meeting point of two rays is, 1e10 where they are nearly parallel.

    The point x minimizes the sum of (x - o)^T (I - d d^T) (x - o) over both rays. Directions are unit up to the rounding of the
    poses, and stay as they are: at a degree between the rays that rounding is what the published network was trained with.

    Args:
        origin, origin_other: (3,) in the world.
        rays, others: (..., 3) directions in the world, broadcastable.
    """
    identity = torch.eye(3, dtype=rays.dtype, device=rays.device)
    across = identity - rays[..., :, None] * rays[..., None, :]
    across_other = identity - others[..., :, None] * others[..., None, :]
    parallel = (rays * others).sum(-1) > _PARALLEL
    system = torch.where(parallel[..., None, None], identity, across + across_other)
    offset = torch.linalg.solve(system, across_other @ (origin_other - origin))  # of x from `origin`
    return torch.where(parallel, _NOWHERE, offset.norm(dim=-1))

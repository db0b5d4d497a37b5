"""Camera paths along which new views are drawn. All take the photographed cameras and give (count, 4, 4) camera to world."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.geometry import quat_from_rotation, rotation_from_quat, se3_exp
from sparse3d.paths import focus_point, look_at

REACH = 0.7  # of the cameras' spread that ellipses, spirals and lemniscates go out to where nothing else is said


@dataclass(frozen=True)
class Rig:
    """The photographed cameras as one thing: where they are, what they look at, how far they spread."""

    centre: Tensor  # (3,) mean position, world units
    focus: Tensor  # (3,) what they look at
    up: Tensor  # (3,) unit, upwards in the pictures
    right: Tensor  # (3,) unit, across the view of the focus
    width: float  # largest distance from the centre along `right`, world units
    height: float  # and along `up`, at least 0.15 of the width

    @classmethod
    def of(cls, c2w: Tensor) -> Rig:
        """Of (V, 4, 4) cameras. One camera alone spreads by a tenth of its distance to the focus."""
        centres, focus = c2w[:, :3, 3], focus_point(c2w)
        centre = centres.mean(0)
        up = F.normalize(-c2w[:, :3, 1].mean(dim=0), dim=0)
        right = F.normalize(torch.linalg.cross(focus - centre, up), dim=0)
        up = F.normalize(torch.linalg.cross(right, focus - centre), dim=0)
        offsets = centres - centre
        least = 0.1 * float((focus - centre).norm()) if len(c2w) == 1 else 1e-6
        width = max(float((offsets @ right).abs().max()), least)
        return cls(centre, focus, up, right, width, max(float((offsets @ up).abs().max()), 0.15 * width))

    def looking_from(self, positions: Tensor) -> Tensor:
        """Cameras at (N, 3) positions that look at the focus. (N, 4, 4)"""
        return torch.stack([look_at(position, self.focus, self.up) for position in positions])


def shortest_tour(positions: Tensor) -> list[int]:
    """An order of (V, 3) positions with short ways in between: nearest neighbour from each start, the shortest of these."""
    apart = torch.cdist(positions.double(), positions.double())
    tours = [_greedy_tour(apart, start) for start in range(len(positions))]
    return min(tours, key=lambda tour: sum(float(apart[a, b]) for a, b in pairwise(tour)))


def _greedy_tour(apart: Tensor, start: int) -> list[int]:
    tour, left = [start], set(range(len(apart))) - {start}
    while left:
        tour.append(min(left, key=lambda other: float(apart[tour[-1], other])))
        left.remove(tour[-1])
    return tour


def spline(c2w: Tensor, count: int) -> Tensor:
    """Through all cameras in a short order, the first and the last frame being cameras themselves.

    Positions by a centripetal Catmull-Rom spline (Barry and Goldman, SIGGRAPH 1988, alpha 1/2), which has no loops between
    cameras; orientations by slerp from camera to camera (Shoemake, SIGGRAPH 1985). Equal shares of the way between two frames.
    """
    if len(c2w) < 2:
        raise ValueError("a path through the cameras needs at least 2 of them")
    ordered = c2w[shortest_tour(c2w[:, :3, 3])]
    positions, quats = ordered[:, :3, 3].double(), quat_from_rotation(ordered[:, :3, :3].double())
    steps = (positions[1:] - positions[:-1]).norm(dim=1).clamp(min=1e-9)
    ends = torch.cat([torch.zeros(1, dtype=torch.float64), steps.cumsum(0)])
    along = torch.linspace(0, float(ends[-1]), count, dtype=torch.float64)
    segment = (torch.searchsorted(ends, along, right=True) - 1).clamp(0, len(steps) - 1)
    share = ((along - ends[segment]) / steps[segment]).clamp(0, 1)
    path = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    for frame, (index, part) in enumerate(zip(segment.tolist(), share.tolist(), strict=True)):
        path[frame, :3, 3] = _catmull_rom(positions, index, part)
        path[frame, :3, :3] = rotation_from_quat(_slerp(quats[index], quats[index + 1], part))
    return path.to(c2w.dtype)


def _catmull_rom(points: Tensor, index: int, share: float) -> Tensor:
    """Between points[index] and the next one. (3,)"""
    first, last = points[index], points[index + 1]
    before = points[index - 1] if index > 0 else 2 * first - last
    after = points[index + 2] if index + 2 < len(points) else 2 * last - first
    knots = [0.0]
    for a, b in ((before, first), (first, last), (last, after)):
        knots.append(knots[-1] + max(float((b - a).norm()) ** 0.5, 1e-6))
    t0, t1, t2, t3 = knots
    t = t1 + share * (t2 - t1)

    def between(a: Tensor, b: Tensor, low: float, high: float) -> Tensor:
        return ((high - t) * a + (t - low) * b) / (high - low)

    a1, a2, a3 = between(before, first, t0, t1), between(first, last, t1, t2), between(last, after, t2, t3)
    return between(between(a1, a2, t0, t2), between(a2, a3, t1, t3), t1, t2)


def _slerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Between two unit quaternions (4,), the short way round."""
    cosine = float(first @ second)
    second = second if cosine >= 0 else -second
    angle = math.acos(min(1.0, abs(cosine)))
    if angle < 1e-6:
        return F.normalize(first + share * (second - first), dim=0)
    return (math.sin((1 - share) * angle) * first + math.sin(share * angle) * second) / math.sin(angle)


def ellipse(c2w: Tensor, count: int, reach: float = REACH) -> Tensor:
    """A closed loop about the cameras' mean, as wide and high as `reach` times their spread, that looks at what they look at."""
    rig = Rig.of(c2w)
    angles = torch.arange(count, dtype=c2w.dtype) * (2 * math.pi / count)
    return rig.looking_from(_around(rig, reach * angles.cos(), reach * angles.sin()))


def spiral(c2w: Tensor, count: int, reach: float = REACH, turns: float = 2.0) -> Tensor:
    """Outwards from the mean camera over `turns` to `reach` times the cameras' spread, a little to and fro: LLFF's path for forward-facing sets (arXiv:1905.00889)."""
    rig = Rig.of(c2w)
    share = torch.linspace(0, 1, count, dtype=c2w.dtype)
    angles = 2 * math.pi * turns * share
    ahead = F.normalize(rig.focus - rig.centre, dim=0)
    flat = _around(rig, reach * share * angles.cos(), reach * share * angles.sin())
    return rig.looking_from(flat + (0.5 * reach * rig.height * (0.5 * angles).sin())[:, None] * ahead)


def lemniscate(c2w: Tensor, count: int, reach: float = REACH) -> Tensor:
    """A lying eight about the mean camera (Gerono's), `reach` times as wide as the cameras' spread; it crosses the middle twice."""
    rig = Rig.of(c2w)
    angles = torch.arange(count, dtype=c2w.dtype) * (2 * math.pi / count)
    return rig.looking_from(_around(rig, reach * angles.cos(), reach * 2 * angles.sin() * angles.cos()))


def dolly(c2w: Tensor, count: int, share: float = 0.25) -> Tensor:
    """Straight ahead from the camera nearest to the mean, from `share` of the way to the focus behind it to as far before it."""
    rig = Rig.of(c2w)
    nearest = c2w[(c2w[:, :3, 3] - rig.centre).norm(dim=1).argmin()]
    reach = share * float((rig.focus - nearest[:3, 3]).norm())
    path = nearest.repeat(count, 1, 1)
    path[:, :3, 3] += torch.linspace(-reach, reach, count, dtype=c2w.dtype)[:, None] * nearest[:3, 2]
    return path


def perturbed(
    c2w: Tensor, count: int, generator: torch.Generator, angle_deg: float = 8.0, shift: float = 0.5
) -> Tensor:
    """Cameras in turn, turned by random angles and moved by random shares of the way to their nearest neighbour.

    Args:
        c2w: (V, 4, 4)
        count: How many.
        generator: Of what is drawn, on the CPU.
        angle_deg: Standard deviation of the turn about each axis, degrees.
        shift: Standard deviation of the move along each axis, of the distance to the nearest other camera.
    """
    positions = c2w[:, :3, 3]
    apart = torch.cdist(positions, positions) + torch.diag(torch.full((len(c2w),), torch.inf))
    near = apart.amin(1) if len(c2w) > 1 else torch.tensor([Rig.of(c2w).width])
    chosen = torch.arange(count) % len(c2w)
    moves = shift * near[chosen, None] * torch.randn(count, 3, generator=generator)
    turns = math.radians(angle_deg) * torch.randn(count, 3, generator=generator)
    return c2w[chosen] @ se3_exp(torch.cat([turns, moves], dim=1).to(c2w.dtype))


def _around(rig: Rig, across: Tensor, upwards: Tensor) -> Tensor:
    """Positions about the rig's centre, in shares of its spread. (N,), (N,) -> (N, 3)"""
    wide, high = rig.width * across, rig.height * upwards
    return rig.centre + wide[:, None] * rig.right + high[:, None] * rig.up


PATHS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "spline": spline,
    "ellipse": ellipse,
    "spiral": spiral,
    "lemniscate": lemniscate,
    "dolly": dolly,
}

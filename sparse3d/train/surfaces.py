"""What the ray caster can meet: boxes, cards, balls, rods and terrain, with exact intersections. Units are metres, z is up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

_NEAR = 1e-3  # metres: what is nearer to a ray's start is not met
_MARCH, _BISECT = 56, 6  # steps over a terrain, and halvings at the crossing


@dataclass(frozen=True)
class Finish:
    """What a surface looks like."""

    texture: int  # index among the scene's textures
    size: float  # metres that the texture is repeated after
    shade: int  # index of the texture that darkens and lightens it at a larger size, so that nothing repeats exactly
    tint: float = 1.0
    gloss: float = 0.0  # of the lamp's reflection, which moves with the eye


class Surface(Protocol):
    """Something that rays meet. `origin` is (3,), `rays` (..., 3); t is in lengths of the rays, inf where they miss."""

    @property
    def finish(self) -> Finish:
        """Its look."""
        ...

    @property
    def ball(self) -> tuple[Tensor, float]:
        """Centre and radius of a ball around it."""
        ...

    def meet(self, origin: Tensor, rays: Tensor) -> Tensor:
        """t of the nearest point in front. (...)"""
        ...

    def unroll(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where points on it are on its unrolled surface, metres, and its normals there. (N, 3) -> (N, 2), (N, 3)"""
        ...

    def contains(self, points: Tensor) -> Tensor:
        """Which points no camera can be at. (N, 3) -> (N,) bool"""
        ...


def _never(t: Tensor, hit: Tensor) -> Tensor:
    return torch.where(hit, t, torch.full_like(t, float("inf")))


@dataclass(frozen=True)
class Box:
    """A box of any orientation; or, inside out, a room."""

    finish: Finish
    centre: Tensor  # (3,)
    axes: Tensor  # (3, 3) columns are its axes
    half: Tensor  # (3,) half sides, metres
    room: bool = False

    @property
    def ball(self) -> tuple[Tensor, float]:
        return self.centre, float(self.half.norm())

    def meet(self, origin: Tensor, rays: Tensor) -> Tensor:
        start, along = (origin - self.centre) @ self.axes, rays @ self.axes
        along = torch.where(along.abs() < 1e-9, torch.full_like(along, 1e-9), along)
        first, second = (-self.half - start) / along, (self.half - start) / along
        enters, leaves = torch.minimum(first, second).amax(-1), torch.maximum(first, second).amin(-1)
        if self.room:
            return _never(leaves, leaves > _NEAR)
        return _never(enters, (enters < leaves) & (enters > _NEAR))

    def unroll(self, points: Tensor) -> tuple[Tensor, Tensor]:
        local = (points - self.centre) @ self.axes
        face = (local / self.half).abs().argmax(-1)
        # the two other axes, and a shift so that no two faces show the same
        u, v = (local.gather(-1, ((face + k) % 3)[:, None])[:, 0] for k in (1, 2))
        sign = torch.sign(local.gather(-1, face[:, None]))
        shift = 0.37 * (2 * face + (sign[:, 0] > 0)).to(u.dtype)
        normals = self.axes.T[face] * sign * (-1 if self.room else 1)
        return torch.stack([u + shift, v + 1.7 * shift], -1), normals

    def contains(self, points: Tensor) -> Tensor:
        inside = (((points - self.centre) @ self.axes).abs() < self.half + (-0.3 if self.room else 0.12)).all(-1)
        return ~inside if self.room else inside


@dataclass(frozen=True)
class Card:
    """A flat piece, whole or cut out: a picture on a wall, a leaf, a layer of a scenery."""

    finish: Finish
    centre: Tensor  # (3,)
    axes: Tensor  # (3, 3) columns: along u, along v, normal
    half: Tensor  # (2,) metres
    cutout: Tensor | None = None  # (S, S) bool, True where something is

    @property
    def ball(self) -> tuple[Tensor, float]:
        return self.centre, float(self.half.norm())

    def meet(self, origin: Tensor, rays: Tensor) -> Tensor:
        start, along = (origin - self.centre) @ self.axes, rays @ self.axes
        t = -start[2] / torch.where(along[..., 2].abs() < 1e-9, torch.full_like(along[..., 2], 1e-9), along[..., 2])
        place = (start[:2] + t[..., None] * along[..., :2]) / self.half
        hit = (place.abs() <= 1).all(-1) & (t > _NEAR)
        if self.cutout is not None:
            side = len(self.cutout)
            column, row = ((0.5 + 0.5 * place) * side).long().clamp(0, side - 1).unbind(-1)
            hit &= self.cutout[row, column]
        return _never(t, hit)

    def unroll(self, points: Tensor) -> tuple[Tensor, Tensor]:
        local = (points - self.centre) @ self.axes
        return local[:, :2], self.axes[:, 2].expand(len(points), 3)

    def contains(self, points: Tensor) -> Tensor:
        local = (points - self.centre) @ self.axes
        return (local[:, 2].abs() < 0.1) & (local[:, :2].abs() < self.half).all(-1)


@dataclass(frozen=True)
class Ball:
    """An ellipsoid."""

    finish: Finish
    centre: Tensor  # (3,)
    axes: Tensor  # (3, 3)
    half: Tensor  # (3,) half axes, metres

    @property
    def ball(self) -> tuple[Tensor, float]:
        return self.centre, float(self.half.max())

    def meet(self, origin: Tensor, rays: Tensor) -> Tensor:
        start, along = (origin - self.centre) @ self.axes / self.half, rays @ self.axes / self.half
        a, b, c = (along * along).sum(-1), (along * start).sum(-1), (start * start).sum() - 1
        root = b * b - a * c
        t = (-b - root.clamp(min=0).sqrt()) / a
        return _never(t, (root > 0) & (t > _NEAR))

    def unroll(self, points: Tensor) -> tuple[Tensor, Tensor]:
        unit = (points - self.centre) @ self.axes / self.half
        size = float(self.half.mean())
        u, v = torch.atan2(unit[:, 1], unit[:, 0]) * size, torch.asin(unit[:, 2].clamp(-1, 1)) * size
        return torch.stack([u, v], -1), F.normalize(unit / self.half @ self.axes.T, dim=-1)

    def contains(self, points: Tensor) -> Tensor:
        return ((points - self.centre) @ self.axes / (self.half + 0.1)).norm(dim=-1) < 1


@dataclass(frozen=True)
class Rod:
    """A round rod with flat ends: a leg, a pole, a branch, a can."""

    finish: Finish
    centre: Tensor  # (3,)
    axes: Tensor  # (3, 3), the third column along it
    radius: float
    half: float  # half its length

    @property
    def ball(self) -> tuple[Tensor, float]:
        return self.centre, float((self.radius**2 + self.half**2) ** 0.5)

    def meet(self, origin: Tensor, rays: Tensor) -> Tensor:
        start, along = (origin - self.centre) @ self.axes, rays @ self.axes
        a, b = (along[..., :2] ** 2).sum(-1).clamp(min=1e-12), (along[..., :2] * start[:2]).sum(-1)
        root = b * b - a * ((start[:2] ** 2).sum() - self.radius**2)
        side = (-b - root.clamp(min=0).sqrt()) / a
        height = start[2] + side * along[..., 2]
        side = _never(side, (root > 0) & (side > _NEAR) & (height.abs() <= self.half))
        down = torch.where(along[..., 2].abs() < 1e-9, torch.full_like(along[..., 2], 1e-9), along[..., 2])
        cap = (-self.half * torch.sign(down) - start[2]) / down  # the end that the ray comes to first
        there = start[:2] + cap[..., None] * along[..., :2]
        return torch.minimum(side, _never(cap, (cap > _NEAR) & ((there**2).sum(-1) <= self.radius**2)))

    def unroll(self, points: Tensor) -> tuple[Tensor, Tensor]:
        local = (points - self.centre) @ self.axes
        end = (local[:, 2].abs() > self.half * (1 - 1e-4)) & (local[:, :2].norm(dim=-1) < self.radius * (1 - 1e-4))
        u = torch.where(end, local[:, 0], torch.atan2(local[:, 1], local[:, 0]) * self.radius)
        v = torch.where(end, local[:, 1], local[:, 2])
        flat = torch.stack([torch.zeros_like(u), torch.zeros_like(u), torch.sign(local[:, 2])], -1)
        round_ = F.normalize(local * torch.tensor([1.0, 1.0, 0.0]), dim=-1)
        return torch.stack([u, v], -1), torch.where(end[:, None], flat, round_) @ self.axes.T

    def contains(self, points: Tensor) -> Tensor:
        local = (points - self.centre) @ self.axes
        return (local[:, :2].norm(dim=-1) < self.radius + 0.1) & (local[:, 2].abs() < self.half + 0.1)


@dataclass(frozen=True)
class Terrain:
    """Hills: heights on a square grid, linear between four nodes."""

    finish: Finish
    heights: Tensor  # (G, G) metres, rows along y
    half: float  # of the square's side, metres

    @property
    def ball(self) -> tuple[Tensor, float]:
        return torch.zeros(3), 2 * self.half

    def height(self, x: Tensor, y: Tensor) -> Tensor:
        """At places of the plane; the border's height beyond it."""
        grid = torch.stack([x, y], -1).reshape(1, 1, -1, 2) / self.half
        found = F.grid_sample(self.heights[None, None], grid, align_corners=True, padding_mode="border")
        return found.reshape(x.shape)

    def meet(self, origin: Tensor, rays: Tensor) -> Tensor:
        shape, flat = rays.shape[:-1], rays.reshape(-1, 3)
        lowest, highest = float(self.heights.min()), float(self.heights.max())
        met = torch.full((len(flat),), float("inf"))
        # between where a ray comes below the highest top or into the square, and where it leaves either
        slope = torch.where(flat.abs() < 1e-9, torch.full_like(flat, 1e-9), flat)
        low, high = torch.tensor([-self.half, -self.half, lowest - 1]), torch.tensor([self.half, self.half, highest])
        first, second = (low - origin) / slope, (high - origin) / slope
        begin, end = torch.minimum(first, second).amax(-1).clamp(min=_NEAR), torch.maximum(first, second).amin(-1)
        alive = torch.nonzero(begin < end)[:, 0]
        ray, begin, end = flat[alive], begin[alive], end[alive]
        # steps that grow with the distance: even in log t, as pixels do
        last, gap = begin.clone(), self._above(origin, ray, begin)
        low_t, high_t = begin.clone(), begin.clone()
        open_ = torch.ones_like(begin, dtype=torch.bool)
        ratio = (end / begin) ** (1 / _MARCH)
        even = (end - begin) / _MARCH
        for step in range(1, _MARCH + 1):
            t = 0.5 * (begin * ratio**step) + 0.5 * (begin + step * even)
            now = self._above(origin, ray, t)
            crossed = open_ & (now < 0) & (gap >= 0)
            low_t, high_t = torch.where(crossed, last, low_t), torch.where(crossed, t, high_t)
            open_ &= ~crossed
            last, gap = t, now
        found = ~open_
        alive, ray, low_t, high_t = alive[found], ray[found], low_t[found], high_t[found]
        for _ in range(2 * _BISECT):
            middle = (low_t + high_t) / 2
            below = self._above(origin, ray, middle) < 0
            low_t, high_t = torch.where(below, low_t, middle), torch.where(below, middle, high_t)
        met[alive] = (low_t + high_t) / 2
        return met.reshape(shape)

    def _above(self, origin: Tensor, rays: Tensor, t: Tensor) -> Tensor:
        at = origin + rays * t[:, None]
        return at[:, 2] - self.height(at[:, 0], at[:, 1])

    def unroll(self, points: Tensor) -> tuple[Tensor, Tensor]:
        x, y, step = points[:, 0], points[:, 1], self.half / len(self.heights)
        dx = (self.height(x + step, y) - self.height(x - step, y)) / (2 * step)
        dy = (self.height(x, y + step) - self.height(x, y - step)) / (2 * step)
        return points[:, :2], F.normalize(torch.stack([-dx, -dy, torch.ones_like(dx)], -1), dim=-1)

    def contains(self, points: Tensor) -> Tensor:
        return points[:, 2] < self.height(points[:, 0], points[:, 1]) + 0.4

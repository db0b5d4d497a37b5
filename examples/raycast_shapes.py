"""What the ray caster can meet: boxes, spheres, lathed shapes and leaves, and the textures on them.

Each shape knows where a ray hits it and how its surface unrolls into faces, rectangles of (u, v) metres; textures and
baked light are looked up there. The world is in metres with z up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Ints = NDArray[np.int64]


class Texture:
    """An image wrapped over a surface, with halved copies of itself for what is far away (a mip pyramid)."""

    def __init__(self, image: Array, texel_m: float) -> None:
        self.texel_m = texel_m
        self.levels = [np.ascontiguousarray(image, dtype=np.float32)]
        while min(self.levels[-1].shape[:2]) >= 4:
            last = self.levels[-1]
            even = last[: last.shape[0] // 2 * 2, : last.shape[1] // 2 * 2]
            self.levels.append(0.25 * (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]))

    def sample(self, u: Array, v: Array, footprint: Array) -> Array:
        """Colours at (u, v) metres from the upper left corner, where a ray covers `footprint` metres. (N, 3)"""
        wanted = np.log2(np.maximum(footprint / self.texel_m, 1.0)).astype(np.int64)
        wanted = np.minimum(wanted, len(self.levels) - 1)
        out = np.empty((len(u), 3), np.float32)
        for level in np.unique(wanted):
            at = wanted == level
            scale = 1.0 / (self.texel_m * 2.0**level)
            out[at] = bilinear(self.levels[level], u[at] * scale - 0.5, v[at] * scale - 0.5, wrap=True)
        return out


def bilinear(image: Array, x: Array, y: Array, wrap: bool) -> Array:
    """Values of an image between its pixels; x and y count pixels, 0 in the middle of the first. (N, C)"""
    height, width = image.shape[:2]
    if not wrap:
        x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    x0, y0 = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    fx, fy = (x - x0).astype(np.float32)[:, None], (y - y0).astype(np.float32)[:, None]
    if wrap:
        x0, y0, x1, y1 = x0 % width, y0 % height, (x0 + 1) % width, (y0 + 1) % height
    else:
        x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    flat = image.reshape(height * width, -1)
    top = flat[y0 * width + x0] * (1 - fx) + flat[y0 * width + x1] * fx
    bottom = flat[y1 * width + x0] * (1 - fx) + flat[y1 * width + x1] * fx
    return top * (1 - fy) + bottom * fy


def dot(a: Array, b: Array) -> Array:
    """Dot products of the last axis; much faster than a sum when it is short."""
    return np.einsum("...i,...i->...", a, b)


def unit(a: Array) -> Array:
    """Vectors of the last axis at length 1."""
    return a / np.sqrt(dot(a, a))[..., None]


@dataclass(frozen=True)
class Spot:
    """Where rays met one surface: which face, where on it in metres, and which way it looks."""

    face: Ints  # (N,)
    u: Array  # (N,) metres
    v: Array  # (N,) metres
    normal: Array  # (N, 3)


class Shape(Protocol):
    """A surface made of faces; each face is a rectangle of (u, v) metres bent into space."""

    textures: Sequence[Texture]  # one per face
    shift: tuple[float, float]  # of the texture, metres
    gloss: float
    two_sided: bool

    def bounds(self) -> tuple[Array, float]:
        """Centre and radius of a sphere around the shape."""
        ...

    def hit(self, origins: Array, directions: Array) -> Array:
        """Smallest t > 0 with origin + t direction on the surface, inf where there is none. (N,)"""
        ...

    def locate(self, points: Array) -> Spot:
        """Face coordinates and normals of points that `hit` found."""
        ...

    def extent(self, face: int) -> tuple[float, float]:
        """Sizes of a face along u and v, metres."""
        ...

    def point(self, face: int, u: Array, v: Array) -> tuple[Array, Array]:
        """Positions and normals of face coordinates, (N, 3) each: the inverse of `locate`."""
        ...


@dataclass
class Box:
    """A box at any angle. Faces in the order -x +x -y +y -z +z of its own axes; v runs downwards on the sides."""

    centre: Array
    half: Array
    rotation: Array  # columns are the box's own axes
    textures: Sequence[Texture]
    shift: tuple[float, float] = (0.0, 0.0)  # moves the texture, so that no two planks look alike
    gloss: float = 0.0
    two_sided: bool = field(default=False, init=False)

    def bounds(self) -> tuple[Array, float]:
        return self.centre, float(np.linalg.norm(self.half))

    def hit(self, origins: Array, directions: Array) -> Array:
        o = (origins - self.centre) @ self.rotation
        d = directions @ self.rotation
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = 1.0 / d
            one, two = (-self.half - o) * inverse, (self.half - o) * inverse
            near, far = np.minimum(one, two), np.maximum(one, two)  # then column by column: numpy's max(axis=1) is slow
            near = np.maximum(np.maximum(near[:, 0], near[:, 1]), near[:, 2])
            far = np.minimum(np.minimum(far[:, 0], far[:, 1]), far[:, 2])
            t = np.where(near > 0, near, far)
            return np.where((near <= far) & (far > 0), t, np.inf).astype(np.float32)

    def locate(self, points: Array) -> Spot:
        p = (points - self.centre) @ self.rotation
        axis = np.abs(np.abs(p) - self.half).argmin(axis=1)
        rows = np.arange(len(p))
        sign = np.where(p[rows, axis] > 0, 1.0, -1.0).astype(np.float32)
        u = np.where(axis == 0, p[:, 1] + self.half[1], p[:, 0] + self.half[0])
        v = np.where(axis == 2, p[:, 1] + self.half[1], self.half[2] - p[:, 2])
        return Spot(2 * axis + (sign > 0), u, v, (self.rotation.T[axis] * sign[:, None]).astype(np.float32))

    def extent(self, face: int) -> tuple[float, float]:
        x, y, z = (2 * self.half).tolist()
        return [(y, z), (x, z), (x, y)][face // 2]

    def point(self, face: int, u: Array, v: Array) -> tuple[Array, Array]:
        axis, sign = face // 2, 1.0 if face % 2 else -1.0
        p = np.empty((len(u), 3), np.float32)
        p[:, axis] = sign * self.half[axis]
        p[:, 1 if axis == 0 else 0] = u - self.half[1 if axis == 0 else 0]
        p[:, 1 if axis == 2 else 2] = v - self.half[1] if axis == 2 else self.half[2] - v
        normal = np.broadcast_to(sign * self.rotation[:, axis], p.shape).astype(np.float32)
        return (p @ self.rotation.T + self.centre).astype(np.float32), normal


@dataclass
class Sphere:
    """A ball; u is longitude and v is co-latitude, in metres along its equator."""

    centre: Array
    radius: float
    textures: Sequence[Texture]
    gloss: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    two_sided: bool = field(default=False, init=False)

    def bounds(self) -> tuple[Array, float]:
        return self.centre, self.radius

    def hit(self, origins: Array, directions: Array) -> Array:
        o = origins - self.centre
        a, b, c = dot(directions, directions), dot(o, directions), dot(o, o) - self.radius**2
        with np.errstate(invalid="ignore"):
            root = np.sqrt(b * b - a * c)
            near, far = (-b - root) / a, (-b + root) / a
            t = np.where(near > 0, near, far)
            return np.where(t > 0, t, np.inf).astype(np.float32)

    def locate(self, points: Array) -> Spot:
        n = (points - self.centre) / self.radius
        u = (np.arctan2(n[:, 1], n[:, 0]) + np.pi) * self.radius
        v = np.arccos(np.clip(n[:, 2], -1, 1)) * self.radius
        return Spot(np.zeros(len(n), np.int64), u, v, n)

    def extent(self, face: int) -> tuple[float, float]:
        return 2 * np.pi * self.radius, np.pi * self.radius

    def point(self, face: int, u: Array, v: Array) -> tuple[Array, Array]:
        longitude, colatitude = u / self.radius - np.pi, v / self.radius
        ring = np.sin(colatitude)
        n = np.stack([ring * np.cos(longitude), ring * np.sin(longitude), np.cos(colatitude)], axis=1)
        return (self.centre + self.radius * n).astype(np.float32), n.astype(np.float32)


@dataclass
class Lathe:
    """A profile of (radius, height), heights rising, turned round the vertical: vases, pots, poles, shades."""

    base: Array
    profile: Array  # (S + 1, 2)
    textures: Sequence[Texture]
    gloss: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    two_sided: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        step = np.diff(self.profile, axis=0)
        if (step[:, 1] <= 0).any():
            raise ValueError("heights of a lathe's profile must rise; slope its lids by a few millimetres")
        normals = np.stack([step[:, 1], -step[:, 0]], axis=1)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        # smooth shading: at a corner of the profile, the mean of its neighbours
        self._normals = np.concatenate([normals[:1], 0.5 * (normals[1:] + normals[:-1]), normals[-1:]])
        self._along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(step, axis=1))])
        self._girth = float(self.profile[:, 0].max())

    def bounds(self) -> tuple[Array, float]:
        low, high = self.profile[0, 1], self.profile[-1, 1]
        centre = self.base + np.array([0, 0, 0.5 * (low + high)], np.float32)
        return centre.astype(np.float32), float(np.hypot(self._girth, 0.5 * (high - low)))

    def hit(self, origins: Array, directions: Array) -> Array:
        o, d = origins - self.base, directions
        best = np.full(max(len(o), len(d)), np.inf, np.float32)
        oo, od, dd = dot(o[:, :2], o[:, :2]), dot(o[:, :2], d[:, :2]), dot(d[:, :2], d[:, :2])
        for (r0, z0), (r1, z1) in zip(self.profile[:-1].tolist(), self.profile[1:].tolist(), strict=True):
            slope = (r1 - r0) / (z1 - z0)  # x^2 + y^2 = (r0 + slope (z - z0))^2 is a quadratic in t
            r = r0 + slope * (o[:, 2] - z0)
            a, b, c = dd - (slope * d[:, 2]) ** 2, od - slope * r * d[:, 2], oo - r * r
            with np.errstate(invalid="ignore", divide="ignore"):
                root = np.sqrt(b * b - a * c)
                for t in ((-b - root) / a, (-b + root) / a):
                    z = o[:, 2] + t * d[:, 2]
                    on = (t > 0) & (z >= z0) & (z <= z1) & (r + slope * t * d[:, 2] >= 0) & (t < best)
                    best = np.where(on, t, best)
        return best.astype(np.float32)

    def locate(self, points: Array) -> Spot:
        p = points - self.base
        angle = np.arctan2(p[:, 1], p[:, 0])
        v = np.interp(p[:, 2], self.profile[:, 1], self._along[-1] - self._along)
        return Spot(np.zeros(len(p), np.int64), (angle + np.pi) * self._girth, v, self._normal(angle, p[:, 2]))

    def _normal(self, angle: Array, z: Array) -> Array:
        out = np.interp(z, self.profile[:, 1], self._normals[:, 0])
        up = np.interp(z, self.profile[:, 1], self._normals[:, 1])
        n = np.stack([out * np.cos(angle), out * np.sin(angle), up], axis=1)
        return unit(n).astype(np.float32)

    def extent(self, face: int) -> tuple[float, float]:
        return 2 * np.pi * self._girth, float(self._along[-1])

    def point(self, face: int, u: Array, v: Array) -> tuple[Array, Array]:
        angle = u / self._girth - np.pi
        z = np.interp(self._along[-1] - v, self._along, self.profile[:, 1])
        r = np.interp(z, self.profile[:, 1], self.profile[:, 0])
        p = np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=1)
        return (self.base + p).astype(np.float32), self._normal(angle, z)


@dataclass
class Leaf:
    """A flat pointed oval, lit alike from both sides as thin leaves are; u runs along it."""

    centre: Array
    along: Array  # unit vector
    across: Array  # unit vector, perpendicular
    length: float
    width: float
    textures: Sequence[Texture]
    gloss: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    two_sided: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self._normal = np.cross(self.along, self.across).astype(np.float32)

    def bounds(self) -> tuple[Array, float]:
        return self.centre, 0.5 * float(np.hypot(self.length, self.width))

    def hit(self, origins: Array, directions: Array) -> Array:
        o = origins - self.centre
        with np.errstate(divide="ignore", invalid="ignore"):
            t = -(o @ self._normal) / (directions @ self._normal)
            a = (o @ self.along + t * (directions @ self.along)) / self.length + 0.5
            b = np.abs(o @ self.across + t * (directions @ self.across)) * 2 / self.width
            on = (t > 0) & (a > 0) & (a < 1) & (b < 5.2 * a * (1 - a) * (1.15 - 0.6 * a) ** 0.5)
            return np.where(on, t, np.inf).astype(np.float32)

    def locate(self, points: Array) -> Spot:
        p = points - self.centre
        u, v = p @ self.along + 0.5 * self.length, p @ self.across + 0.5 * self.width
        return Spot(np.zeros(len(p), np.int64), u, v, np.broadcast_to(self._normal, p.shape))

    def extent(self, face: int) -> tuple[float, float]:
        return self.length, self.width

    def point(self, face: int, u: Array, v: Array) -> tuple[Array, Array]:
        p = self.centre + (u - 0.5 * self.length)[:, None] * self.along + (v - 0.5 * self.width)[:, None] * self.across
        return p.astype(np.float32), np.broadcast_to(self._normal, p.shape)

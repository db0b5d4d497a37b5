"""A small ray caster in numpy: boxes, spheres, lathed shapes and leaves, with baked light.

It shares no code with sparse3d, so that what it draws and measures is ground truth from an independent hand.
Conventions are the project's: OpenCV camera axes (x right, y down, z forward), pixel centres at +0.5, depth = z in
camera axes. The world is in metres with z up. Colours are linear radiance unless a name says sRGB.

Light does not depend on the eye here (but for a little gloss), so it is computed once per surface on a grid of about
2 cm, the first time a ray meets it: soft shadows of one rectangular lamp, and ambient light that dims where other
surfaces are near.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Ints = NDArray[np.int64]

_SKIN = 2e-3  # metres: shadow rays start this far above their surface
_REACH = 1.0  # metres: what is farther away takes no ambient light


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
            out[at] = _bilinear(self.levels[level], u[at] * scale - 0.5, v[at] * scale - 0.5, wrap=True)
        return out


def _bilinear(image: Array, x: Array, y: Array, wrap: bool) -> Array:
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


def _dot(a: Array, b: Array) -> Array:
    """Dot products of the last axis; much faster than a sum when it is short."""
    return np.einsum("...i,...i->...", a, b)


def _unit(a: Array) -> Array:
    """Vectors of the last axis at length 1."""
    return a / np.sqrt(_dot(a, a))[..., None]


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
        a, b, c = _dot(directions, directions), _dot(o, directions), _dot(o, o) - self.radius**2
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
        oo, od, dd = _dot(o[:, :2], o[:, :2]), _dot(o[:, :2], d[:, :2]), _dot(d[:, :2], d[:, :2])
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
        return _unit(n).astype(np.float32)

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


@dataclass(frozen=True)
class Lamp:
    """The one light that casts shadows: a rectangle, so that its shadows are soft."""

    centre: Array
    side_a: Array  # half sides
    side_b: Array
    colour: Array  # linear RGB
    ambient: Array  # linear RGB of light from everywhere
    bounce: Array  # linear RGB added to surfaces that look down, as a warm floor would


@dataclass(frozen=True)
class Baking:
    """How finely the light on surfaces is computed."""

    texel_m: float = 0.024  # distance of the grid's nodes, metres
    lamp_side: int = 6  # the lamp counts as this many points along each side
    ambient_rays: int = 48  # directions per node for the ambient light, cosine weighted


@dataclass(frozen=True)
class Camera:
    """One pinhole camera."""

    c2w: NDArray[np.float64]  # (4, 4) OpenCV axes
    focal: float  # pixels, both axes; the principal point is the middle of the image
    width: int
    height: int

    def scaled_to(self, width: int) -> Camera:
        """The same camera with a smaller image of the same shape."""
        return Camera(self.c2w, self.focal * width / self.width, width, round(self.height * width / self.width))

    def directions(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> Array:
        """World directions through pixels (u, v), as long as makes t the depth. (N, 3)"""
        x, y = (u - self.width / 2) / self.focal, (v - self.height / 2) / self.focal
        return (np.stack([x, y, np.ones_like(x)], axis=-1) @ self.c2w[:3, :3].T).astype(np.float32)


class Scene:
    """Shapes, a lamp, and the light baked on their faces."""

    def __init__(self, shapes: Sequence[Shape], lamp: Lamp, baking: Baking) -> None:
        self.shapes = list(shapes)
        self.lamp = lamp
        self._baking = baking
        bounds = [shape.bounds() for shape in self.shapes]
        self._centres = np.array([b[0] for b in bounds], np.float32)
        self._radii = np.array([b[1] for b in bounds], np.float32)
        self._light: dict[tuple[int, int], Array] = {}  # (shape, face): (rows, columns, 4), RGB irradiance, lamp share
        steps = (np.arange(baking.lamp_side) + 0.5) / baking.lamp_side * 2 - 1
        a, b = (grid.reshape(-1, 1) for grid in np.meshgrid(steps, steps))
        self._lamp_points = (lamp.centre + a * lamp.side_a + b * lamp.side_b).astype(np.float32)
        # Hammersley points of the disc, raised to the hemisphere: cosine weighted (Malley's method)
        share = (np.arange(baking.ambient_rays) + 0.5) / baking.ambient_rays
        bits = np.array([int(f"{k:016b}"[::-1], 2) / 65536 for k in range(baking.ambient_rays)])
        x, y = np.sqrt(share) * np.cos(2 * np.pi * bits), np.sqrt(share) * np.sin(2 * np.pi * bits)
        self._dome = np.stack([x, y, np.sqrt(1 - share)], axis=1).astype(np.float32)

    def trace(self, origins: Array, directions: Array, candidates: Ints) -> tuple[Array, Ints]:
        """Nearest t (inf for none) and the index of the shape there, among these shapes. (N,) each"""
        count = max(len(origins), len(directions))
        best, which = np.full(count, np.inf, np.float32), np.full(count, -1, np.int64)
        for index in candidates:
            t = self.shapes[index].hit(origins, directions)
            closer = t < best
            best[closer], which[closer] = t[closer], index
        return best, which

    def _in_cone(self, apex: Array, directions: Array) -> Ints:
        """Shapes that a bundle of rays from one point may meet."""
        unit = _unit(directions)
        axis = unit.mean(axis=0) / np.linalg.norm(unit.mean(axis=0))
        spread = np.arccos(np.clip((unit @ axis).min(), -1, 1))
        to = self._centres - apex
        distance = np.linalg.norm(to, axis=1)
        off = np.arccos(np.clip((to @ axis) / np.maximum(distance, 1e-6), -1, 1))
        size = np.arcsin(np.clip(self._radii / np.maximum(distance, 1e-6), 0, 1))
        return np.flatnonzero((distance <= self._radii) | (off <= spread + size + 1e-3))

    # ---- light

    def light(self, index: int, face: int) -> Array:
        """Light on one face at the nodes of its grid: RGB irradiance, and the lamp's share of it. (rows, columns, 4)"""
        if (index, face) not in self._light:
            self._light[index, face] = self._bake(self.shapes[index], face)
        return self._light[index, face]

    def _bake(self, shape: Shape, face: int) -> Array:
        width, height = shape.extent(face)
        inset = min(4e-3, width / 4, height / 4)
        columns, rows = (max(2, int(np.ceil(size / self._baking.texel_m)) + 1) for size in (width, height))
        u, v = np.linspace(inset, width - inset, columns), np.linspace(inset, height - inset, rows)
        light = np.empty((rows, columns, 4), np.float32)
        for top in range(0, rows, 16):
            for left in range(0, columns, 16):
                uu, vv = np.meshgrid(u[left : left + 16], v[top : top + 16])
                p, n = shape.point(face, uu.ravel(), vv.ravel())
                light[top : top + 16, left : left + 16] = self._irradiance(p, n, shape.two_sided).reshape(*uu.shape, 4)
        return light

    def _irradiance(self, p: Array, n: Array, two_sided: bool) -> Array:
        lamp, dome = self._lamp_points, self._dome
        count, middle = len(p), p.mean(axis=0)
        size = float(np.linalg.norm(p - middle, axis=1).max())
        to = lamp[None] - p[:, None]  # (N, L, 3)
        distance = np.sqrt(_dot(to, to))
        cosine = _dot(to, n[:, None]) / distance
        start = p[:, None] + _SKIN * n[:, None] * np.sign(cosine)[..., None]
        cosine = 0.7 * np.abs(cosine) if two_sided else np.maximum(cosine, 0)
        seen = np.zeros(count * len(lamp), bool)
        open_to = cosine.ravel() > 0
        if open_to.any():  # shapes near the line from this patch to the lamp
            line = self.lamp.centre - middle
            along = np.clip((self._centres - middle) @ line / (line @ line), 0, 1)
            gap = np.linalg.norm(self._centres - middle - along[:, None] * line, axis=1)
            lamp_size = float(np.linalg.norm(self.lamp.side_a) + np.linalg.norm(self.lamp.side_b))
            near = np.flatnonzero(gap <= self._radii + size + along * lamp_size + _SKIN)
            o, d = start.reshape(-1, 3)[open_to], to.reshape(-1, 3)[open_to]
            seen[open_to] = self.trace(o.astype(np.float32), d, near)[0] >= 1
        falloff = 1 / (1 + (distance / 2.2) ** 2)
        direct = (seen.reshape(count, -1) * cosine * falloff).mean(axis=1)

        # ambient: a direction counts 1 - exp(-free distance / 0.35 m)
        helper = np.where(np.abs(n[:, 2:]) > 0.9, [[1.0, 0, 0]], [[0, 0, 1.0]])
        a = _unit(np.cross(helper, n))
        b = np.cross(n, a)
        spin = 2.399963 * np.arange(count)  # another angle at each node, so that the pattern of directions hides
        c, s = np.cos(spin)[:, None], np.sin(spin)[:, None]
        a, b = c * a + s * b, c * b - s * a
        d = dome[:, 0, None] * a[:, None] + dome[:, 1, None] * b[:, None] + dome[:, 2, None] * n[:, None]
        o = np.broadcast_to((p + _SKIN * n)[:, None], d.shape)
        near = np.flatnonzero(np.linalg.norm(self._centres - middle, axis=1) <= self._radii + size + _REACH)
        t = self.trace(o.reshape(-1, 3).astype(np.float32), d.reshape(-1, 3).astype(np.float32), near)[0]
        free = (1 - np.exp(-np.minimum(t, _REACH) / 0.35)).reshape(count, -1).mean(axis=1)[:, None]
        sky = self.lamp.ambient * (0.8 + 0.2 * n[:, 2:]) + self.lamp.bounce * (0.5 - 0.5 * n[:, 2:])
        return np.concatenate([direct[:, None] * self.lamp.colour + free * sky, direct[:, None]], axis=1)

    # ---- pictures

    def depth(self, camera: Camera) -> Array:
        """Depth at the pixel centres, 0 where nothing is. (height, width)"""
        depth = np.zeros((camera.height, camera.width), np.float32)
        for rows, columns in _tiles(camera, 63):
            v, u = np.meshgrid(np.arange(camera.height)[rows] + 0.5, np.arange(camera.width)[columns] + 0.5, indexing="ij")
            t, _ = self.cast(camera, u.ravel(), v.ravel())
            depth[rows, columns] = np.where(np.isfinite(t), t, 0).reshape(u.shape)
        return depth

    def cast(self, camera: Camera, u: NDArray[np.float64], v: NDArray[np.float64]) -> tuple[Array, Ints]:
        """Depth and shape behind pixels (u, v) of a camera, inf and -1 where nothing is. (N,) each"""
        origin, d = camera.c2w[:3, 3].astype(np.float32), camera.directions(u, v)
        return self.trace(origin[None], d, self._in_cone(origin, d))

    def render(self, camera: Camera, samples: int = 2) -> Array:
        """Linear radiance, the mean of samples x samples rays in each pixel. (height, width, 3)"""
        image = np.empty((camera.height, camera.width, 3), np.float32)
        offsets = (np.arange(samples) + 0.5) / samples
        for rows, columns in _tiles(camera, 42):
            y, x = np.arange(camera.height)[rows], np.arange(camera.width)[columns]
            v, u = (y[:, None] + offsets).ravel(), (x[:, None] + offsets).ravel()
            vv, uu = np.meshgrid(v, u, indexing="ij")
            radiance = self._shade(camera, uu.ravel(), vv.ravel(), 1 / (camera.focal * samples))
            image[rows, columns] = radiance.reshape(len(y), samples, len(x), samples, 3).mean(axis=(1, 3))
        return image

    def _shade(self, camera: Camera, u: NDArray[np.float64], v: NDArray[np.float64], pixel: float) -> Array:
        t, which = self.cast(camera, u, v)
        origin, d = camera.c2w[:3, 3].astype(np.float32), camera.directions(u, v)
        out = np.zeros((len(t), 3), np.float32)
        for index in np.unique(which[which >= 0]):
            at = np.flatnonzero(which == index)
            shape = self.shapes[index]
            spot = shape.locate(origin + t[at, None] * d[at])
            view = -_unit(d[at])
            facing = np.maximum(np.abs(_dot(spot.normal, view)), 0.05)
            footprint = t[at] * pixel / np.sqrt(facing)
            for face in np.unique(spot.face):
                on = spot.face == face
                fu, fv = spot.u[on], spot.v[on]
                texture = shape.textures[face]
                albedo = texture.sample(fu + shape.shift[0], fv + shape.shift[1], footprint[on])
                light = self.light(int(index), int(face))
                width, height = shape.extent(int(face))
                grid = fu / width * (light.shape[1] - 1), fv / height * (light.shape[0] - 1)
                lit = _bilinear(light, *grid, wrap=False)
                colour = albedo * lit[:, :3]
                if shape.gloss:
                    point = origin + t[at[on], None] * d[at[on]]
                    to_lamp = self.lamp.centre - point
                    h = _unit(view[on] + _unit(to_lamp))  # Blinn's halfway vector
                    shine = np.maximum(_dot(h, spot.normal[on]), 0) ** 80 * lit[:, 3]
                    colour = colour + shape.gloss * shine[:, None] * self.lamp.colour
                out[at[on]] = colour
        return out


def _tiles(camera: Camera, size: int) -> list[tuple[slice, slice]]:
    """Rows and columns of squares that cover an image: rays close together meet few shapes."""
    return [
        (slice(top, min(top + size, camera.height)), slice(left, min(left + size, camera.width)))
        for top in range(0, camera.height, size)
        for left in range(0, camera.width, size)
    ]

"""A small ray caster in numpy: light baked on the shapes of `raycast_shapes.py`, and pictures and depths of them.

It shares no code with sparse3d, so that what it draws and measures is ground truth from an independent hand.
Conventions are the project's: OpenCV camera axes (x right, y down, z forward), pixel centres at +0.5, depth = z in
camera axes. The world is in metres with z up. Colours are linear radiance unless a name says sRGB.

Light does not depend on the eye here (but for a little gloss), so it is computed once per surface on a grid of about
2 cm, the first time a ray meets it: soft shadows of one rectangular lamp, and ambient light that dims where other
surfaces are near.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from raycast_shapes import Array, Ints, Shape, bilinear, dot, unit

_SKIN = 2e-3  # metres: shadow rays start this far above their surface
_REACH = 1.0  # metres: what is farther away takes no ambient light


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
        rays = unit(directions)
        axis = unit(rays.mean(axis=0))
        spread = np.arccos(np.clip((rays @ axis).min(), -1, 1))
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
        distance = np.sqrt(dot(to, to))
        cosine = dot(to, n[:, None]) / distance
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
        a = unit(np.cross(helper, n))
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
            v, u = np.meshgrid(
                np.arange(camera.height)[rows] + 0.5, np.arange(camera.width)[columns] + 0.5, indexing="ij"
            )
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
            view = -unit(d[at])
            facing = np.maximum(np.abs(dot(spot.normal, view)), 0.05)
            footprint = t[at] * pixel / np.sqrt(facing)
            for face in np.unique(spot.face):
                on = spot.face == face
                fu, fv = spot.u[on], spot.v[on]
                texture = shape.textures[face]
                albedo = texture.sample(fu + shape.shift[0], fv + shape.shift[1], footprint[on])
                light = self.light(int(index), int(face))
                width, height = shape.extent(int(face))
                grid = fu / width * (light.shape[1] - 1), fv / height * (light.shape[0] - 1)
                lit = bilinear(light, *grid, wrap=False)
                colour = albedo * lit[:, :3]
                if shape.gloss:
                    point = origin + t[at[on], None] * d[at[on]]
                    to_lamp = self.lamp.centre - point
                    h = unit(view[on] + unit(to_lamp))  # Blinn's halfway vector
                    shine = np.maximum(dot(h, spot.normal[on]), 0) ** 80 * lit[:, 3]
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

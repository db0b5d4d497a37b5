"""Pictures and exact depth of procedural scenes: every surface is met by the rays of the pixels that it may cover."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.geometry import invert_rigid, pixel_rays
from sparse3d.train.surfaces import Surface
from sparse3d.train.textures import SIDE

_SHADOW_PX = 448  # side of the lamp's depth map
_SAMPLES = 2  # rays along each side of a pixel
_LEVELS = 6  # halvings of the textures


@dataclass(frozen=True)
class Camera:
    """A pinhole camera."""

    c2w: Tensor  # (4, 4) OpenCV axes, metres
    K: Tensor  # (3, 3) pixels
    height: int
    width: int

    def scaled(self, factor: float) -> Camera:
        """The same camera with `factor` times the pixels along each side."""
        scale = torch.tensor([factor, factor, 1.0])
        return Camera(self.c2w, self.K * scale[:, None], round(self.height * factor), round(self.width * factor))


@dataclass(frozen=True)
class Lamp:
    """The one light that casts shadows, which sees the scene as a camera does; and light from everywhere."""

    camera: Camera
    color: Tensor  # (3,) linear
    ambient: Tensor  # (3,) linear, from above; half as much from below
    falloff: float  # metres after which it is half as bright; inf for the sun


@dataclass(frozen=True)
class Scene:
    """Surfaces, their textures and the light."""

    kind: str
    surfaces: Sequence[Surface]
    textures: Tensor  # (T, 3, SIDE, SIDE) linear
    lamp: Lamp
    sky: Tensor  # (2, 3) linear, at the horizon and above

    @cached_property
    def mips(self) -> list[Tensor]:
        """The textures at SIDE, SIDE / 2, ... pixels, a row for each pixel. (T * side * side, 3) each"""
        levels = [self.textures]
        for _ in range(_LEVELS):
            levels.append(F.avg_pool2d(levels[-1], 2))
        return [level.permute(0, 2, 3, 1).reshape(-1, 3).contiguous() for level in levels]

    @cached_property
    def shadow(self) -> Tensor:
        """Depth of what the lamp sees. (H, W), inf where nothing is"""
        return trace(self, self.lamp.camera)[0]


def trace(scene: Scene, camera: Camera) -> tuple[Tensor, Tensor]:
    """Depth at the pixel centres, inf where nothing is, and the index of the surface there, -1. (H, W) each"""
    rays = _rays(camera)
    depth = torch.full(rays.shape[:2], float("inf"))
    which = torch.full(rays.shape[:2], -1, dtype=torch.long)
    origin = camera.c2w[:3, 3]
    for index, surface in enumerate(scene.surfaces):
        window = _window(camera, *surface.ball)
        if window is None:
            continue
        t = surface.meet(origin, rays[window])
        nearer = t < depth[window]
        depth[window] = torch.where(nearer, t, depth[window])
        which[window] = torch.where(nearer, index, which[window])
    return depth, which


def cast(scene: Scene, camera: Camera) -> tuple[Tensor, Tensor]:
    """A picture, linear light (3, H, W), and depth at its pixel centres, 0 where nothing is (H, W)."""
    depth, _ = trace(scene, camera)
    fine = camera.scaled(_SAMPLES)
    light = F.avg_pool2d(_shaded(scene, fine)[None], _SAMPLES)[0]
    return light, torch.where(depth.isfinite(), depth, 0.0)


def _rays(camera: Camera) -> Tensor:
    """World directions through the pixel centres, as long as makes t the depth. (H, W, 3)"""
    return pixel_rays(camera.K, camera.height, camera.width) @ camera.c2w[:3, :3].T


def _window(camera: Camera, centre: Tensor, radius: float) -> tuple[slice, slice] | None:
    """Rows and columns that a ball may cover; None when it is behind the camera or beside its picture."""
    x, y, z = (invert_rigid(camera.c2w)[:3] @ torch.cat([centre, torch.ones(1)])).tolist()
    if z < -radius:
        return None
    if z < 1.05 * radius:
        return slice(0, camera.height), slice(0, camera.width)
    spans = []
    for value, focal, middle, size in (
        (y, camera.K[1, 1], camera.K[1, 2], camera.height),
        (x, camera.K[0, 0], camera.K[0, 2], camera.width),
    ):
        # |(x + dx) / (z + dz) - x / z| <= r (1 + |x| / z) / (z - r)
        reach = float(focal) * radius * (1 + abs(value) / z) / (z - radius)
        at = float(focal) * value / z + float(middle)
        spans.append((max(0, int(at - reach)), min(size, int(at + reach) + 2)))
    if any(first >= last for first, last in spans):
        return None
    return slice(*spans[0]), slice(*spans[1])


def _shaded(scene: Scene, camera: Camera) -> Tensor:
    """Linear light at the pixel centres. (3, H, W)"""
    depth, which = trace(scene, camera)
    rays, origin = _rays(camera), camera.c2w[:3, 3]
    up = F.normalize(rays, dim=-1)[..., 2:]
    picture = scene.sky[0] + (scene.sky[1] - scene.sky[0]) * up.clamp(0, 1) ** 0.6
    order = which.flatten().argsort()
    counts = torch.bincount(which.flatten() + 1, minlength=len(scene.surfaces) + 1).tolist()
    at = order[counts[0] :]
    points = origin + rays.reshape(-1, 3)[at] * depth.flatten()[at, None]
    places, normals, looks = [], [], []
    start = 0
    for surface, count in zip(scene.surfaces, counts[1:], strict=True):
        if count == 0:
            continue
        place, normal = surface.unroll(points[start : start + count])
        finish = surface.finish
        look = torch.tensor([finish.texture, finish.size, finish.shade, finish.tint, finish.gloss])
        places.append(place)
        normals.append(normal)
        looks.append(look.expand(count, 5))
        start += count
    if start:
        seen = F.normalize(rays.reshape(-1, 3)[at], dim=-1)
        picture.reshape(-1, 3)[at] = _lit(
            scene,
            points,
            torch.cat(places),
            torch.cat(normals),
            torch.cat(looks),
            seen,
            depth.flatten()[at] / camera.K[0, 0],
        )
    return picture.permute(2, 0, 1)


def _lit(
    scene: Scene, points: Tensor, places: Tensor, normals: Tensor, looks: Tensor, seen: Tensor, pixel: Tensor
) -> Tensor:
    """Light from N points towards the eye. (N, 3)

    Args:
        places: (N, 2) on their unrolled surfaces, metres.
        looks: (N, 5) texture, its size, shade, tint, gloss.
        seen: (N, 3) unit directions from the eye.
        pixel: (N,) metres that a pixel is wide there.
    """
    facing = (normals * seen).sum(-1, keepdim=True)
    normals = torch.where(facing > 0, -normals, normals)  # cards have two sides
    footprint = pixel / facing.abs()[:, 0].clamp(min=0.15).sqrt()
    base = _sampled(scene, looks[:, 0], places / looks[:, 1:2], footprint / looks[:, 1])
    wide = 3.7 * looks[:, 1]
    shade = _sampled(scene, looks[:, 2], places / wide[:, None] + 0.31, footprint / wide).mean(-1, keepdim=True)
    albedo = base * (0.75 + 0.7 * shade) * looks[:, 3:4]
    lamp = scene.lamp
    to = lamp.camera.c2w[:3, 3] - points
    far = to.norm(dim=-1, keepdim=True)
    to = to / far
    direct = (normals * to).sum(-1, keepdim=True).clamp(min=0) * _open(scene, points + 0.02 * normals)[:, None]
    direct = direct / (1 + (far / lamp.falloff) ** 2)
    around = 0.75 + 0.25 * normals[:, 2:]
    halfway = F.normalize(to - seen, dim=-1)
    shine = (halfway * normals).sum(-1, keepdim=True).clamp(min=0) ** 60 * (direct > 0)
    return albedo * (direct * lamp.color + around * lamp.ambient) + looks[:, 4:5] * shine * lamp.color


def _open(scene: Scene, points: Tensor) -> Tensor:
    """How far the lamp sees points: percentage-closer filtering of its depth map (Reeves et al. 1987). (N,) in [0, 1]"""
    camera = scene.lamp.camera
    local = (points - camera.c2w[:3, 3]) @ camera.c2w[:3, :3]
    z = local[:, 2].clamp(min=1e-3)
    u, v = (local[:, k] / z * camera.K[k, k] + camera.K[k, 2] - 0.5 for k in (0, 1))
    u0, v0 = u.floor(), v.floor()
    share = torch.zeros_like(z)
    slack = 0.01 * z + 0.015
    for dv in (0, 1):
        for du in (0, 1):
            column, row = (u0 + du).long().clamp(0, camera.width - 1), (v0 + dv).long().clamp(0, camera.height - 1)
            weight = (1 - (u - u0 - du).abs()) * (1 - (v - v0 - dv).abs())
            share += weight * (scene.shadow[row, column] > z - slack)
    seen = (local[:, 2] > 0) & (u > 0) & (v > 0) & (u < camera.width - 1) & (v < camera.height - 1)
    return torch.where(seen, share, 0.0)


def _sampled(scene: Scene, index: Tensor, place: Tensor, footprint: Tensor) -> Tensor:
    """Colours of textures, repeated, at the level whose pixels are as large as what a ray covers.

    Args:
        index: (N,) which texture.
        place: (N, 2) in repetitions.
        footprint: (N,) in repetitions.

    Returns:
        (N, 3)
    """
    level = (footprint * SIDE).clamp(min=1).log2().round().long().clamp(max=_LEVELS)
    found = torch.empty(len(place), 3)
    for at, rows in enumerate(scene.mips):
        chosen = torch.nonzero(level == at)[:, 0]
        if len(chosen) == 0:
            continue
        side = SIDE >> at
        xy = place[chosen] * side - 0.5
        low = xy.floor()
        share, corner = xy - low, low.long()
        first = index[chosen].long() * side * side
        x0, y0 = (corner % side).unbind(-1)
        x1, y1 = ((corner + 1) % side).unbind(-1)
        fx, fy = share[:, :1], share[:, 1:]
        top = rows[first + y0 * side + x0] * (1 - fx) + rows[first + y0 * side + x1] * fx
        bottom = rows[first + y1 * side + x0] * (1 - fx) + rows[first + y1 * side + x1] * fx
        found[chosen] = top * (1 - fy) + bottom * fy
    return found


def looking(place: Tensor, target: Tensor, roll: float = 0.0) -> Tensor:
    """The pose of a camera at `place` that looks at `target`, the world's z up in its picture but for the roll (radians). (4, 4) camera to world"""
    forward = F.normalize(target - place, dim=0)
    up = torch.tensor([0.0, 0.0, 1.0])
    up = torch.tensor([0.0, 1.0, 0.0]) if float(forward[2].abs()) > 0.999 else up
    right = F.normalize(torch.linalg.cross(forward, up), dim=0)
    down = torch.linalg.cross(forward, right)
    turn = torch.tensor(roll)
    c2w = torch.eye(4)
    c2w[:3, 0] = torch.cos(turn) * right + torch.sin(turn) * down
    c2w[:3, 1] = torch.cos(turn) * down - torch.sin(turn) * right
    c2w[:3, 2], c2w[:3, 3] = forward, place
    return c2w


def lamp_camera(place: Tensor, target: Tensor, field_deg: float) -> Camera:
    """The lamp's view of the scene."""
    focal = _SHADOW_PX / 2 / math.tan(math.radians(field_deg / 2))
    K = torch.tensor([[focal, 0, _SHADOW_PX / 2], [0, focal, _SHADOW_PX / 2], [0, 0, 1]])
    return Camera(looking(place, target), K, _SHADOW_PX, _SHADOW_PX)

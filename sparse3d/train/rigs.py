"""Random cameras before a scene, as people hold them: sideways steps, arcs, walks, unsteady hands."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparse3d.train.caster import Camera, Scene, looking, trace
from sparse3d.train.textures import uniform

_TRIES = 60
_COARSE = 1 / 8  # of the pictures that cameras are judged by
_DISTANCES = {
    "room": (1.2, 4.0),
    "clutter": (1.2, 3.2),
    "cards": (2.5, 4.5),
    "landscape": (3.0, 8.0),
    "thin": (1.2, 3.2),
}
_NEAREST = 0.12  # of the median depth: what is nearer than this fills a picture


def random_cameras(
    scene: Scene, count: int, height: int, width: int, generator: torch.Generator
) -> list[Camera] | None:
    """Cameras that look at the same things, 2 to 25 degrees apart as seen from there.

    Returns:
        `count` of them, or None when none of many places in the scene will do.
    """
    for _ in range(_TRIES):
        cameras = _drawn(scene, count, height, width, generator)
        if all(_good(scene, camera) for camera in cameras):
            return cameras
    return None


def _drawn(scene: Scene, count: int, height: int, width: int, generator: torch.Generator) -> list[Camera]:
    number = lambda low, high: uniform(generator, low, high)
    focal = 0.5 * width / math.tan(math.radians(number(20, 37)))  # 40 to 74 degrees across
    K = torch.tensor(
        [
            [focal, 0, width / 2 + number(-2, 2)],
            [0, focal * number(0.995, 1.005), height / 2 + number(-2, 2)],
            [0, 0, 1],
        ]
    )
    distance = number(*_DISTANCES[scene.kind])
    target = torch.tensor([number(-0.7, 0.7), number(-0.7, 0.7), number(0.2, 1.2)])
    # cards are seen from the front, the others from anywhere
    azimuth = -math.pi / 2 + number(-0.3, 0.3) if scene.kind == "cards" else number(0, 2 * math.pi)
    elevation = number(-0.05, 0.6) if scene.kind != "landscape" else number(0.12, 0.6)
    reach = math.radians(2 * 10 ** number(0, 1.1))  # half of the angle that the whole rig spans: 2 to 25 degrees
    kind = int(number(0, 3))
    lean = number(0, math.pi)
    cameras = []
    for index in range(count):
        along = (2 * (index + number(-0.3, 0.3)) / max(1, count - 1) - 1) * reach
        if kind == 0:  # an arc
            a, e, d = along, 0.15 * reach * number(-1, 1), distance * number(0.95, 1.05)
        elif kind == 1:  # a slanted line, as of a hand that moves
            a, e, d = along * math.cos(lean), along * math.sin(lean), distance / math.cos(along)
        else:  # scattered
            a, e, d = reach * number(-1, 1), 0.6 * reach * number(-1, 1), distance * (1 + reach * number(-0.5, 0.5))
        up = min(max(elevation + e, -0.2), 1.3)
        place = target + d * torch.tensor(
            [math.cos(up) * math.cos(azimuth + a), math.cos(up) * math.sin(azimuth + a), math.sin(up)]
        )
        aim = target + 0.06 * distance * torch.tensor([number(-1, 1), number(-1, 1), number(-1, 1)])
        cameras.append(Camera(looking(place, aim, math.radians(number(-4, 4))), K, height, width))
    return cameras


def _good(scene: Scene, camera: Camera) -> bool:
    """Not inside anything, not with its nose on something, and most of what it shows is there."""
    place = camera.c2w[None, :3, 3]
    if any(bool(surface.contains(place).any()) for surface in scene.surfaces):
        return False
    depth: Tensor = trace(scene, camera.scaled(_COARSE))[0]
    known = depth[depth.isfinite()]
    if len(known) < 0.6 * depth.numel():
        return False
    return float(known.quantile(0.02)) > _NEAREST * float(known.median()) and float(known.median()) > 0.5

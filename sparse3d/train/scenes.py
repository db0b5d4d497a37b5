"""Random scenes: rooms, table tops, layered cards, landscapes, and thin things before walls."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sparse3d.train.caster import Lamp, Scene, lamp_camera
from sparse3d.train.surfaces import Ball, Box, Card, Finish, Rod, Surface, Terrain
from sparse3d.train.textures import KINDS, choice, clouds, cutout, texture, uniform

_TEXTURES = 14
_WALLS = ("plain", "plain", "clouds", "bricks", "stripes", "wood", "print", "speckles")


class _Maker:
    """Draws the parts of one scene."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        kinds = [*_WALLS[:1], *(list(KINDS)[choice(generator, len(KINDS))] for _ in range(_TEXTURES - 1))]
        self.textures = torch.stack([texture(generator, kind) for kind in kinds])
        self.surfaces: list[Surface] = []

    def number(self, low: float, high: float) -> float:
        return uniform(self.generator, low, high)

    def count(self, low: int, high: int) -> int:
        return low + choice(self.generator, high - low + 1)

    def vector(self, low: tuple[float, ...], high: tuple[float, ...]) -> Tensor:
        return torch.tensor([self.number(a, b) for a, b in zip(low, high, strict=True)])

    def finish(self, size: float, gloss: float = 0.25) -> Finish:
        shines = self.number(0, gloss) if self.number(0, 1) < 0.3 else 0.0
        pick = lambda: choice(self.generator, _TEXTURES)
        return Finish(pick(), size * self.number(0.5, 2), pick(), self.number(0.6, 1.2), shines)

    def turned(self, most_deg: float = 180.0, tilt_deg: float = 0.0) -> Tensor:
        """Axes turned about the vertical, then tilted. (3, 3)"""
        turn, tilt, lean = (math.radians(self.number(-d, d)) for d in (most_deg, tilt_deg, tilt_deg))
        return _about(2, turn) @ _about(0, tilt) @ _about(1, lean)

    def facing(self, normal: Tensor, askew_deg: float) -> Tensor:
        """Axes of a card that looks along `normal`, but for some turning; its rows run downwards. (3, 3)"""
        up = torch.tensor([0.0, 0.0, 1.0]) if abs(float(normal[2])) < 0.9 else torch.tensor([0.0, 1.0, 0.0])
        u = torch.nn.functional.normalize(torch.linalg.cross(up, normal), dim=0)
        v = torch.linalg.cross(u, normal)
        basis = torch.stack([u, v, normal], 1)
        a, b, c = (math.radians(self.number(-askew_deg, askew_deg)) for _ in range(3))
        return basis @ _about(0, a) @ _about(1, b) @ _about(2, c)

    def thing(self, place: Tensor, size: float) -> None:
        """Something of about `size` metres that stands on `place`."""
        kind, low = self.number(0, 1), torch.tensor([0.0, 0.0, 1.0])
        if kind < 0.45:
            half = size / 2 * self.vector((0.4, 0.4, 0.3), (1.2, 1.2, 1.4))
            self.surfaces.append(Box(self.finish(size), place + low * half[2], self.turned(), half))
        elif kind < 0.65:
            half = size / 2 * self.vector((0.6, 0.6, 0.6), (1.1, 1.1, 1.2))
            self.surfaces.append(Ball(self.finish(size), place + low * half[2], self.turned(180, 30), half))
        elif kind < 0.85:
            half = size / 2 * self.number(0.5, 1.6)
            radius = size / 2 * self.number(0.25, 0.8)
            self.surfaces.append(Rod(self.finish(size), place + low * half, self.turned(180, 0), radius, half))
        else:
            self.plant(place, size * self.number(1, 1.8))

    def plant(self, place: Tensor, size: float) -> None:
        """A stem and leaves."""
        up = torch.tensor([0.0, 0.0, 1.0])
        stem = size * self.number(0.2, 0.5)
        self.surfaces.append(Rod(self.finish(size), place + up * stem, self.turned(180, 8), 0.03 * size, stem))
        look = self.finish(size)
        for _ in range(self.count(3, 7)):
            half = size * self.vector((0.15, 0.15), (0.4, 0.4))
            at = place + up * 2 * stem + size * self.vector((-0.25, -0.25, -0.2), (0.25, 0.25, 0.3))
            axes = self.turned(180, 60) @ _about(0, math.pi / 2)
            self.surfaces.append(Card(look, at, axes, half, cutout(self.generator)))

    def table(self, place: Tensor, half: Tensor, height: float) -> float:
        """A slab on four legs; returns the height of its top."""
        axes, look = self.turned(), self.finish(0.5)
        up, thick = torch.tensor([0.0, 0.0, 1.0]), 0.02
        top = torch.tensor([float(half[0]), float(half[1]), thick])
        self.surfaces.append(Box(look, place + up * (height - thick), axes, top))
        leg = self.number(0.012, 0.04)
        for x in (-1, 1):
            for y in (-1, 1):
                corner = axes @ torch.tensor([x * 0.92 * float(half[0]), y * 0.92 * float(half[1]), 0.0])
                legs = (height - 2 * thick) / 2
                self.surfaces.append(Rod(look, place + corner + up * legs, torch.eye(3), leg, legs))
        return height

    def scene(self, kind: str, lamp: Tensor, target: Tensor, field_deg: float, falloff: float) -> Scene:
        warm = torch.tensor([1.0, self.number(0.88, 1.0), self.number(0.7, 1.0)])
        light = Lamp(
            lamp_camera(lamp, target, field_deg),
            warm * self.number(0.6, 1.5),
            torch.tensor([self.number(0.85, 1), self.number(0.9, 1), 1.0]) * self.number(0.25, 0.8),
            falloff,
        )
        sky = torch.tensor([[0.75, 0.8, 0.85], [0.25, 0.45, 0.8]]) * self.number(0.5, 1.2)
        return Scene(kind, self.surfaces, self.textures, light, sky)


def _about(axis: int, angle: float) -> Tensor:
    """Rotation about one axis."""
    turn = torch.eye(3)
    i, j = (k for k in range(3) if k != axis)
    turn[i, i] = turn[j, j] = math.cos(angle)
    turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
    return turn


def _room(make: _Maker) -> Scene:
    """Four walls with furniture, things on tables, pictures on the walls."""
    half = make.vector((1.8, 1.8, 1.15), (3.5, 3.5, 1.6))
    centre = torch.tensor([0.0, 0.0, float(half[2])])
    make.surfaces.append(Box(make.finish(1.2, 0.05), centre, torch.eye(3), half, room=True))
    # the textures of a room's faces differ: thin slabs before some of them
    floor = torch.tensor([float(half[0]), float(half[1]), 0.005])
    make.surfaces.append(Box(make.finish(1.0, 0.3), torch.tensor([0.0, 0.0, 0.0]), torch.eye(3), floor))
    for _ in range(make.count(4, 9)):
        at = make.vector((-0.85, -0.85, 0), (0.85, 0.85, 0)) * half
        if make.number(0, 1) < 0.45:
            slab = make.vector((0.3, 0.3), (0.8, 0.6))
            top = make.table(at, slab, make.number(0.35, 0.9))
            for _ in range(make.count(0, 4)):
                on = at + torch.cat([slab * 0.55 * make.vector((-1, -1), (1, 1)), torch.tensor([top])])
                make.thing(on, make.number(0.08, 0.3))
        else:
            make.thing(at, make.number(0.3, 1.2))
    for _ in range(make.count(2, 7)):
        wall, sign = choice(make.generator, 2), 1 if make.number(0, 1) < 0.5 else -1
        normal = torch.zeros(3)
        normal[wall] = -sign
        at = make.vector((-0.8, -0.8, 0.5), (0.8, 0.8, 1.6)) * half
        at[wall] = sign * (half[wall] - make.number(0.005, 0.06))
        size = make.vector((0.15, 0.15), (0.8, 0.6))
        make.surfaces.append(Card(make.finish(float(size.max()) * 2, 0.4), at, make.facing(normal, 1), size))
    place = torch.tensor([make.number(-0.5, 0.5), make.number(-0.5, 0.5), 0.0]) * half
    place[2] = 2 * half[2] - 0.1
    return make.scene("room", place, place * torch.tensor([0.6, 0.6, 0.0]), 150, 3.0)


def _clutter(make: _Maker) -> Scene:
    """Many things on a table or the ground."""
    ground = Card(
        make.finish(0.8), torch.zeros(3), make.facing(torch.tensor([0.0, 0.0, 1.0]), 0), torch.tensor([8.0, 8.0])
    )
    make.surfaces.append(ground)
    for turn in range(make.count(1, 3)):  # walls behind
        angle = make.number(0, 1.0) + 1.6 * turn
        away = torch.tensor([math.cos(angle), math.sin(angle), 0.0])
        at = away * make.number(1.8, 4.5) + torch.tensor([0.0, 0.0, 1.0])
        make.surfaces.append(Card(make.finish(1.5), at, make.facing(-away, 4), torch.tensor([5.0, 2.5])))
    for _ in range(make.count(8, 24)):
        make.thing(make.vector((-1.2, -1.2, 0), (1.2, 1.2, 0)), make.number(0.1, 0.55))
    lamp = make.vector((-2, -2, 2.5), (2, 2, 4.5))
    return make.scene("clutter", lamp, torch.zeros(3), 110, 5.0)


def _cards(make: _Maker) -> Scene:
    """Layers one behind the other, askew, with ragged outlines: nothing but depth edges."""
    back = torch.tensor([0.0, 3.0, 1.2])
    look = torch.tensor([0.0, -1.0, 0.0])
    make.surfaces.append(Card(make.finish(2.0), back, make.facing(look, 12), torch.tensor([6.0, 4.5])))
    if make.number(0, 1) < 0.5:
        floor = make.facing(torch.tensor([0.0, 0.0, 1.0]), 2)
        make.surfaces.append(Card(make.finish(1.0), torch.tensor([0.0, 0.0, -0.6]), floor, torch.tensor([7.0, 7.0])))
    for _ in range(make.count(4, 12)):
        at = make.vector((-2.2, -1.4, -0.2), (2.2, 2.4, 2.6))
        half = make.vector((0.25, 0.25), (1.0, 1.0))
        shape = cutout(make.generator) if make.number(0, 1) < 0.7 else None
        make.surfaces.append(Card(make.finish(1.0), at, make.facing(look, 40), half, shape))
    return make.scene("cards", make.vector((-2, -5, 2), (2, -3, 5)), torch.tensor([0.0, 1.0, 1.0]), 100, 9.0)


def _landscape(make: _Maker) -> Scene:
    """Hills with trees, houses and stones, under a sky."""
    half, nodes = 14.0, 96
    hills = clouds(make.generator, make.number(1.8, 2.4))[:nodes, :nodes] * make.number(0.15, 0.9)
    ground = Terrain(make.finish(2.5, 0.0), hills - hills[nodes // 2, nodes // 2], half)
    make.surfaces.append(ground)
    for _ in range(make.count(8, 22)):
        at = make.vector((-6, -6, 0), (6, 6, 0))
        at[2] = ground.height(at[:1], at[1:2])[0] - 0.05
        if make.number(0, 1) < 0.4:
            make.plant(at, make.number(0.8, 2.2))
        else:
            make.thing(at, make.number(0.3, 2.0))
    sun = make.vector((-9, -9, 8), (9, 9, 14))
    return make.scene("landscape", sun, torch.zeros(3), 70, 1e6)


def _thin(make: _Maker) -> Scene:
    """Rods, wires, lattices and leaves before walls and things."""
    scene_of = _clutter if make.number(0, 1) < 0.5 else _room
    scene_of(make)
    look = make.finish(0.4)
    for _ in range(make.count(8, 22)):
        at = make.vector((-1.2, -1.2, 0.1), (1.2, 1.2, 1.3))
        kind = make.number(0, 1)
        if kind < 0.6:
            radius = 10 ** make.number(-2.3, -1.5)
            make.surfaces.append(Rod(look, at, make.turned(180, 90), radius, make.number(0.2, 1.0)))
        else:
            half = make.vector((0.15, 0.15), (0.5, 0.5))
            make.surfaces.append(
                Card(
                    make.finish(0.5), at, make.facing(torch.tensor([0.0, -1.0, 0.0]), 80), half, cutout(make.generator)
                )
            )
    lamp = make.vector((-1, -1, 2.1), (1, 1, 2.25))
    return make.scene("thin", lamp, torch.zeros(3), 150, 4.0)


_KINDS: dict[str, Callable[[_Maker], Scene]] = {
    "room": _room,
    "clutter": _clutter,
    "cards": _cards,
    "landscape": _landscape,
    "thin": _thin,
}
_OFTEN = ("room", "room", "room", "clutter", "clutter", "cards", "cards", "landscape", "thin")

NAMES = tuple(_KINDS)


def random_scene(generator: torch.Generator, kind: str | None = None) -> Scene:
    """One scene of a kind of NAMES; a random one, rooms most often, when left out."""
    return _KINDS[kind or _OFTEN[choice(generator, len(_OFTEN))]](_Maker(generator))

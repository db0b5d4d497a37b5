"""The example room: which shape stands where. Metres, z up, the corner of the two visible walls at the origin.

The brick wall is x = 0, the papered one y = 0; the room is 5.2 m square and 2.75 m high. The camera walks an arc on the
far side of the coffee table, looking into the corner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import room_textures as paint
from raycast import Baking, Lamp, Scene
from raycast_shapes import Array, Box, Lathe, Leaf, Shape, Sphere, Texture

ROOM, CEILING = 5.2, 2.75
FINE_TEXEL_M = 0.003  # at 3 m a pixel of the photos covers 3.7 mm


def _turn(angle_deg: float, tilt_deg: float = 0.0) -> Array:
    """Rotation about the vertical, after a lean backwards about the box's own x axis."""
    a, b = np.radians([angle_deg, tilt_deg])
    upright = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    lean = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return (upright @ lean).astype(np.float32)


class _Room:
    """Collects shapes, and gives each board another piece of its texture."""

    def __init__(self, texel_m: float) -> None:
        self.texel_m = texel_m
        self.shapes: list[Shape] = []
        self.rng = paint.rng_of("room")

    def box(
        self,
        low: Sequence[float],
        size: Sequence[float],
        texture: Texture | Sequence[Texture],
        place: tuple[float, float, float, float] = (0, 0, 0, 0),
        tilt_deg: float = 0.0,
        moved: bool = True,
        gloss: float = 0.0,
    ) -> None:
        """A box from its lowest corner and sizes, in a frame `place`d at (x, y, z) and turned by the last, degrees."""
        half = np.asarray(size, np.float32) / 2
        turn = _turn(place[3])
        centre = turn @ (np.asarray(low, np.float32) + half) + np.asarray(place[:3], np.float32)
        textures = [texture] * 6 if isinstance(texture, Texture) else list(texture)
        shift = tuple(self.rng.uniform(0, 1, 2).tolist()) if moved else (0.0, 0.0)
        self.shapes.append(Box(centre.astype(np.float32), half, _turn(place[3], tilt_deg), textures, shift, gloss))

    def lathe(
        self, x: float, y: float, z: float, profile: Sequence[tuple[float, float]], texture: Texture, gloss: float = 0
    ) -> None:
        """A turned shape standing at (x, y, z)."""
        self.shapes.append(Lathe(np.array([x, y, z], np.float32), np.array(profile, np.float32), [texture], gloss))

    def ball(self, x: float, y: float, z: float, radius: float, texture: Texture, gloss: float = 0) -> None:
        """A ball centred at (x, y, z)."""
        shift = (0.0, 0.0) if radius > 0.06 else tuple(self.rng.uniform(0, 1, 2).tolist())
        self.shapes.append(Sphere(np.array([x, y, z], np.float32), radius, [texture], gloss, shift))

    def leaf(
        self, root: Sequence[float], angle: float, rise: float, length: float, width: float, texture: Texture
    ) -> None:
        """A leaf that starts at `root`, heads for compass `angle` and rises by `rise` radians."""
        along = np.array([np.cos(angle) * np.cos(rise), np.sin(angle) * np.cos(rise), np.sin(rise)], np.float32)
        across = np.array([-np.sin(angle), np.cos(angle), 0], np.float32)
        centre = np.asarray(root, np.float32) + 0.5 * length * along
        self.shapes.append(Leaf(centre, along, across, length, width, [texture], 0.0, (float(angle % 1), 0.0)))


def build_room(texel_m: float = FINE_TEXEL_M, baking: Baking | None = None) -> Scene:
    """The furnished corner.

    Args:
        texel_m: Size of the large textures' texels, metres; what is close to the camera gets half of it.
        baking: Fineness of the light; left out, that of the photos.
    """
    room = _Room(texel_m)
    for part in (_shell, _pictures, _sofa, _bookshelf, _floor_lamp, _coffee_table, _chair, _boxes, _plant):
        part(room)
    lamp = Lamp(
        centre=np.array([3.5, 4.3, 2.45], np.float32),
        side_a=np.array([0.5, -0.25, 0], np.float32),
        side_b=np.array([0, 0, 0.25], np.float32),
        colour=np.array([4.60, 4.28, 3.74], np.float32),
        ambient=np.array([0.37, 0.41, 0.48], np.float32),
        bounce=np.array([0.16, 0.11, 0.07], np.float32),
    )
    return Scene(room.shapes, lamp, baking or Baking())


def _shell(room: _Room) -> None:
    t = room.texel_m
    floor, wall = paint.planks(ROOM, ROOM, t), paint.wallpaper(ROOM, CEILING, t)
    brick = paint.bricks(ROOM, CEILING, t)
    plaster, skirting = (
        paint.mottled("plaster", (0.86, 0.84, 0.79), 0.04, 2 * t),
        paint.mottled("skirting", (0.88, 0.86, 0.82), 0.05, t),
    )
    room.box((0, 0, -0.1), (ROOM, ROOM, 0.1), floor, moved=False, gloss=0.03)
    room.box((-0.1, 0, 0), (0.1, ROOM, CEILING), brick, moved=False)
    room.box((0, -0.1, 0), (ROOM, 0.1, CEILING), wall, moved=False)
    room.box((0, 0, CEILING), (ROOM, ROOM, 0.1), plaster)
    room.box((ROOM, 0, 0), (0.1, ROOM, CEILING), plaster)
    room.box((0, ROOM, 0), (ROOM, 0.1, CEILING), plaster)
    room.box((0, 0, 0), (0.016, ROOM, 0.10), skirting)
    room.box((0, 0, 0), (ROOM, 0.016, 0.10), skirting)
    room.box((-1.15, -0.8, 0), (2.3, 1.6, 0.012), paint.rug(2.3, 1.6, t / 1.5), (1.95, 1.75, 0, -12), moved=False)


def _pictures(room: _Room) -> None:
    t, edge = room.texel_m / 1.5, paint.plain((0.22, 0.16, 0.11))
    for kind, at, width, height in (
        ("hills", (1.42, 1.36), 0.86, 0.60),
        ("tiles", (2.52, 1.28), 0.52, 0.72),
        ("map", (0.62, 1.30), 0.56, 0.56),
    ):
        front = paint.picture(kind, width, height, t)
        faces = [edge, front, edge, edge, edge, edge]
        room.box((0.0, at[0], at[1]), (0.022, width, height), faces, moved=False, gloss=0.02)
    for kind, at, width, height in (("poster", (2.02, 1.15), 0.62, 0.88), ("hills 2", (2.92, 1.34), 0.48, 0.48)):
        front = paint.picture(kind, width, height, t)
        faces = [edge, edge, edge, front, edge, edge]
        room.box((at[0], 0.0, at[1]), (width, 0.022, height), faces, moved=False, gloss=0.02)


def _sofa(room: _Room) -> None:
    cloth = paint.plaid("sofa", (0.33, 0.42, 0.50), (0.22, 0.29, 0.38), (0.80, 0.70, 0.50), room.texel_m)
    leg = paint.plain((0.16, 0.10, 0.07))
    place = (0.06, 1.02, 0.0, 0.0)
    room.box((0, 0, 0.12), (0.86, 1.9, 0.18), cloth, place)
    room.box((0, 0, 0.30), (0.20, 1.9, 0.50), cloth, place)
    for y in (0.0, 1.72):
        room.box((0, y, 0.30), (0.86, 0.18, 0.30), cloth, place)
    for y in (0.19, 0.955):
        room.box((0.20, y, 0.30), (0.68, 0.755, 0.13), cloth, place)
    for x in (0.05, 0.76):
        for y in (0.05, 1.80):
            room.box((x, y, 0), (0.05, 0.05, 0.12), leg, place)
    t = room.texel_m / 1.5
    first = paint.cushion("cushion 1", (0.62, 0.25, 0.18), (0.90, 0.83, 0.70), t)
    second = paint.cushion("cushion 2", (0.20, 0.36, 0.34), (0.86, 0.72, 0.36), t)
    room.box((-0.22, -0.06, -0.22), (0.44, 0.12, 0.44), first, (0.36, 1.52, 0.655, -72), tilt_deg=-16, moved=False)
    room.box((-0.21, -0.06, -0.21), (0.42, 0.12, 0.42), second, (0.38, 2.46, 0.64, -112), tilt_deg=-18, moved=False)


def _bookshelf(room: _Room) -> None:
    t = room.texel_m / 1.5
    oak = paint.wood("shelf", (0.56, 0.38, 0.23), 2.4, 1.2, t)
    x0, width, depth, height, board = 0.78, 1.06, 0.29, 1.92, 0.024
    room.box((x0, 0.018, 0.0), (board, depth, height), oak)
    room.box((x0 + width - board, 0.018, 0.0), (board, depth, height), oak)
    room.box((x0, 0.018, 0.0), (width, 0.012, height), paint.wood("shelf back", (0.45, 0.31, 0.20), 1.2, 2.0, t))
    levels = (0.06, 0.43, 0.79, 1.14, 1.49, height - board)
    for z in levels:
        room.box((x0 + board, 0.018, z), (width - 2 * board, depth, board), oak)
    paper = paint.mottled("paper", (0.90, 0.86, 0.76), 0.08, t)
    index = 0
    for row, z in enumerate(levels[:-1]):
        x, end = x0 + board + 0.012, x0 + width - board - 0.02
        if row == 2:
            end -= 0.34  # room for the globe
        if row == 4:
            x += 0.27  # room for the pot
        while True:
            thick, tall, deep = (
                room.rng.uniform(0.024, 0.062),
                room.rng.uniform(0.19, 0.285),
                room.rng.uniform(0.15, 0.22),
            )
            if x + thick > end:
                break
            if room.rng.random() < 0.06:
                x += 0.05
                continue
            back = paint.spine(index, thick, tall, 0.0015 * room.texel_m / FINE_TEXEL_M)
            cloth = Texture(back.levels[-1], 1.0)  # the covers have the spine's mean colour
            room.box(
                (x, 0.05, z + board),
                (thick - 0.002, deep, tall),
                [cloth, cloth, back, back, paper, paper],
                moved=False,
                gloss=0.01,
            )
            x, index = x + thick, index + 1
    z = levels[2] + board
    room.lathe(1.63, 0.18, z, ((0.0, 0.0), (0.075, 0.003), (0.07, 0.018), (0.014, 0.03), (0.012, 0.06)), oak)
    room.ball(1.63, 0.18, z + 0.165, 0.112, paint.globe(0.112, 0.0015 * room.texel_m / FINE_TEXEL_M), gloss=0.15)
    pot = paint.glaze("jar", (0.84, 0.80, 0.70), (0.20, 0.25, 0.42), 0.6, 0.4, 0.002 * room.texel_m / FINE_TEXEL_M)
    room.lathe(
        0.94,
        0.17,
        levels[4] + board,
        ((0.05, 0.0), (0.088, 0.05), (0.095, 0.11), (0.06, 0.175), (0.045, 0.19), (0.06, 0.22), (0.0, 0.228)),
        pot,
        0.12,
    )
    wicker = paint.basket("shelf basket", t)
    room.box((0.86, 0.03, height), (0.42, 0.26, 0.20), wicker)
    room.lathe(
        1.56,
        0.17,
        height,
        ((0.07, 0.0), (0.11, 0.08), (0.10, 0.2), (0.04, 0.29), (0.05, 0.33), (0.0, 0.338)),
        paint.glaze("urn", (0.62, 0.33, 0.22), (0.18, 0.10, 0.08), 0.7, 0.5, t),
        0.08,
    )


def _floor_lamp(room: _Room) -> None:
    brass = paint.mottled("brass", (0.55, 0.43, 0.22), 0.12, room.texel_m)
    shade = paint.glaze("shade", (0.93, 0.85, 0.68), (0.62, 0.42, 0.25), 1.3, 0.45, room.texel_m)
    profile = ((0.0, 0.0), (0.15, 0.004), (0.145, 0.025), (0.02, 0.05), (0.012, 0.10), (0.012, 1.36))
    room.lathe(0.40, 0.42, 0.0, profile, brass, 0.2)
    room.lathe(0.40, 0.42, 1.32, ((0.0, 0.0), (0.205, 0.012), (0.125, 0.33), (0.0, 0.338)), shade)


def _coffee_table(room: _Room) -> None:
    t = room.texel_m / 1.5
    walnut = paint.wood("table", (0.42, 0.26, 0.16), 1.6, 1.2, t)
    place = (1.90, 1.72, 0.012, -12.0)
    room.box((-0.56, -0.33, 0.395), (1.12, 0.66, 0.035), walnut, place, gloss=0.06)
    room.box((-0.50, -0.27, 0.14), (1.00, 0.54, 0.018), walnut, place)
    for x in (-0.53, 0.475):
        for y in (-0.30, 0.245):
            room.box((x, y, 0), (0.055, 0.055, 0.395), walnut, place)
    top, paper = 0.43 + 0.012, paint.mottled("paper", (0.90, 0.86, 0.76), 0.08, t)
    turn = _turn(place[3])

    def on_table(x: float, y: float, angle_deg: float, z: float = top) -> tuple[float, float, float, float]:
        p = turn @ np.array([x, y, 0], np.float32)
        return float(p[0]) + place[0], float(p[1]) + place[1], z, place[3] + angle_deg

    fine = room.texel_m / 2
    vase = paint.glaze("vase", (0.87, 0.84, 0.76), (0.13, 0.26, 0.45), 0.66, 0.42, fine)
    x, y, z, _ = on_table(-0.10, -0.10, 0)
    profile = (
        (0.06, 0.0),
        (0.085, 0.03),
        (0.102, 0.09),
        (0.095, 0.15),
        (0.06, 0.21),
        (0.036, 0.25),
        (0.04, 0.285),
        (0.052, 0.30),
        (0.03, 0.302),
    )
    room.lathe(x, y, z, profile, vase, 0.2)
    green = paint.mottled("leaves", (0.30, 0.45, 0.22), 0.25, fine)
    for k in range(11):
        angle, rise = 2.4 * k, 0.55 + 0.07 * k
        start = np.array([x, y, z + 0.29]) + 0.02 * np.array([np.cos(angle), np.sin(angle), 0])
        room.leaf(start, angle, rise, 0.19 + 0.012 * k, 0.06, green)
    for k, (width, depth, height, angle) in enumerate(
        ((0.30, 0.22, 0.035, 14.0), (0.26, 0.19, 0.028, -9.0), (0.20, 0.14, 0.03, 30.0))
    ):
        z = top + (0.0, 0.035, 0.063)[k]
        front = paint.cover(k, width, depth, fine)
        size = (width, depth, height)
        room.box(
            (-width / 2, -depth / 2, 0),
            size,
            [paper, paper, paper, paper, paper, front],
            on_table(-0.36, 0.10, angle, z),
            moved=False,
            gloss=0.03,
        )
    front = paint.cover(7, 0.21, 0.28, fine)
    room.box((-0.105, -0.14, 0), (0.21, 0.28, 0.006), [paper] * 5 + [front], on_table(0.16, 0.14, -24), moved=False)
    x, y, z, _ = on_table(0.36, -0.10, 0)
    bowl = paint.wood("bowl", (0.66, 0.47, 0.27), 1.0, 0.4, fine)
    room.lathe(
        x, y, z, ((0.06, 0.0), (0.075, 0.012), (0.12, 0.05), (0.14, 0.085), (0.128, 0.088), (0.10, 0.090)), bowl, 0.05
    )
    peel = paint.mottled("orange", (0.88, 0.50, 0.13), 0.10, fine)
    apple = paint.mottled("apple", (0.60, 0.20, 0.14), 0.18, fine)
    for k, (dx, dy) in enumerate(((0.05, 0.0), (-0.03, 0.05), (-0.035, -0.045), (0.0, 0.0))):
        room.ball(x + dx, y + dy, z + (0.155 if k == 3 else 0.095), 0.040 + 0.003 * k, apple if k == 1 else peel, 0.08)
    mug = paint.glaze("mug", (0.83, 0.30, 0.22), (0.95, 0.92, 0.85), 0.28, 0.13, fine)
    x, y, z, _ = on_table(0.42, 0.20, 0)
    room.lathe(x, y, z, ((0.036, 0.0), (0.041, 0.01), (0.042, 0.095), (0.036, 0.097), (0.0, 0.099)), mug, 0.15)
    room.box((-0.16, -0.12, 0.158), (0.34, 0.26, 0.05), paint.basket("tray", t), on_table(0.12, 0.0, 8, 0.012))


def _chair(room: _Room) -> None:
    pine = paint.wood("chair", (0.70, 0.50, 0.30), 1.2, 0.8, room.texel_m / 1.5)
    place = (2.93, 0.92, 0.0, 28.0)
    for x in (-0.21, 0.17):
        room.box((x, -0.21, 0), (0.04, 0.04, 0.93), pine, place)
        room.box((x, 0.17, 0), (0.04, 0.04, 0.43), pine, place)
        room.box((x + 0.008, -0.17, 0.20), (0.024, 0.34, 0.03), pine, place)
    room.box((-0.22, -0.22, 0.43), (0.44, 0.44, 0.03), pine, place)
    for z in (0.58, 0.70, 0.82):
        room.box((-0.17, -0.20, z), (0.34, 0.018, 0.075), pine, place)
    pad = paint.cushion("cushion 3", (0.24, 0.28, 0.48), (0.82, 0.80, 0.76), room.texel_m / 1.5)
    room.box((-0.19, -0.17, 0.46), (0.38, 0.37, 0.045), pad, place, moved=False)


def _boxes(room: _Room) -> None:
    t = room.texel_m / 1.5
    large, small = paint.carton("carton 1", 0.50, 0.38, t), paint.carton("carton 2", 0.36, 0.26, t)
    room.box((-0.25, -0.19, 0), (0.50, 0.38, 0.36), large, (2.20, 0.34, 0, -7), moved=False)
    room.box((-0.18, -0.14, 0), (0.36, 0.28, 0.25), small, (2.16, 0.32, 0.36, 12), moved=False)
    room.lathe(
        0.42,
        3.32,
        0.0,
        ((0.15, 0.0), (0.19, 0.12), (0.205, 0.34), (0.195, 0.345), (0.0, 0.35)),
        paint.basket("basket", room.texel_m),
    )
    blanket = paint.plaid("blanket", (0.75, 0.67, 0.52), (0.60, 0.30, 0.22), (0.30, 0.32, 0.36), room.texel_m)
    room.ball(0.42, 3.32, 0.33, 0.16, blanket)
    ball = paint.cushion("ball", (0.75, 0.25, 0.20), (0.85, 0.82, 0.74), room.texel_m / 1.5)
    room.ball(1.22, 0.72, 0.13, 0.13, ball, 0.08)


def _plant(room: _Room) -> None:
    x, y = 3.48, 0.38
    clay = paint.glaze("planter", (0.60, 0.62, 0.58), (0.30, 0.34, 0.33), 1.3, 0.5, room.texel_m)
    room.lathe(x, y, 0.0, ((0.13, 0.0), (0.16, 0.05), (0.19, 0.34), (0.175, 0.345), (0.0, 0.355)), clay, 0.05)
    green = paint.mottled("large leaves", (0.22, 0.40, 0.20), 0.28, room.texel_m)
    trunk = paint.mottled("trunk", (0.40, 0.30, 0.20), 0.2, room.texel_m)
    room.lathe(x, y, 0.35, ((0.02, 0.0), (0.012, 0.75)), trunk)
    for k in range(20):
        angle, height = 2.4 * k + 0.3, 0.50 + 0.032 * k
        reach = 0.42 - 0.011 * k
        root = np.array([x, y, height]) + 0.012 * np.array([np.cos(angle), np.sin(angle), 0])
        reach = min(reach, 0.30) if y + reach * np.sin(angle) < 0.06 else reach
        room.leaf(root, angle, 0.35 + 0.045 * k, reach, 0.11, green)

"""Procedural textures of the example room: noise, stripes, tiles and made-up letters; no picture from anywhere.

Each function paints a canvas of width x height metres at `texel_m` metres a texel, in sRGB, and returns a `Texture` in
linear colours. All randomness is drawn in metres before pixels, so a coarser texel gives the same pattern, coarser.
"""

from __future__ import annotations

import zlib

import numpy as np
from raycast_shapes import Array, Texture

RGB = tuple[float, float, float]


def rng_of(name: str) -> np.random.Generator:
    """Random numbers of one texture, the same on every run."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def to_linear(srgb: Array) -> Array:
    """Linear colours of sRGB ones (IEC 61966-2-1)."""
    srgb = np.clip(srgb, 0, 1)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


class Canvas:
    """sRGB pixels of a rectangle of the world, with what painters need."""

    def __init__(self, width: float, height: float, texel_m: float, name: str) -> None:
        self.rng = rng_of(name)
        self.texel_m = texel_m
        self.columns, self.rows = (max(1, round(size / texel_m)) for size in (width, height))
        self.x = ((np.arange(self.columns) + 0.5) * texel_m).astype(np.float32)[None, :]
        self.y = ((np.arange(self.rows) + 0.5) * texel_m).astype(np.float32)[:, None]
        self.width, self.height = width, height
        self.rgb: Array = np.zeros((self.rows, self.columns, 3), np.float32)

    def noise(self, cell_x: float, cell_y: float | None = None) -> Array:
        """Smooth noise about 0 with a standard deviation near 1; cells in metres. (rows, columns)"""
        cells = (cell_x, cell_y or cell_x)
        shape = int(self.height / cells[1]) + 3, int(self.width / cells[0]) + 3
        lattice = self.rng.standard_normal(shape).astype(np.float32) * 1.6
        for axis, (coordinate, cell) in enumerate(((self.y[:, 0], cells[1]), (self.x[0], cells[0]))):
            at = coordinate / cell
            low = np.floor(at).astype(np.int64)
            f = (at - low).astype(np.float32)
            f = f * f * (3 - 2 * f)
            f = f[:, None] if axis == 0 else f[None, :]
            lattice = np.take(lattice, low, axis) * (1 - f) + np.take(lattice, low + 1, axis) * f
        return lattice

    def clouds(self, cell: float, octaves: int = 4, stretch: float = 1.0) -> Array:
        """Noise of halving cells and amplitudes; `stretch` > 1 draws it out along x. (rows, columns)"""
        total = np.zeros((self.rows, self.columns), np.float32)
        for octave in range(octaves):
            total += 0.5**octave * self.noise(stretch * cell / 2**octave, cell / 2**octave)
        return total / 1.15

    def fill(self, colour: RGB | Array) -> None:
        """Paints everything."""
        self.rgb = np.broadcast_to(np.asarray(colour, np.float32), self.rgb.shape).copy()

    def mix(self, colour: RGB | Array, amount: Array) -> None:
        """Paints over by `amount` in [0, 1]."""
        self.rgb += np.clip(amount, 0, 1)[..., None] * (np.asarray(colour, np.float32) - self.rgb)

    def shade(self, factor: Array) -> None:
        """Brightens or darkens."""
        self.rgb *= factor[..., None]

    def rectangle(self, left: float, top: float, width: float, height: float, colour: RGB) -> None:
        """Paints a rectangle of the canvas, metres."""
        s = 1 / self.texel_m
        rows = slice(max(0, round(top * s)), max(0, round((top + height) * s)))
        self.rgb[rows, max(0, round(left * s)) : max(0, round((left + width) * s))] = colour

    def letters(self, left: float, top: float, width: float, height: float, colour: RGB, down: bool = False) -> None:
        """Paints one line of made-up letters: mirrored or slanted dots of 5 x 7 that mean nothing."""
        dot = (width if down else height) / 7
        step = 6 * dot
        for k in range(int((height if down else width) / step)):
            if self.rng.random() < 0.14:
                continue  # the gap between two words
            half = self.rng.random((7, 3)) < 0.55
            glyph = (
                np.concatenate([half, half[:, 1::-1]], axis=1)
                if self.rng.random() < 0.6
                else np.repeat(half, 2, 1)[:, :5]
            )
            for row, column in zip(*np.nonzero(glyph), strict=True):
                if down:
                    self.rectangle(left + width - (row + 1) * dot, top + k * step + column * dot, dot, dot, colour)
                else:
                    self.rectangle(left + k * step + column * dot, top + row * dot, dot, dot, colour)

    def texture(self) -> Texture:
        """What was painted, in linear colours."""
        return Texture(to_linear(self.rgb), self.texel_m)


def _edge(distance: Array, width: float) -> Array:
    """1 on a line, falling to 0 at `width` metres from it."""
    return np.clip(1 - distance / width, 0, 1)


def plain(colour: RGB) -> Texture:
    """One colour."""
    return Texture(to_linear(np.asarray(colour, np.float32)[None, None]), 1.0)


def planks(width: float, height: float, texel_m: float) -> Texture:
    """A wooden floor: planks along x, each with its own tint and grain, dark gaps, a few knots."""
    c = Canvas(width, height, texel_m, "planks")
    plank, rows = 0.135, int(height / 0.135) + 1
    row = np.minimum((c.y / plank).astype(int), rows - 1)
    offset, length = c.rng.uniform(0, 1.2, rows), c.rng.uniform(0.85, 1.35, rows)
    along = c.x / length[row] + offset[row]
    piece = np.floor(along).astype(int)
    tints = c.rng.standard_normal((rows, 16, 3)) * [0.022, 0.008, 0.008] + c.rng.standard_normal((rows, 16, 1)) * 0.05
    c.fill((0.60, 0.43, 0.28))
    c.rgb += tints[row, piece % 16].astype(np.float32)
    c.shade(1 + 0.06 * c.clouds(0.012, 3, stretch=40) + 0.03 * c.clouds(0.2, 3, stretch=3))
    rings = np.sin((c.y + 0.02 * c.noise(0.5, 0.08)) * 2 * np.pi / 0.011 + 9 * piece)
    c.shade(1 + 0.05 * rings * np.clip(0.5 + c.noise(0.4, 0.1), 0, 1))
    for _ in range(90):
        x, y, r = c.rng.uniform(0, width), c.rng.uniform(0, height), c.rng.uniform(0.006, 0.014)
        c.mix((0.25, 0.15, 0.09), 0.8 * np.exp(-(((c.x - x) / (1.7 * r)) ** 2) - ((c.y - y) / r) ** 2))
    c.mix((0.30, 0.22, 0.15), 0.25 * np.clip(c.noise(0.03, 0.02) - 1.4, 0, 1))  # scuffs
    seam_x = np.abs(along - np.round(along)) * length[row]
    seam_y = np.abs(c.y - np.round(c.y / plank) * plank)
    c.mix((0.16, 0.10, 0.06), 0.9 * np.maximum(_edge(seam_x, 0.004), _edge(seam_y, 0.004)))
    return c.texture()


def bricks(width: float, height: float, texel_m: float) -> Texture:
    """A brick wall in running bond: bricks of many reds, pale mortar, soot and chips."""
    c = Canvas(width, height, texel_m, "bricks")
    brick_w, brick_h, joint = 0.235, 0.078, 0.009
    rows, columns = int(height / brick_h) + 2, int(width / brick_w) + 3
    wobble = 0.002 * c.noise(0.05)
    row = ((c.y + 0 * c.x) / brick_h).astype(int)
    x = c.x / brick_w + 0.5 * (row % 2)
    column = np.floor(x).astype(int)
    palette = np.array(
        [[0.58, 0.33, 0.25], [0.66, 0.41, 0.31], [0.50, 0.29, 0.24], [0.70, 0.50, 0.38], [0.47, 0.33, 0.29]]
    )
    colours = palette[c.rng.choice(5, (rows, columns), p=[0.34, 0.28, 0.18, 0.1, 0.1])]
    colours = colours * c.rng.normal(1, 0.09, (rows, columns, 1))
    c.fill(colours[row, column].astype(np.float32))
    c.shade(1 + 0.07 * c.clouds(0.02, 3) + 0.05 * c.clouds(0.4, 3))
    c.mix((0.83, 0.74, 0.66), 0.5 * np.clip(c.clouds(0.05, 4) - 1.3, 0, 1))  # lime
    c.mix((0.25, 0.16, 0.14), 0.6 * np.clip(-c.clouds(0.025, 3) - 1.5, 0, 1))  # chips
    inside_x = (0.5 - np.abs(x - column - 0.5)) * brick_w + wobble
    inside_y = (0.5 - np.abs(c.y / brick_h - row - 0.5)) * brick_h + wobble
    inside = np.minimum(inside_x, inside_y)
    c.shade(
        1
        + 0.16 * _edge(c.y - row * brick_h - joint / 2, 0.009)
        - 0.16 * _edge((row + 1) * brick_h - joint / 2 - c.y, 0.009)
    )
    c.mix(
        np.stack([0.76 + 0.05 * c.noise(0.008)] * 3, -1) * [1, 0.97, 0.92],
        np.clip((joint / 2 - inside) / 0.002 + 0.5, 0, 1),
    )
    return c.texture()


def wallpaper(width: float, height: float, texel_m: float) -> Texture:
    """Striped wallpaper with flowers, each turned and tinted a little differently, as hand printing would."""
    c = Canvas(width, height, texel_m, "wallpaper")
    c.fill((0.71, 0.76, 0.69))
    stripe = (c.x + 0.0015 * c.noise(0.1) + 0 * c.y) % 0.32
    c.mix((0.83, 0.83, 0.75), np.clip((0.08 - np.abs(stripe - 0.16)) / 0.003, 0, 1))
    c.mix((0.42, 0.54, 0.47), _edge(np.abs(np.abs(stripe - 0.16) - 0.09), 0.005))
    rows, columns = int(height / 0.2) + 2, int(width / 0.16) + 2
    kind = c.rng.uniform(0, 1, (rows, columns, 5))
    column = (c.x / 0.16 + 0 * c.y).astype(int)
    row = ((c.y + 0.1 * (column % 2)) / 0.2).astype(int)
    k = kind[row, column]
    dx = c.x - (column + 0.5) * 0.16 - 0.016 * (k[..., 3] - 0.5)
    dy = c.y + 0.1 * (column % 2) - (row + 0.5) * 0.2 - 0.03 * (k[..., 4] - 0.5)
    r, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    petals = np.where(k[..., 0] < 0.5, 5, np.where(k[..., 0] < 0.8, 6, 4))
    bloom = (0.027 + 0.016 * k[..., 2]) * (0.68 + 0.32 * np.cos(petals * (angle + 6 * k[..., 1])))
    stem = _edge(np.abs(dx - 0.010 * np.sin(dy * 40 + 5 * k[..., 1])), 0.0035) * (dy > 0) * (dy < 0.085)
    leaf = ((np.abs(dx) - 0.022) / 0.018) ** 2 + ((dy - 0.055 - 0.3 * np.abs(dx)) / 0.008) ** 2 < 1
    c.mix((0.33, 0.47, 0.38), np.maximum(stem, 0.85 * leaf))
    warm = np.stack([0.72 + 0.13 * k[..., 1], 0.42 + 0.25 * k[..., 3], 0.40 + 0.1 * k[..., 2]], -1)
    c.mix(warm, np.clip((bloom - r) / 0.002, 0, 1))
    c.mix((0.93, 0.82, 0.50), np.clip((0.009 - r) / 0.002, 0, 1))
    c.shade(1 + 0.018 * c.noise(0.004) + 0.014 * c.clouds(0.03, 2) + 0.018 * c.clouds(0.7, 3))
    return c.texture()


def rug(width: float, height: float, texel_m: float) -> Texture:
    """A woven rug: borders with lozenges, a field of small figures and three medallions."""
    c = Canvas(width, height, texel_m, "rug")
    side = np.minimum(np.minimum(c.x, width - c.x), np.minimum(c.y, height - c.y))
    c.fill((0.52, 0.14, 0.14))
    cells = c.rng.integers(0, 2**15, (64, 64))
    i, j = ((c.x + 0 * c.y) / 0.11).astype(int) % 64, ((c.y + 0 * c.x) / 0.11).astype(int) % 64
    a, b = ((c.x % 0.11) / 0.11 * 9).astype(int), ((c.y % 0.11) / 0.11 * 9).astype(int)
    bit = np.minimum(a, 8 - a) + 5 * np.minimum(b, 8 - b) // 2
    figure = (cells[j, i] >> (bit % 15)) & 1 & (np.minimum(np.minimum(a, 8 - a), np.minimum(b, 8 - b)) > 0)
    palette = np.array([[0.80, 0.70, 0.52], [0.13, 0.18, 0.32], [0.75, 0.48, 0.20], [0.30, 0.40, 0.36]], np.float32)
    c.mix(palette[cells[i, j] % 4], figure * 0.9)
    for k, x in enumerate((0.25, 0.5, 0.75)):
        dx, dy = c.x - x * width, c.y - 0.5 * height
        r, angle = np.hypot(dx, dy) / (0.30 if k == 1 else 0.2), np.arctan2(dy, dx)
        ring = (r * 7 + 0.5 * np.cos((8 + 4 * k) * angle)).astype(int)
        c.mix(palette[(ring + k) % 4], (r + 0.07 * np.cos(8 * angle) < 0.95) * 0.95)
    border = side < 0.19
    around = np.where(np.minimum(c.x, width - c.x) < np.minimum(c.y, height - c.y), c.y + 0 * c.x, c.x + 0 * c.y)
    lozenge = np.abs((around % 0.12) / 0.12 - 0.5) + np.abs((side - 0.10) / 0.12)
    c.mix((0.12, 0.16, 0.30), border * 1.0)
    c.mix((0.78, 0.68, 0.50), border * (lozenge < 0.42))
    c.mix(palette[cells[(around / 0.12).astype(int) % 64, 7] % 4], border * (lozenge < 0.27))
    for at in (0.022, 0.175, 0.19):
        c.mix((0.80, 0.70, 0.52), _edge(np.abs(side - at), 0.009) ** 0.4)
    c.shade(1 + 0.06 * c.noise(0.006) + 0.05 * c.clouds(0.06, 3) + 0.06 * np.sin(c.y * 2 * np.pi / 0.008))
    return c.texture()


def wood(name: str, colour: RGB, width: float, height: float, texel_m: float) -> Texture:
    """Furniture wood with its grain along x."""
    c = Canvas(width, height, texel_m, name)
    c.fill(colour)
    c.shade(1 + 0.06 * c.clouds(0.02, 4, stretch=18))
    rings = np.sin((c.y + 0.03 * c.noise(0.6, 0.12)) * 2 * np.pi / 0.018 + 2 * c.noise(0.3, 0.05))
    c.shade(1 + 0.06 * rings)
    c.mix((0.2, 0.12, 0.07), 0.5 * np.clip(c.noise(0.08, 0.004) - 1.6, 0, 1))
    return c.texture()


def plaid(name: str, base: RGB, first: RGB, second: RGB, texel_m: float) -> Texture:
    """Woven cloth with a tartan of two colours over a base; 2.4 m square."""
    c = Canvas(2.4, 2.4, texel_m, name)
    c.fill(base)
    for axis in (c.x, c.y):
        at = axis + 0 * (c.x + c.y) + 0.002 * c.noise(0.15)
        for period, width, colour in ((0.24, 0.055, first), (0.24, 0.012, second), (0.12, 0.006, second)):
            phase = 0.09 if width < 0.02 else 0.2
            c.mix(colour, 0.5 * (np.abs((at + phase) % period - period / 2) < width / 2))
    c.shade(1 + 0.06 * c.noise(0.004) + 0.04 * c.clouds(0.03, 2) + 0.03 * c.clouds(0.25, 3))
    return c.texture()


def cushion(name: str, dark: RGB, light: RGB, texel_m: float) -> Texture:
    """Cloth printed with leaves and dots, half a metre square."""
    c = Canvas(0.5, 0.5, texel_m, name)
    c.fill(light)
    for _ in range(70):
        x, y, turn, size = *c.rng.uniform(0, 0.5, 2), c.rng.uniform(0, np.pi), c.rng.uniform(0.02, 0.05)
        a = ((c.x - x) * np.cos(turn) + (c.y - y) * np.sin(turn)) / size
        b = ((c.y - y) * np.cos(turn) - (c.x - x) * np.sin(turn)) / size
        inside = (np.abs(b) < 0.33 * (1 - a * a)) & (np.abs(b) > 0.03)
        c.mix(tuple(np.asarray(dark) * c.rng.uniform(0.8, 1.3)), inside * 0.95)  # type: ignore[arg-type]
    c.shade(1 + 0.05 * c.noise(0.004) + 0.06 * c.clouds(0.1, 3))
    return c.texture()


def picture(kind: str, width: float, height: float, texel_m: float) -> Texture:
    """A framed picture with a mount: "hills", "tiles", "poster" or "map"; a number behind it gives another one."""
    c = Canvas(width, height, texel_m, "picture " + kind)
    kind = kind.split()[0]
    x, y = c.x + 0 * c.y, c.y + 0 * c.x
    if kind == "hills":
        c.fill((0.90, 0.72, 0.55))
        c.mix((0.40, 0.58, 0.75), np.clip(1 - y / (0.55 * height), 0, 1))
        c.mix((0.99, 0.91, 0.66), np.clip((0.07 - np.hypot(x - 0.68 * width, y - 0.3 * height)) / 0.01, 0, 1))
        c.mix((0.97, 0.95, 0.92), 0.7 * np.clip(c.clouds(0.06, 4, stretch=3) - 0.4, 0, 1) * (y < 0.5 * height))
        for k in range(5):
            ridge = height * (0.42 + 0.12 * k) + 0.035 * c.clouds(0.12 - 0.015 * k, 4)[:1] * np.ones_like(y)
            tone = np.array([0.42, 0.50, 0.52]) * (1 - 0.16 * k) + np.array([-0.02, 0.03, -0.04]) * k
            c.mix(tone * (1 + 0.22 * c.noise(0.02, 0.01))[..., None], (y > ridge) * 1.0)
    elif kind == "tiles":
        centres = c.rng.uniform(0, 1, (90, 2)) * [width, height]
        palette = np.array(
            [[0.86, 0.33, 0.22], [0.95, 0.76, 0.28], [0.14, 0.34, 0.45], [0.90, 0.88, 0.80], [0.2, 0.2, 0.24]]
        )
        first, second, owner = np.full(x.shape, 9.0), np.full(x.shape, 9.0), np.zeros(x.shape, int)
        for k, (a, b) in enumerate(centres):
            r = np.abs(x - a) + np.abs(y - b)
            owner = np.where(r < first, k, owner)
            second = np.minimum(second, np.maximum(r, first))
            first = np.minimum(r, first)
        c.fill(palette[owner % 5] * (0.85 + 0.3 * c.rng.random(90))[owner, None])
        c.shade(1 + 0.08 * c.clouds(0.02, 3))
        c.mix((0.1, 0.1, 0.1), _edge(second - first, 0.008))
    elif kind == "poster":
        c.fill((0.16, 0.21, 0.33))
        for k in range(9):
            a, b, r = c.rng.uniform(0.1, 0.9) * width, c.rng.uniform(0.12, 0.6) * height, c.rng.uniform(0.04, 0.13)
            ring = np.hypot(x - a, y - b)
            hue = np.array([[0.93, 0.42, 0.27], [0.97, 0.80, 0.40], [0.35, 0.70, 0.66]])[k % 3]
            c.mix(hue, 0.9 * (ring < r) * (np.sin(ring * 2 * np.pi / (0.02 + 0.004 * k)) > -0.3))
        c.letters(0.07 * width, 0.70 * height, 0.86 * width, 0.075, (0.96, 0.93, 0.84))
        for k in range(3):
            c.letters(0.07 * width, (0.83 + 0.045 * k) * height, 0.8 * width, 0.022, (0.85, 0.80, 0.70))
        c.shade(1 + 0.04 * c.clouds(0.05, 4))
    else:
        land = c.clouds(0.22, 6)
        c.fill((0.62, 0.75, 0.78))
        c.mix((0.87, 0.80, 0.62), np.clip((land - 0.1) / 0.03, 0, 1))
        c.mix((0.60, 0.66, 0.42), np.clip((land - 0.6) / 0.1, 0, 1))
        c.mix((0.30, 0.24, 0.18), _edge(np.abs(land - 0.1), 0.06))
        c.mix((0.45, 0.38, 0.30), 0.5 * np.maximum(_edge(x % 0.1, 0.003), _edge(y % 0.1, 0.003)))
        for _ in range(26):
            c.letters(c.rng.uniform(0, 0.8) * width, c.rng.uniform(0.02, 0.95) * height, 0.13, 0.014, (0.2, 0.15, 0.12))
        c.shade(1 + 0.05 * c.clouds(0.08, 4))
    border = np.minimum(np.minimum(x, width - x), np.minimum(y, height - y))
    if kind in ("hills", "map"):
        c.mix((0.93, 0.91, 0.86), (border < 0.065) * 1.0)
    frame = {
        "hills": (0.33, 0.20, 0.11),
        "tiles": (0.12, 0.11, 0.11),
        "poster": (0.80, 0.77, 0.70),
        "map": (0.5, 0.36, 0.2),
    }
    c.mix(np.asarray(frame[kind]) * (1 + 0.05 * c.noise(0.04, 0.008))[..., None], (border < 0.026) * 1.0)
    c.mix((0.05, 0.04, 0.04), 0.6 * _edge(np.abs(border - 0.027), 0.004))
    return c.texture()


def spine(index: int, width: float, height: float, texel_m: float) -> Texture:
    """The back of a book: a cloth colour, bands, a title running down."""
    c = Canvas(width, height, texel_m, f"book {index}")
    palette = ((0.55, 0.16, 0.15), (0.15, 0.27, 0.42), (0.19, 0.38, 0.27), (0.82, 0.74, 0.58), (0.72, 0.45, 0.18),
               (0.25, 0.22, 0.24), (0.45, 0.29, 0.43), (0.88, 0.86, 0.81), (0.20, 0.45, 0.50), (0.78, 0.62, 0.22),
    )  # fmt: skip
    base = palette[int(c.rng.integers(len(palette)))]
    ink: RGB = (0.92, 0.83, 0.55) if sum(base) < 1.6 else (0.20, 0.15, 0.16)
    c.fill(base)
    for at in c.rng.choice([0.05, 0.09, 0.16, 0.80, 0.86, 0.93], int(c.rng.integers(2, 5)), replace=False):
        c.rectangle(0, at * height, width, c.rng.choice([0.004, 0.010]), ink)
    if c.rng.random() < 0.4:
        c.rectangle(0, 0.66 * height, width, 0.11 * height, palette[int(c.rng.integers(len(palette)))])
    c.letters(0.28 * width, 0.22 * height, 0.44 * width, 0.40 * height, ink, down=True)
    c.shade(1 + 0.05 * c.noise(0.005) + 0.06 * c.clouds(0.03, 3))
    c.shade(0.82 + 0.18 * np.sin(np.pi * (c.x + 0 * c.y) / width))  # rounded back
    return c.texture()


def cover(index: int, width: float, height: float, texel_m: float) -> Texture:
    """The front of a book or magazine, lying flat: a picture, a title, lines of text."""
    c = Canvas(width, height, texel_m, f"cover {index}")
    base = c.rng.uniform(0.15, 0.85, 3)
    c.fill(tuple(base))  # type: ignore[arg-type]
    c.mix(tuple(1 - base), np.clip(3 * c.clouds(0.06, 4), 0, 1))  # type: ignore[arg-type]
    c.rectangle(0.08 * width, 0.07 * height, 0.84 * width, 0.24 * height, (0.93, 0.90, 0.83))
    c.letters(0.12 * width, 0.10 * height, 0.78 * width, 0.09 * height, (0.15, 0.12, 0.12))
    c.letters(0.12 * width, 0.23 * height, 0.78 * width, 0.045 * height, (0.5, 0.15, 0.12))
    c.letters(0.1 * width, 0.9 * height, 0.8 * width, 0.05 * height, (0.95, 0.95, 0.9))
    return c.texture()


def carton(name: str, width: float, height: float, texel_m: float) -> Texture:
    """Brown cardboard: tape down the middle, a paper label, printed letters, dents."""
    c = Canvas(width, height, texel_m, name)
    c.fill((0.70, 0.54, 0.37))
    c.shade(1 + 0.04 * c.clouds(0.08, 4) + 0.03 * c.noise(0.2, 0.004))
    c.rectangle(0.45 * width, 0, 0.1 * width, height, (0.80, 0.70, 0.52))
    c.rectangle(0.07 * width, 0.16 * height, 0.34 * width, 0.36 * height, (0.92, 0.91, 0.88))
    for k in range(4):
        c.letters(0.09 * width, (0.19 + 0.08 * k) * height, 0.29 * width, 0.05 * height, (0.12, 0.12, 0.14))
    c.letters(0.58 * width, 0.20 * height, 0.38 * width, 0.16 * height, (0.33, 0.16, 0.11))
    c.letters(0.58 * width, 0.66 * height, 0.36 * width, 0.09 * height, (0.33, 0.16, 0.11))
    c.mix((0.42, 0.30, 0.20), 0.6 * np.clip(c.clouds(0.04, 3) - 1.4, 0, 1))
    return c.texture()


def globe(radius: float, texel_m: float) -> Texture:
    """Land and sea with meridians, wrapped once round a ball."""
    c = Canvas(2 * np.pi * radius, np.pi * radius, texel_m, "globe")
    land = c.clouds(0.14, 5)
    c.fill((0.20, 0.42, 0.60))
    c.mix((0.83, 0.74, 0.48), np.clip((land - 0.15) / 0.08, 0, 1))
    c.mix((0.36, 0.52, 0.28), np.clip((land - 0.55) / 0.1, 0, 1))
    c.mix((0.96, 0.96, 0.95), np.abs(c.y + 0 * c.x - c.height / 2) > 0.43 * c.height)
    c.mix((0.1, 0.15, 0.2), 0.5 * np.maximum(_edge(c.x % (c.width / 18), 0.002), _edge(c.y % (c.height / 9), 0.002)))
    return c.texture()


def glaze(name: str, base: RGB, ink: RGB, girth: float, height: float, texel_m: float) -> Texture:
    """Painted pottery: bands, zigzags and brush figures round a pot."""
    c = Canvas(girth, height, texel_m, name)
    c.fill(base)
    for k in range(int(height / 0.055)):
        y = (c.y - k * 0.055 + 0 * c.x) / 0.055
        on = (y > 0) & (y < 1)
        period = float(c.rng.choice([0.035, 0.05, 0.07]))
        phase = np.abs((c.x % period) / period - 0.5) * 2
        if k % 3 == 0:
            c.mix(ink, on * (np.abs(y - 0.25 - 0.5 * phase) < 0.12))
        elif k % 3 == 1:
            c.mix(ink, 0.9 * on * (c.noise(0.012) > 0.5))
        else:
            c.mix((0.72, 0.36, 0.20), on * (np.hypot((phase - 0.5) * 1.4, y - 0.5) < 0.3))
        c.mix(ink, on * _edge(np.abs(y - 0.02), 0.07))
    c.shade(1 + 0.05 * c.clouds(0.03, 4))
    return c.texture()


def mottled(name: str, colour: RGB, depth: float, texel_m: float) -> Texture:
    """One colour with soft stains: plaster, clay, leaves, orange peel; half a metre square."""
    c = Canvas(0.5, 0.5, texel_m, name)
    c.fill(colour)
    c.shade(1 + depth * c.clouds(0.05, 4))
    return c.texture()


def basket(name: str, texel_m: float) -> Texture:
    """Wickerwork: strands over and under, no two quite the same brown."""
    c = Canvas(1.6, 0.6, texel_m, name)
    i, j = (c.x / 0.03 + 0 * c.y).astype(int), (c.y / 0.018 + 0 * c.x).astype(int)
    tint = c.rng.normal(1, 0.16, (128, 128))[i % 128, j % 128]
    c.fill((0.62, 0.46, 0.28))
    c.shade(
        tint
        * (0.6 + 0.4 * np.abs(np.sin(np.pi * (c.x / 0.03 + 0.5 * (j % 2)))))
        * (0.7 + 0.3 * np.sin(np.pi * (c.y / 0.018 % 1)))
    )
    c.shade(1 + 0.06 * c.noise(0.004))
    return c.texture()

"""Procedural textures: square, tileable, linear RGB. All of them are formulas and random numbers of ours; nothing is copied from a picture."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SIDE = 256  # pixels
_SHAPES = 260  # of a dead-leaves texture


def uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    """One random number."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def choice(generator: torch.Generator, count: int) -> int:
    """One random index below `count`."""
    return int(torch.randint(count, (), generator=generator))


def clouds(generator: torch.Generator, slope: float, low: float = 0.0) -> Tensor:
    """Noise whose amplitude falls as frequency^-slope: 1 is like the world, 2 is like clouds. (SIDE, SIDE), mean 0, deviation 1

    Args:
        low: Cycles per side below which there is nothing: above 0 it has no large blotches.
    """
    across = torch.fft.fftfreq(SIDE) * SIDE
    frequency = (across[:, None] ** 2 + across[None] ** 2).sqrt()
    weight = torch.where(frequency > low, frequency.clamp(min=1) ** -slope, 0.0)
    weight[0, 0] = 0
    spectrum = torch.fft.fft2(torch.randn(SIDE, SIDE, generator=generator)) * weight
    noise = torch.fft.ifft2(spectrum).real
    return noise / noise.std().clamp(min=1e-9)


def color(generator: torch.Generator) -> Tensor:
    """One colour as surfaces have: mostly greyish and warm, now and then vivid. (3,) linear"""
    hue = uniform(generator, -0.1, 0.2) if uniform(generator) < 0.6 else uniform(generator)
    vivid = uniform(generator, 0, 0.35) if uniform(generator) < 0.75 else uniform(generator, 0.4, 0.9)
    value = uniform(generator, 0.08, 0.95)
    wheel = 0.5 + 0.5 * torch.cos(2 * math.pi * (hue + torch.tensor([0.0, -1 / 3, 1 / 3])))
    return (value * (1 - vivid * (1 - wheel))) ** 2.2


def _grid() -> tuple[Tensor, Tensor]:
    """x and y of the pixels in [0, 1)."""
    at = (torch.arange(SIDE) + 0.5) / SIDE
    return at[None].expand(SIDE, SIDE), at[:, None].expand(SIDE, SIDE)


def _mixed(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Two colours (3,) or pictures by a share (SIDE, SIDE) in [0, 1]. (3, SIDE, SIDE)"""
    first, second = (value if value.ndim == 3 else value[:, None, None] for value in (first, second))
    return first + (second - first) * share.clamp(0, 1)


def _plain(generator: torch.Generator) -> Tensor:
    """Painted walls, plaster, plastic: next to nothing to match."""
    strength = uniform(generator, 0.005, 0.05)
    shade = 1 + strength * clouds(generator, 1.5) + 0.5 * strength * clouds(generator, 0.3, 20)
    return color(generator)[:, None, None] * shade


def _clouds(generator: torch.Generator) -> Tensor:
    """Stone, soil, rust: two or three colours by noise."""
    sharp = uniform(generator, 0.6, 6)
    base = _mixed(
        color(generator), color(generator), 0.5 + sharp * 0.25 * clouds(generator, uniform(generator, 0.8, 2))
    )
    if uniform(generator) < 0.5:
        base = _mixed(base, color(generator), 2 * (clouds(generator, 1.3) - uniform(generator, 0.3, 1.2)))
    return base * (1 + uniform(generator, 0, 0.2) * clouds(generator, 0.5, 8))


def _leaves(generator: torch.Generator) -> Tensor:
    """Dead leaves: discs and boxes of all sizes over each other, with the statistics of natural pictures (Lee, Mumford and Huang 2001)."""
    x, y = _grid()
    picture = color(generator)[:, None, None].repeat(1, SIDE, SIDE)
    palette = [color(generator) for _ in range(2 + choice(generator, 6))]
    largest = uniform(generator, 0.08, 0.3)
    for _ in range(_SHAPES):
        size = largest / (1 + uniform(generator) * (largest / 0.012) ** 2) ** 0.5  # density of radii falls as r^-3
        dx, dy = (torch.remainder(axis - uniform(generator) + 0.5, 1) - 0.5 for axis in (x, y))
        turn = uniform(generator, 0, math.pi)
        along, across = dx * math.cos(turn) + dy * math.sin(turn), dy * math.cos(turn) - dx * math.sin(turn)
        flat = uniform(generator, 0.3, 1)
        if uniform(generator) < 0.5:
            inside = along**2 + (across / flat) ** 2 < size**2
        else:
            inside = (along.abs() < size) & (across.abs() < size * flat)
        tint = palette[choice(generator, len(palette))] * uniform(generator, 0.7, 1.3)
        picture = torch.where(inside, tint[:, None, None], picture)
    return picture * (1 + 0.06 * clouds(generator, 0.7))


def _bricks(generator: torch.Generator) -> Tensor:
    """Bricks, tiles, flagstones: rows with joints, no two stones quite alike."""
    x, y = _grid()
    rows, columns = 4 + choice(generator, 12), 2 + choice(generator, 10)
    row = (y * rows).floor()
    shift = (row % 2) * 0.5 if uniform(generator) < 0.6 else torch.zeros_like(row)
    column = torch.remainder(x * columns + shift, columns)
    joint = uniform(generator, 0.02, 0.12)
    in_y, in_x = torch.remainder(y * rows, 1), torch.remainder(column, 1)
    edge = torch.minimum(torch.minimum(in_y, 1 - in_y), torch.minimum(in_x, 1 - in_x) * rows / columns)
    tint = 1 + uniform(generator, 0.05, 0.35) * torch.randn(rows, columns, generator=generator)
    stone = color(generator)[:, None, None] * tint[row.long() % rows, column.long() % columns].clamp(0.3, 2)
    stone = stone * (1 + uniform(generator, 0.02, 0.15) * clouds(generator, 1))
    return _mixed(color(generator), stone, (edge - joint) * 40 + 0.5)


def _stripes(generator: torch.Generator) -> Tensor:
    """Cloth, wallpaper, blinds: stripes or checks."""
    x, y = _grid()
    across = torch.sin(2 * math.pi * (2 + choice(generator, 14)) * x + 0.3 * clouds(generator, 2))
    down = torch.sin(2 * math.pi * (2 + choice(generator, 14)) * y)
    kind = choice(generator, 3)
    share = across if kind == 0 else across * down if kind == 1 else (across + down) / 2
    picture = _mixed(color(generator), color(generator), 0.5 + uniform(generator, 0.4, 4) * share)
    return picture * (1 + 0.07 * clouds(generator, 0.4, 6))


def _wood(generator: torch.Generator) -> Tensor:
    """Boards with a grain."""
    x, _y = _grid()
    boards = 1 + choice(generator, 6)
    board = (x * boards).floor()
    drift = torch.rand(boards, generator=generator)[board.long() % boards]
    rings = torch.sin(2 * math.pi * (x * boards * uniform(generator, 2, 6) + drift * 7 + 0.25 * clouds(generator, 2.2)))
    fibre = clouds(generator, 0.6).roll(1, 0)
    fibre = torch.nn.functional.avg_pool2d(fibre[None, None].repeat(1, 1, 3, 1), (33, 1), 1, (16, 0))[
        0, 0, SIDE : 2 * SIDE
    ]
    brown = (
        torch.tensor([0.36, 0.2, 0.1]) * uniform(generator, 0.5, 2) * (0.7 + 0.6 * torch.rand(3, generator=generator))
    )
    shade = 1 + 0.12 * rings + 0.4 * fibre + 0.25 * (drift - 0.5)
    joint = (torch.remainder(x * boards, 1) < 0.02 * boards).float() if boards > 1 else torch.zeros_like(x)
    return brown[:, None, None] * shade * (1 - 0.6 * joint)


def _cells(generator: torch.Generator) -> Tensor:
    """Pebbles, scales, cracked earth: cells around random points (Worley 1996)."""
    x, y = _grid()
    points = torch.rand(20 + choice(generator, 50), 2, generator=generator)
    dx = torch.remainder(x[..., None] - points[:, 0] + 0.5, 1) - 0.5
    dy = torch.remainder(y[..., None] - points[:, 1] + 0.5, 1) - 0.5
    nearest, which = (dx**2 + dy**2).sqrt().topk(2, dim=-1, largest=False)
    gap = nearest[..., 1] - nearest[..., 0]
    tint = color(generator) * (0.6 + 0.8 * torch.rand(len(points), 1, generator=generator))
    cell = tint[which[..., 0]].permute(2, 0, 1) * (1 + 0.1 * clouds(generator, 1))
    return _mixed(color(generator), cell, gap * uniform(generator, 20, 120))


def _print(generator: torch.Generator) -> Tensor:
    """Paper with blocks of letters and pictures: covers, posters, labels."""
    picture = _mixed(color(generator) * 0.3 + 0.6, color(generator), 0.2 * clouds(generator, 2))
    for _ in range(3 + choice(generator, 6)):
        top, left = choice(generator, SIDE - 40), choice(generator, SIDE - 60)
        height, width = 12 + choice(generator, 60), 30 + choice(generator, 120)
        part = picture[:, top : top + height, left : left + width]
        ink = color(generator)
        if uniform(generator) < 0.3:
            part.copy_(_mixed(ink, color(generator), 0.5 + clouds(generator, 1.2)[: part.shape[1], : part.shape[2]]))
            continue
        line = 4 + choice(generator, 8)
        glyphs = (torch.rand(-(-part.shape[1] // line), -(-part.shape[2] // 2), generator=generator) < 0.55).float()
        glyphs = glyphs.repeat_interleave(line, 0).repeat_interleave(2, 1)[: part.shape[1], : part.shape[2]]
        glyphs = glyphs * (torch.arange(part.shape[1]) % line < 0.65 * line)[:, None]
        glyphs = glyphs * (torch.rand(part.shape[1:], generator=generator) < 0.8)
        part.copy_(_mixed(part, ink, glyphs))
    return picture


def _speckles(generator: torch.Generator) -> Tensor:
    """Terrazzo, gravel, grass from afar: fine and dense."""
    fine = clouds(generator, uniform(generator, 0, 0.6), uniform(generator, 4, 30))
    picture = _mixed(color(generator), color(generator), 0.5 + uniform(generator, 0.3, 1.5) * fine)
    return _mixed(picture, color(generator), 4 * (clouds(generator, 0.4, 10) - uniform(generator, 1, 2)))


KINDS: dict[str, Callable[[torch.Generator], Tensor]] = {
    "plain": _plain,
    "clouds": _clouds,
    "leaves": _leaves,
    "bricks": _bricks,
    "stripes": _stripes,
    "wood": _wood,
    "cells": _cells,
    "print": _print,
    "speckles": _speckles,
}


def texture(generator: torch.Generator, kind: str | None = None) -> Tensor:
    """One texture of a kind of KINDS, a random one when left out. (3, SIDE, SIDE) in [0, 1], linear"""
    names = list(KINDS)
    name = kind or names[choice(generator, len(names))]
    return KINDS[name](generator).clamp(0.005, 1)


def cutout(generator: torch.Generator) -> Tensor:
    """What is left of a card: a blob, foliage, a lattice or a ragged disc. (SIDE, SIDE) bool; its border is empty but for lattices"""
    x, y = _grid()
    radius = ((x - 0.5) ** 2 + (y - 0.5) ** 2).sqrt()
    kind = choice(generator, 4)
    if kind == 0:  # blob
        return radius < 0.33 + 0.06 * clouds(generator, 2.2)
    if kind == 1:  # foliage: full of holes
        return (clouds(generator, uniform(generator, 1.2, 1.8)) > uniform(generator, -0.4, 0.5)) & (radius < 0.47)
    if kind == 2:  # bars, one way or both
        count, thick = 3 + choice(generator, 9), uniform(generator, 0.12, 0.4)
        down, across = torch.remainder(x * count, 1) < thick, torch.remainder(y * count, 1) < thick
        frame = torch.maximum((x - 0.5).abs(), (y - 0.5).abs()) > 0.46
        return (down | across | frame) if uniform(generator) < 0.5 else (down | frame)
    angle = torch.atan2(y - 0.5, x - 0.5)  # star, leaf
    return radius < 0.3 + 0.14 * torch.cos(angle * (2 + choice(generator, 6)) + uniform(generator, 0, 6))

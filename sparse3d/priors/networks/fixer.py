"""Our own small network that repairs a view of few photos: it chooses between the photos' warps and the render, and corrects a little.

Rectified flow with prediction of the clean picture x0: x_t = (1 - t) x0 + t n, pictures in [-1, 1], n of unit variance. At t = 1 nothing is left of x0, so
the noise is not looked at and the answer is the mean: one call is the regression. At any other t the same network serves a sampler and the
score losses.

    x0 = sum_i softmax(l)_i s_i + residual,   s = the render with its holes filled, and the warped photos where they show something

so that it selects more than it invents. What a pixel's answer is worth, the probability of being right within 6 %, is predicted with it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse3d.models.own import OwnFormat

FORMAT = OwnFormat("fixer", 1)
PHOTOS = 3  # warped photos that it is shown
CHANNELS = 4 + 4 * PHOTOS  # filled render and its confidence, then colour and validity of each warped photo
MULTIPLE = 16  # of the sides of a picture
RIGHT = 0.06  # mean absolute error over the channels up to which a pixel counts as right
_SHUFFLE = 2  # pixels of the picture to one of the grid
_OUT = 3 + (1 + PHOTOS) + 1  # residual, choice, certainty
_FAVOUR = 2.0  # logit of the render before training: the network begins as push and pull


@dataclass(frozen=True)
class Sizes:
    """Of the network."""

    widths: tuple[int, ...] = (48, 72, 104, 136)
    blocks: int = 1  # at each size, down and up


LARGE = Sizes(widths=(64, 104, 152, 208), blocks=2)


class Fixed(NamedTuple):
    """What it says of B pictures."""

    x0: Tensor  # (B, 3, H, W) in about [-1, 1]
    certain: Tensor  # (B, H, W) logit of being right


class _Block(nn.Module):
    """Two convolutions beside a straight way, scaled and shifted by the noise level (FiLM)."""

    def __init__(self, before: int, after: int, embedded: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, 1, 1)
        self.norm = nn.GroupNorm(8, after)
        self.film = nn.Linear(embedded, 2 * after)
        self.second = nn.Conv2d(after, after, 3, 1, 1)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        self.straight = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        scale, shift = self.film(level)[:, :, None, None].chunk(2, 1)
        return self.straight(x) + self.second(F.silu(self.norm(self.first(x)) * (1 + scale) + shift))


class Fixer(nn.Module):
    """The network: a U-Net on blocks of 2 x 2 pixels."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        widths, embedded = sizes.widths, 4 * sizes.widths[0]
        self.embed = nn.Sequential(nn.Linear(32, embedded), nn.SiLU(), nn.Linear(embedded, embedded), nn.SiLU())
        self.first = nn.Conv2d((3 + CHANNELS) * _SHUFFLE**2, widths[0], 3, 1, 1)
        steps = list(itertools.pairwise(widths))
        repeat = lambda width: [_Block(width, width, embedded) for _ in range(sizes.blocks)]
        self.down = nn.ModuleList(nn.ModuleList(repeat(a)) for a, _ in steps)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in steps)
        self.middle = nn.ModuleList([*repeat(widths[-1]), _Block(widths[-1], widths[-1], embedded)])
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in reversed(steps))
        self.up = nn.ModuleList(nn.ModuleList([_Block(2 * a, a, embedded), *repeat(a)[1:]]) for a, _ in reversed(steps))
        self.last = nn.Conv2d(widths[0], _OUT * _SHUFFLE**2, 3, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x_t: Tensor, t: Tensor, known: Tensor) -> Fixed:
        """The mean of the clean pictures.

        Args:
            x_t: (B, 3, H, W) noised, in units of [-1, 1]; not looked at where t is 1. Sides are multiples of 16.
            t: (B,) in (0, 1].
            known: (B, 16, H, W) in [0, 1], see CHANNELS.
        """
        x_t = torch.where(t[:, None, None, None] < 1, x_t, torch.zeros_like(x_t))
        level = self.embed(_waves(t))
        x = self.first(F.pixel_unshuffle(torch.cat([x_t, 2 * known - 1], 1), _SHUFFLE))
        skips = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, level)
            skips.append(x)
            x = shrink(x)
        for block in self.middle:
            x = block(x, level)
        for grow, blocks in zip(self.grow, self.up, strict=True):
            x = torch.cat([F.interpolate(grow(x), scale_factor=2, mode="nearest"), skips.pop()], 1)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, level)
        out = F.pixel_shuffle(self.last(F.silu(x)), _SHUFFLE).float()
        return _chosen(out, known.float())


def _chosen(out: Tensor, known: Tensor) -> Fixed:
    """x0 of the network's last channels, by the formula above."""
    residual, logits, certain = out.split([3, 1 + PHOTOS, 1], 1)
    warps = known[:, 4:].unflatten(1, (PHOTOS, 4))
    valid = torch.cat([torch.ones_like(known[:, :1]), warps[:, :, 3]], 1)  # the filled render is there everywhere
    logits = logits + torch.tensor([_FAVOUR] + [0.0] * PHOTOS, device=out.device)[:, None, None]
    share = logits.masked_fill(valid <= 0, float("-inf")).softmax(1)
    sources = 2 * torch.cat([known[:, None, :3], warps[:, :, :3]], 1) - 1
    return Fixed((share[:, :, None] * sources).sum(1) + residual, certain[:, 0])


def _waves(t: Tensor) -> Tensor:
    """Sines and cosines of the noise level. (B,) -> (B, 32)"""
    frequencies = torch.exp(torch.arange(16, device=t.device) * (math.log(1000) / 15))
    angles = t[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)

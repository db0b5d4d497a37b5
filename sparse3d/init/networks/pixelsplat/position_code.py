"""Sine codes of positions and depths."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PositionCode(nn.Module):
    """sin and cos of 2 pi 2^octave x (NeRF, arXiv:2003.08934, eq. 4), octave by octave.

    Args:
        octaves: The number of frequencies; each value becomes 2 * octaves values.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, octaves: int = 10) -> None:
        super().__init__()
        # float32 in every precision: the published network's constants. At 2^9 turns, how 2 pi is rounded shows
        frequencies = 2 * math.pi * 2.0 ** torch.arange(octaves, dtype=torch.float32)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("phases", torch.tensor([0, math.pi / 2], dtype=torch.float32), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Codes of D values each. (..., D) -> (..., D 2 octaves): value, then octave, then sine before cosine"""
        angles = values[..., None, None] * self.frequencies[:, None] + self.phases
        return angles.sin().flatten(-3)

"""What initialization hands on: first Gaussians, where each of them comes from, and the depth behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from sparse3d.init.depth_map import DepthMap
from sparse3d.init.support import Support
from sparse3d.shapes import check_shapes
from sparse3d.types import Gaussians


class Origin(IntEnum):
    """Why a Gaussian is where it is."""

    MATCHED = 0  # views were matched there
    FILLED = 1  # in a small hole of what was matched
    GUESSED = 2  # nothing was matched there: at the depth of what lies around, or at the far end
    SPARSE = 3  # a point of structure from motion
    PREDICTED = 4  # a network put it there


@dataclass(frozen=True)
class Start:
    """Gaussians with their origins."""

    gaussians: Gaussians
    origin: Tensor  # (N,) uint8, values of Origin

    def __post_init__(self) -> None:
        check_shapes(means=(self.gaussians.means, "N 3"), origin=(self.origin, "N"))

    def __len__(self) -> int:
        return len(self.gaussians)

    @staticmethod
    def of(gaussians: Gaussians, origin: Origin) -> Start:
        """All of one origin."""
        return Start(gaussians, torch.full((len(gaussians),), int(origin), dtype=torch.uint8))

    @staticmethod
    def joined(parts: Sequence[Start]) -> Start:
        """All of them, in order."""
        empty = torch.zeros(0, dtype=torch.uint8)
        return Start(
            Gaussians.joined([part.gaussians for part in parts]), torch.cat([empty, *(part.origin for part in parts)])
        )


@dataclass(frozen=True)
class Initialization:
    """First Gaussians and how they came about."""

    start: Start
    maps: tuple[DepthMap, ...]  # of the views that have depth; none from sparse points alone
    method: str  # which initializer: sfm, planesweep, mvsplat, ...
    why: str  # a sentence: asked for, or why it was chosen
    notes: tuple[str, ...] = ()  # what the user should know
    support: Support | None = None  # how well the views support the scene, by their depth; None without maps

    @property
    def gaussians(self) -> Gaussians:
        """All of them."""
        return self.start.gaussians

"""The table of the few-view protocol: a row for each scene, number of views and method, and their means over the scenes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.sparse_run import mean_values
from harness.tables import Table
from sparse3d.metrics.protocol import ALIGNED

_SCORES = {"PSNR": ("psnr", ".2f"), "SSIM": ("ssim", ".3f"), "LPIPS": ("lpips", ".3f")}
_ALIGNED = {name + ALIGNED: (key + ALIGNED, digits) for name, (key, digits) in _SCORES.items()}
_COSTS = {
    "initial PSNR": ("initial psnr", ".2f"),
    "load + points s": ("load s", ".1f"),
    "initialize s": ("initialize s", ".1f"),
    "optimize s": ("optimize s", ".1f"),
    "Gaussians": ("gaussians", ",.0f"),
    "peak MB": ("peak MB", ",.0f"),
}
_CAMERAS = {
    f"{name} {when}": (f"{name} {when}", ".2f")
    for name in ("rotation deg", "position %", "focal %")
    for when in ("before", "after")
}


@dataclass(frozen=True)
class Outcome:
    """All runs of one scene, number of views and method."""

    scene: str
    views: int
    method: str
    seeds: tuple[dict[str, float], ...]  # values of each seed, over its folds; none where it failed
    left_out: int = 0  # training photos without a camera, in the worst of its runs


class SparseTable:
    """Grows on the terminal row by row."""

    def __init__(self, title: str, exact: bool) -> None:
        """Prints the head.

        Args:
            title: Above it.
            exact: Cameras are the set's own: nothing has to be aligned, and they have no errors.
        """
        self.columns = _SCORES | _COSTS if exact else _SCORES | _ALIGNED | _COSTS | _CAMERAS
        self.table = Table(title, ["scene", "views", "method", *self.columns])
        self.outcomes: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """A row; dashes where the scene failed."""
        self.outcomes.append(outcome)
        placed = f" ({outcome.views - outcome.left_out} placed)" if outcome.left_out else ""
        self.table.row(outcome.scene, f"{outcome.views}{placed}", outcome.method, *self._cells(outcome.seeds))

    def means(self) -> None:
        """A row for each number of views and method: the mean over the scenes that did not fail. None for a single scene."""
        for views, method in dict.fromkeys((outcome.views, outcome.method) for outcome in self.outcomes):
            group = [outcome for outcome in self.outcomes if (outcome.views, outcome.method) == (views, method)]
            if len(group) == 1:
                continue
            made = [outcome.seeds for outcome in group if outcome.seeds]
            seeds = [mean_values(rows) for rows in zip(*made, strict=True)]
            count = f"{len(made)}" if len(made) == len(group) else f"{len(made)} of {len(group)}"
            incomplete = sum(outcome.left_out > 0 for outcome in group if outcome.seeds)
            note = f", {incomplete} incomplete" if incomplete else ""
            self.table.row(f"mean of {count}{note}", str(views), method, *self._cells(seeds))

    def has(self, key: str) -> bool:
        """Whether any row so far has this value."""
        return any(key in row for outcome in self.outcomes for row in outcome.seeds)

    def _cells(self, seeds: Sequence[dict[str, float]]) -> list[str | None]:
        return [_cell([row[key] for row in seeds if key in row], digits) for key, digits in self.columns.values()]


def _cell(values: Sequence[float], digits: str) -> str | None:
    """Mean over the seeds, of scores with their standard deviation; a dash where there is no value."""
    if not values or any(math.isnan(value) for value in values):
        return None
    spread = f" ± {statistics.stdev(values):{digits}}" if len(values) > 1 and digits in (".2f", ".3f") else ""
    return f"{statistics.fmean(values):{digits}}{spread}"

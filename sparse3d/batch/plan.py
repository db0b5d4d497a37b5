"""What many scenes will take, from a few that were measured."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from sparse3d.batch.record import Record
from sparse3d.errors import UserError


@dataclass(frozen=True)
class BatchPlan:
    """Time and memory of scenes like those that were measured, on machines like this one."""

    measured: int
    scenes: int
    seconds_mean: float  # of a scene, on its share of the machine
    seconds_spread: float  # standard deviation
    peak_mb: float  # largest
    worker_hours: float  # of all scenes
    worker_hours_high: float  # with two standard errors of the mean

    def as_dict(self) -> dict[str, Any]:
        """With what several numbers of workers would take."""
        return asdict(self) | {
            "hours_by_workers": {str(workers): self.hours(workers) for workers in (1, 4, 16, 64, 256)}
        }

    def hours(self, workers: int) -> float:
        """Hours for all scenes with so many workers: whole rounds, for a scene is never divided."""
        return round(math.ceil(self.scenes / workers) * self.seconds_mean / 3600, 3)

    def text(self) -> str:
        """For people; prices are theirs to fill in."""
        each = f"{self.seconds_mean:.0f} s each (standard deviation {self.seconds_spread:.0f} s)"
        hours = f"{self.worker_hours:.1f} worker hours (up to {self.worker_hours_high:.1f})"
        lines = [
            f"measured {self.measured} scenes: {each}, up to {self.peak_mb / 1000:.1f} GB of memory",
            f"{self.scenes} scenes like these: {hours}; cost = worker hours x price of a machine's hour / workers on it",
        ]
        lines += [f"  {workers:>4} workers: {self.hours(workers):.1f} h" for workers in (1, 4, 16, 64, 256)]
        return "\n".join(lines)


def plan_of(record: Record, names: list[str], scenes: int) -> BatchPlan:
    """The plan for `scenes` scenes like the named ones, which have been run.

    Raises:
        UserError: none of them was done.
    """
    done = [record.scenes[name] for name in names if record.scenes[name]["state"] == "done"]
    if not done:
        raise UserError(
            "none of the scenes to measure was done, so nothing is known of the others. See batch.json for why"
        )
    seconds = [float(scene["seconds"]) for scene in done]
    mean = sum(seconds) / len(seconds)
    spread = math.sqrt(sum((value - mean) ** 2 for value in seconds) / max(1, len(seconds) - 1))
    high = mean + 2 * spread / math.sqrt(len(seconds))
    peak = max(float(scene["facts"].get("peak_mb") or 0) for scene in done)
    hours = [scenes * value / 3600 for value in (mean, high)]
    return BatchPlan(len(done), scenes, round(mean, 2), round(spread, 2), peak, round(hours[0], 3), round(hours[1], 3))

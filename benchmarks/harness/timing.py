"""Clocks, and calls that take turns so that a busy machine is as unkind to one as to the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

Result = TypeVar("Result")


class Time(NamedTuple):
    """What something took, in milliseconds."""

    cpu: float  # of all threads of this process
    wall: float

    def of(self, threads: int) -> float:
        """The figure that means something: CPU time of one thread, which neighbours disturb least; else what passed."""
        return self.cpu if threads == 1 else self.wall


class Stopwatch:
    """Laps since it was made, or since the last lap."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Leaves out what happened since the last lap."""
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def lap(self) -> Time:
        """The time since the last lap."""
        cpu, wall = self.cpu, self.wall
        self.restart()
        return Time(1e3 * (self.cpu - cpu), 1e3 * (self.wall - wall))


def total(times: Sequence[Time]) -> Time:
    """Their sum."""
    return Time(*map(sum, zip(*times, strict=True)))


def typical(times: Sequence[Time]) -> Time:
    """Lower quartiles: a disturbance only ever adds time, but the least of many repetitions is luck."""
    return Time(*(sorted(column)[len(column) // 4] for column in zip(*times, strict=True)))


def alternating(
    calls: Sequence[Callable[[], Result]], budget_s: float, least: int = 2, most: int = 100
) -> list[list[Result]]:
    """What the calls return when they take turns.

    Args:
        calls: Each measures something once.
        budget_s: Seconds after which a call is left out of further rounds.
        least, most: Rounds for each call, whatever they take.
    """
    results: list[list[Result]] = [[] for _ in calls]
    spent_s = [0.0] * len(calls)
    waiting = set(range(len(calls)))
    while waiting:
        for k in sorted(waiting):
            began = time.perf_counter()
            results[k].append(calls[k]())
            spent_s[k] += time.perf_counter() - began
            if len(results[k]) >= most or (len(results[k]) >= least and spent_s[k] >= budget_s):
                waiting.remove(k)
    return results

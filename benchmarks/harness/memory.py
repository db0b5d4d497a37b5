"""Memory of the rasterizer: the most that a large picture takes, and whether many small ones leave something behind."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch

from harness.rasters import Pass
from harness.scenes import relief

Result = TypeVar("Result")


def peak_mb(count: int, width: int, height: int) -> tuple[float, float]:
    """Resident megabytes of a fresh process before, and at most up to the end of, one forward and backward pass."""
    return in_fresh_process(_peak_mb, count, width, height)


def in_fresh_process(function: Callable[..., Result], *arguments: object) -> Result:
    """What a function of a module returns, or raises, in a process that has done nothing before."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(function, *arguments).result()


def growth_mb(calls: int, warm_up: int = 200) -> float:
    """Megabytes by which this process grows over forward and backward passes of a small scene, after some to warm up."""
    small = Pass(*relief(300, 96, 72), sh_degree=3)
    for _ in range(warm_up):
        small.run()
    before = resident_mb()
    for _ in range(calls):
        small.run()
    return resident_mb() - before


def resident_mb(line: str = "VmRSS") -> float:
    """Memory of this process that is resident now, or with "VmHWM" was at most. Linux.

    Not resource.getrusage: its ru_maxrss starts at what the parent held when it made this process.
    """
    with open("/proc/self/status") as status:
        sizes = dict(row.split(":", 1) for row in status)
    return int(sizes[line].split()[0]) * 1024 / 1e6


def _peak_mb(count: int, width: int, height: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    large = Pass(*relief(count, width, height), sh_degree=3)
    before = resident_mb()
    large.run()
    return before, resident_mb("VmHWM")

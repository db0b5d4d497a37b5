"""Whole training steps: sparse3d's optimization loop as it is, OpenSplat's step between its steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from harness.opensplat import opensplat
from harness.scenes import Scene
from harness.timing import Stopwatch, Time
from sparse3d.config import load_config
from sparse3d.kernels import cpu
from sparse3d.optimize.loop import look_of, optimize
from sparse3d.progress import StageReporter
from sparse3d.types import Gaussians

_WARM_UP = 3  # steps until all harmonics are in use


@dataclass
class Steps:
    """What `measure_steps` saw."""

    ours: list[Time] = field(default_factory=list)  # of each step
    parts: dict[str, float] = field(default_factory=dict)  # milliseconds of all of them in each compiled kernel
    theirs: list[Time] = field(default_factory=list)


def measure_steps(scene: Scene, threads: int, rounds: int, program: Path | None) -> Steps:
    """Runs the loop for `rounds` times the number of views, and OpenSplat for one step after each such round.

    A step is what happens between two calls of `on_step`: everything that the loop does. Spherical harmonics of
    degree 3 from the fourth step on, images at full size, everything else as in the balanced preset.

    Args:
        scene: Where both start, and what they are fitted to.
        threads: For PyTorch in both programs.
        rounds: At least 1.
        program: opensplat_step; None leaves it out.
    """
    views = len(scene.views)
    config = replace(
        load_config("balanced").optimize, steps=_WARM_UP + rounds * views, coarse=0.0, sh_degree=3, sh_interval=1
    )
    background = look_of(scene.views, config).background
    steps = Steps()
    torch.set_num_threads(threads)
    with ExitStack() as stack:
        peer = stack.enter_context(opensplat(program, scene, background, threads)) if program else None
        parts = stack.enter_context(compiled_calls())
        watch = Stopwatch()

        def on_step(done: int, _gaussians: Gaussians) -> None:
            lap = watch.lap()
            if done > _WARM_UP:
                steps.ours.append(lap)
            if done == _WARM_UP:
                parts.clear()
            if done == config.steps:
                steps.parts = dict(parts)
            elif peer and done >= _WARM_UP and (done - _WARM_UP) % views == 0:
                _, time = peer(len(steps.theirs) % views)
                steps.theirs.append(time)
            watch.restart()

        optimize(
            scene.gaussians,
            scene.views,
            config,
            cpu.rasterize,
            generator=torch.Generator().manual_seed(0),
            progress=StageReporter("optimize"),
            on_step=on_step,
        )
    return steps


@contextmanager
def compiled_calls() -> Iterator[dict[str, float]]:
    """Milliseconds spent so far inside each function of the compiled module."""
    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, call: Any) -> Any:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            watch = Stopwatch()
            result = call(*arguments, **options)
            spent[name] += watch.lap().cpu
            return result

        return wrapper

    module = cpu.compiled()
    with ExitStack() as stack:
        for name, value in vars(module).items():
            if callable(value) and not isinstance(value, type):
                stack.enter_context(mock.patch.object(module, name, timed(name, value)))
        yield spent

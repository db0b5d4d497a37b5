"""OpenSplat's training step, run by the program of benchmarks/peers in a process beside this one."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from harness.scenes import Scene
from harness.timing import Time
from sparse3d.render import render


@contextmanager
def opensplat(
    program: Path, scene: Scene, background: tuple[float, float, float], threads: int
) -> Iterator[Callable[[int], tuple[float, Time]]]:
    """A running opensplat_step.

    Args:
        program: The compiled opensplat_step.
        scene: What it starts from and the views it is fitted to, of one size.
        background: sRGB behind everything.
        threads: For PyTorch inside of it.

    Yields:
        A function that takes one step on the view of an index; it returns the mean absolute difference between the picture
        before the step and the view, and what the step took.

    Raises:
        SystemExit: there is no such program, it ended (its message is on standard error), or a camera is one that OpenSplat
            cannot have.
    """
    if not program.is_file():
        raise SystemExit(f"there is no {program}; benchmarks/README.md says how to build opensplat_step")
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scene.bin"
        _write_scene(file, scene, background)
        command = [str(program), str(file), str(threads)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)

        def step(view: int) -> tuple[float, Time]:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(f"{view}\n")
            process.stdin.flush()
            answer = process.stdout.readline().split()
            if len(answer) != 3:
                raise SystemExit(f"opensplat_step ended with code {process.wait()}")
            difference, cpu_s, wall_s = map(float, answer)
            return difference, Time(1e3 * cpu_s, 1e3 * wall_s)

        try:
            yield step
        finally:
            process.kill()
            process.communicate()


def grey_difference(program: Path, scene: Scene) -> float:
    """Mean absolute difference between OpenSplat's picture and ours of the first view, all Gaussians made grey.

    Grey, because OpenSplat's CPU path composites them in an order that is not by depth (benchmarks/README.md): their shapes,
    places and opacities are then still compared, and what comes before what is not.
    """
    grey = replace(scene.gaussians, sh=torch.zeros_like(scene.gaussians.sh))
    first = scene.views[0]
    picture = render(grey, first.cameras, backend="cpu").image[0]
    same = Scene(scene.name, grey, (replace(first, image=picture),))
    with opensplat(program, same, (0.0, 0.0, 0.0), threads=1) as step:
        return step(0)[0]


def _write_scene(file: Path, scene: Scene, background: tuple[float, float, float]) -> None:
    """Writes what opensplat_step reads: counts as int32, then float32 tensors one after another.

    Raises:
        SystemExit: the views differ in size, or a principal point is off the centre, where OpenSplat takes it to be.
    """
    first = scene.views[0]
    for view in scene.views:
        if view.image.shape != first.image.shape:
            raise SystemExit(f"view {view.name} is of another size than {first.name}")
        centre = torch.tensor([view.width / 2, view.height / 2])
        if (view.K[:2, 2] - centre).abs().max() > 1e-3:
            raise SystemExit(f"view {view.name} has its principal point off the centre, which OpenSplat cannot draw")
    g = scene.gaussians
    tensors = [g.means, g.log_scales, g.quats, g.logit_opacities, g.sh[:, 0], g.sh[:, 1:], torch.tensor(background)]
    for view in scene.views:
        tensors += [view.K, view.c2w, view.image.permute(1, 2, 0)]
    with file.open("wb") as stream:
        stream.write(np.array([len(g), len(scene.views), first.height, first.width], dtype="<i4").tobytes())
        for tensor in tensors:
            stream.write(tensor.contiguous().numpy().astype("<f4").tobytes())

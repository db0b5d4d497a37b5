"""CPU time of the compiled plane sweeps and semi-global matching against their PyTorch forms, in one run.

    python benchmarks/planesweep.py --size 252x189 --views 3 --planes 128

One view is swept against the others: grey images of that size by ZNCC and census, features of a fourth of it and of
64x64 (MVSplat's maps of photos of 256x256) by correlation. Smallest time of one thread over several repetitions,
alternating between the two.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor

from sparse3d.kernels import census, correlation, cpu, cpu_sweep, sweep


def texture(height: int, width: int, generator: torch.Generator) -> Tensor:
    """A grey image of waves and noise."""
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    image = torch.full((height, width), 0.5)
    for _ in range(12):
        a, b, phase, weight = (torch.rand(4, generator=generator) - 0.5) * torch.tensor([1.6, 1.6, 12.0, 0.4])
        image += weight * torch.sin(a * u + b * v + phase)
    return (image + 0.02 * torch.randn(height, width, generator=generator)).clamp(0, 1)


def rig(width: int, height: int, sources: int, planes: int, window: int) -> tuple:
    """Arguments of zncc_sweep: cameras side by side, planes over about a quarter of the width in disparity."""
    generator = torch.Generator().manual_seed(0)
    K = torch.tensor([[0.96 * width, 0, width / 2], [0, 0.96 * width, height / 2], [0, 0, 1]])
    transforms = torch.eye(4).repeat(sources, 1, 1)
    for s in range(sources):
        transforms[s, 0, 3] = 0.3 * (s // 2 + 1) * (-1) ** s
        transforms[s, 1, 3] = 0.05 * s
    depths = 1 / torch.linspace(1 / 2, 1 / 8, planes)
    images = [texture(height, width, generator) for _ in range(sources + 1)]
    return images[0], K, images[1:], K.repeat(sources, 1, 1), transforms, depths, window


def features(width: int, height: int, channels: int, sources: int, planes: int) -> tuple:
    """Arguments of feature_sweep: the cameras of `rig` with normally distributed features."""
    _, K, _, source_Ks, transforms, depths, _ = rig(width, height, sources, planes, window=1)
    maps = torch.randn(sources + 1, channels, height, width, generator=torch.Generator().manual_seed(0))
    return maps[0], K, maps[1:], source_Ks, transforms, depths


def compare(
    name: str, compiled: Callable[..., Tensor], pytorch: Callable[..., Tensor], *arguments: Any, repeats: list[int]
) -> None:
    """Prints a row of the table: least milliseconds of CPU time of the calling thread for each form, and their ratio."""
    best = [float("inf")] * 2
    for turn in range(max(repeats)):
        for k, form in enumerate((compiled, pytorch)):
            if turn < repeats[k]:
                began = time.thread_time()
                form(*arguments)
                best[k] = min(best[k], 1e3 * (time.thread_time() - began))
    print(f"| {name} | {best[0]:.1f} | {best[1]:.0f} | {best[1] / best[0]:.1f} |", flush=True)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="252x189")
    parser.add_argument("--views", type=int, default=3, help="one is swept against the others")
    parser.add_argument("--planes", type=int, default=128)
    parser.add_argument("--window", type=int, nargs="+", default=[5, 7])
    parser.add_argument("--channels", type=int, default=64, help="of the features")
    parser.add_argument("--repeat", type=int, default=20, help="repetitions of the compiled code")
    parser.add_argument("--reference-repeat", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    width, height = map(int, options.size.split("x"))
    row = partial(compare, repeats=[options.repeat, options.reference_repeat])
    print(f"cpu kernels: {cpu.instruction_set()}; {options.size}, {options.views} views, {options.planes} planes\n")
    print("| milliseconds, one thread | compiled | PyTorch | ratio |\n|---|---|---|---|")
    sources = options.views - 1
    for window in options.window:
        scene = rig(width, height, sources, options.planes, window)
        row(f"ZNCC, {window}x{window} window", cpu_sweep.zncc_sweep, sweep.zncc_sweep, *scene)
    row("census, 9x7 window", cpu_sweep.census_sweep, census.census_sweep, *scene[:-1])
    for columns, rows in ((width // 4, height // 4), (64, 64)):
        maps = features(columns, rows, options.channels, sources, options.planes)
        name = f"features, {options.channels} channels, {columns}x{rows}"
        row(name, cpu_sweep.feature_sweep, correlation.feature_sweep, *maps)
    costs = 1 - cpu_sweep.zncc_sweep(*scene)
    for paths in (4, 8):
        forms = (partial(form.semi_global, paths=paths) for form in (cpu_sweep, sweep))
        row(f"semi-global matching, {paths} paths", *forms, costs, scene[0])


if __name__ == "__main__":
    main()

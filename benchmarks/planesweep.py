"""CPU time of the compiled plane sweep and semi-global matching against their PyTorch form, in one run.

    python benchmarks/planesweep.py --size 252x189 --views 3 --planes 128

One view is swept against the others. Smallest time of one thread over several repetitions, alternating between the two.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor

from sparse3d.kernels import cpu, cpu_sweep, sweep


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


def alternating(calls: list[Callable[[], Tensor]], repeats: list[int]) -> list[float]:
    """Least milliseconds of CPU time of the calling thread, for each call."""
    best = [float("inf")] * len(calls)
    for turn in range(max(repeats)):
        for k, call in enumerate(calls):
            if turn < repeats[k]:
                began = time.thread_time()
                call()
                best[k] = min(best[k], 1e3 * (time.thread_time() - began))
    return best


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="252x189")
    parser.add_argument("--views", type=int, default=3, help="one is swept against the others")
    parser.add_argument("--planes", type=int, default=128)
    parser.add_argument("--window", type=int, nargs="+", default=[5, 7])
    parser.add_argument("--repeat", type=int, default=20, help="repetitions of the compiled code")
    parser.add_argument("--reference-repeat", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    width, height = map(int, options.size.split("x"))
    repeats = [options.repeat, options.reference_repeat]
    print(f"cpu kernels: {cpu.instruction_set()}; {options.size}, {options.views} views, {options.planes} planes\n")
    print("| milliseconds, one thread | compiled | PyTorch | ratio |\n|---|---|---|---|")
    for window in options.window:
        scene = rig(width, height, options.views - 1, options.planes, window)
        fast, slow = alternating([lambda m=m, s=scene: m.zncc_sweep(*s) for m in (cpu_sweep, sweep)], repeats)
        print(f"| sweep, {window}x{window} window | {fast:.1f} | {slow:.0f} | {slow / fast:.1f} |", flush=True)
    costs, guide = 1 - cpu_sweep.zncc_sweep(*scene), scene[0]
    for paths in (4, 8):
        calls = [lambda m=m, p=paths: m.semi_global(costs, guide, paths=p) for m in (cpu_sweep, sweep)]
        fast, slow = alternating(calls, repeats)
        print(f"| semi-global matching, {paths} paths | {fast:.1f} | {slow:.0f} | {slow / fast:.1f} |", flush=True)


if __name__ == "__main__":
    main()

"""CPU time of the compiled forward warp against its PyTorch form, in one run.

    python benchmarks/warp.py --size 504x378 1008x756 --photos 3

The photos are synthetic: hills, objects that stand out by 40 %, unknown depth in places; 1 % of noise in the depth in the
second row of each size, which tears many pixels. Smallest time of one thread over several repetitions, alternating
between the two.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import torch.nn.functional as F
from planesweep import alternating
from torch import Tensor

from sparse3d.kernels import cpu, cpu_warp, warp


def rig(width: int, height: int, photos: int, noise: float) -> tuple:
    """Arguments of forward_warp: cameras side by side, surfaces 2.5 to 8 away."""
    generator = torch.Generator().manual_seed(0)

    def smooth(cells: int) -> Tensor:
        coarse = torch.rand(1, 1, cells, cells + 1, generator=generator)
        return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0, 0]

    K = torch.tensor([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]])
    transforms, images, depths = torch.eye(4).repeat(photos, 1, 1), [], []
    for s in range(photos):
        transforms[s, 0, 3] = 0.3 * (s // 2 + 1) * (-1) ** s
        transforms[s, 1, 3] = 0.05 * s
        depth = 1 / (0.12 + 0.12 * smooth(4))
        depth = torch.where(smooth(8) > 0.7, 0.6 * depth, depth)
        depth = torch.where(smooth(6) > 0.9, torch.zeros_like(depth), depth)
        depths.append(depth * (1 + noise * torch.randn(height, width, generator=generator)))
        images.append(torch.rand(3, height, width, generator=generator))
    return images, depths, K.repeat(photos, 1, 1), transforms, K, height, width


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", default=["504x378", "1008x756"], help="WIDTHxHEIGHT of photos and target")
    parser.add_argument("--photos", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=10, help="repetitions of the compiled code")
    parser.add_argument("--reference-repeat", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"cpu kernels: {cpu.instruction_set()}; {options.photos} photos\n")
    print("| milliseconds, one thread | compiled | PyTorch | ratio |\n|---|---|---|---|")
    for size in options.size:
        width, height = map(int, size.split("x"))
        for noise in (0.0, 0.01):
            scene = rig(width, height, options.photos, noise)
            fast, slow = alternating(
                [lambda m=m, s=scene: m.forward_warp(*s).color for m in (cpu_warp, warp)],
                [options.repeat, options.reference_repeat],
            )
            name = f"{size}, {'noisy' if noise else 'clean'} depth"
            print(f"| {name} | {fast:.1f} | {slow:.0f} | {slow / fast:.0f} |", flush=True)


if __name__ == "__main__":
    main()

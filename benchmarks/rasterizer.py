"""Time of one forward and backward pass of the CPU kernels against the PyTorch reference, in one run.

    python benchmarks/rasterizer.py --gaussians 20000 --size 252x189 --threads 1

The scene is a relief of Gaussians about one sample spacing wide, opacities 0.1 to 0.9, as an initialised scene has them.
Smallest of several repetitions, alternating between the two; the loss is a random projection of the colours.
"""

from __future__ import annotations

import argparse
import math
import time

import torch
from torch import Tensor

from sparse3d.kernels import cpu, reference


def relief(count: int, width: int, height: int, sh_degree: int) -> tuple[list[Tensor], list[Tensor]]:
    """Differentiable tensors of about `count` Gaussians on a wavy wall 4 units away, and one camera that sees all of it."""
    generator = torch.Generator().manual_seed(0)
    rows = max(1, round(math.sqrt(count * height / width)))
    columns = max(1, round(count / rows))
    focal = 0.96 * width  # 55 degrees across
    v, u = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
    pixels = torch.stack([u * width - width / 2, v * height - height / 2], dim=-1).reshape(-1, 2)
    depth = 4 + 0.5 * torch.sin(0.02 * pixels[:, 0]) * torch.cos(0.015 * pixels[:, 1])
    depth = depth + 0.01 * torch.randn(len(depth), generator=generator)
    means = torch.cat([pixels / focal * depth[:, None], depth[:, None]], dim=1)
    spacing = depth * math.sqrt(width * height / len(depth)) / focal
    shape = torch.tensor([1.0, 1.0, 0.3]) * torch.exp(0.25 * torch.randn(len(depth), 3, generator=generator))
    scales = spacing[:, None] * shape
    quats = torch.tensor([1.0, 0, 0, 0]) + 0.25 * torch.randn(len(depth), 4, generator=generator)
    opacities = 0.1 + 0.8 * torch.rand(len(depth), generator=generator)
    sh = 0.3 * torch.randn(len(depth), (sh_degree + 1) ** 2, 3, generator=generator)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    leaves = [t.contiguous().requires_grad_() for t in (means, quats, scales, opacities, sh)]
    return leaves, [torch.eye(4)[None], K[None]]


def seconds(
    rasterize, leaves: list[Tensor], camera: list[Tensor], weights: Tensor, sh_degree: int
) -> tuple[float, float]:
    """Of the forward and of the backward pass."""
    height, width = weights.shape[1:3]
    start = time.perf_counter()
    raster = rasterize(*leaves, *camera, width, height, sh_degree=sh_degree)
    middle = time.perf_counter()
    torch.autograd.grad(raster.rgb, leaves, weights)
    return middle - start, time.perf_counter() - middle


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gaussians", type=int, nargs="+", default=[20_000])
    parser.add_argument("--size", nargs="+", default=["252x189"], help="WIDTHxHEIGHT")
    parser.add_argument("--sh-degree", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=20, help="repetitions of the CPU kernels")
    parser.add_argument("--reference-repeat", type=int, default=2, help="of the reference; 0 leaves it out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"cpu kernels: {cpu.instruction_set()}; {options.threads} threads; SH degree {options.sh_degree}; milliseconds"
    )
    print(f"{'size':>10} {'gaussians':>9} | {'cpu fwd':>8} {'bwd':>8} {'both':>8} | {'reference':>9} | {'ratio':>6}")
    for size in options.size:
        width, height = map(int, size.split("x"))
        for count in options.gaussians:
            leaves, camera = relief(count, width, height, options.sh_degree)
            weights = torch.randn(1, height, width, 3, generator=torch.Generator().manual_seed(1))
            fast, slow = [], []
            for k in range(max(options.repeat, options.reference_repeat)):
                if k < options.repeat:
                    fast.append(seconds(cpu.rasterize, leaves, camera, weights, options.sh_degree))
                if k < options.reference_repeat:
                    slow.append(sum(seconds(reference.rasterize, leaves, camera, weights, options.sh_degree)))
            forward, backward = (1e3 * min(column) for column in zip(*fast, strict=True))
            both = 1e3 * min(map(sum, fast))
            tail = f"{1e3 * min(slow):9.0f} | {1e3 * min(slow) / both:5.0f}x" if slow else f"{'-':>9} | {'-':>6}"
            print(f"{size:>10} {len(leaves[0]):9d} | {forward:8.1f} {backward:8.1f} {both:8.1f} | {tail}", flush=True)


if __name__ == "__main__":
    main()

"""Time of the photometric loss and its gradient: the C++ kernel against the PyTorch version, in one run.

    python benchmarks/ssim.py --size 252x189 504x378 1008x756 --threads 1

Smallest of several repetitions, alternating between the two. The image has the memory of a rasterizer's picture; the
kernel's target is prepared once, as for an optimization, and the time of that is in a column of its own.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from sparse3d.kernels import cpu, cpu_loss
from sparse3d.kernels.ssim import ssim_map


def pytorch_loss(image: Tensor, target: Tensor, ssim_weight: float) -> Tensor:
    """The same loss in PyTorch. (3, H, W) twice -> a scalar"""
    return (1 - ssim_weight) * (image - target).abs().mean() + ssim_weight * (1 - ssim_map(image, target).mean())


def seconds(loss, rgb: Tensor, target: Tensor | cpu_loss.Target) -> float:
    """Of the loss and its gradient."""
    start = time.perf_counter()
    torch.autograd.grad(loss(rgb.permute(2, 0, 1), target, 0.2), rgb)
    return time.perf_counter() - start


def seconds_to_prepare(target: Tensor) -> float:
    """Of the window means of a (3, H, W) target."""
    start = time.perf_counter()
    cpu_loss.Target(target)
    return time.perf_counter() - start


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", default=["252x189", "504x378", "1008x756"], help="WIDTHxHEIGHT")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"cpu kernels: {cpu.instruction_set()}; {options.threads} threads; loss and gradient, milliseconds")
    print(f"{'size':>10} | {'prepare':>8} {'kernel':>8} | {'PyTorch':>8} | {'ratio':>6}")
    for size in options.size:
        width, height = map(int, size.split("x"))
        generator = torch.Generator().manual_seed(0)
        rgb = torch.rand(height, width, 3, generator=generator).requires_grad_()
        target = torch.rand(3, height, width, generator=generator)
        prepared = cpu_loss.Target(target)
        times = [
            (
                seconds_to_prepare(target),
                seconds(cpu_loss.photometric_loss, rgb, prepared),
                seconds(pytorch_loss, rgb, target),
            )
            for _ in range(options.repeat)
        ]
        prepare, kernel, pytorch = (1e3 * min(column) for column in zip(*times, strict=True))
        print(f"{size:>10} | {prepare:8.2f} {kernel:8.2f} | {pytorch:8.1f} | {pytorch / kernel:5.1f}x", flush=True)


if __name__ == "__main__":
    main()

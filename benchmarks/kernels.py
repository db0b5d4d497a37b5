"""Speed and memory of the compiled kernels: rates against the machine's peak, and ratios against other programs in one run.

    python benchmarks/kernels.py
    python benchmarks/kernels.py raster step --gaussians 100000 --size 504x378 --threads 1 2 --opensplat build/opensplat/opensplat_step

`peers` and `step` take the first number of Gaussians with the first size, and so on; `raster` takes each with each.
Times of one thread are CPU time, of more threads what passed; lower quartiles of repetitions that take turns with what they
are compared to.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from harness.fma import fma_peaks
from harness.gsplat_torch import Parts, time_gsplat
from harness.loss import loss_calls
from harness.memory import growth_mb, peak_mb
from harness.opensplat import grey_difference
from harness.pairs import contributing_pairs, processed_pairs
from harness.rasters import Pass, PassTime
from harness.scenes import COUNTS, SIZES, Scene, photographed, read_size, relief, with_targets
from harness.steps import Steps, measure_steps
from harness.tables import Table
from harness.timing import Time, alternating, total, typical

from sparse3d.kernels import cpu, reference

FLOPS_A_PAIR = {"forward": 24, "backward": 46}  # multiplications and additions of the formulas; exp2 is 5 of them
BEARABLE = 100_000  # Gaussians; the PyTorch forms take minutes for more


def paired(options: argparse.Namespace) -> Iterator[tuple[int, int, int]]:
    """The first count with the first size, and so on. Count, width, height."""
    for count, size in zip(options.gaussians, options.size, strict=False):
        yield count, *read_size(size)


def raster_scenes(options: argparse.Namespace) -> Iterator[Scene]:
    """Scenes of the raster table, each with the one view that is drawn."""
    if "relief" in options.scenes:
        for size in options.size:
            for count in options.gaussians:
                yield with_targets(*relief(count, *read_size(size)))
    if "photos" in options.scenes:
        yield from photographed(options.cache)


def pass_of(scene: Scene, sh_degree: int) -> Pass:
    """A pass over the scene's first view."""
    view = scene.views[0]
    return Pass(scene.gaussians, view.cameras, sh_degree)


def raster(options: argparse.Namespace) -> None:
    """Forward and backward of the rasterizer for each instruction set and number of threads."""
    peaks = fma_peaks(options.cache)
    print("\nFMA peak of a core: " + ", ".join(f"{name} {peak:.0f} GFLOP/s" for name, peak in peaks.items()))
    table = Table(
        f"Rasterizer, SH degree {options.sh_degree}; the rates and shares are of whole passes, sorting included; "
        f"{FLOPS_A_PAIR['forward']} flops a processed pair forward, {FLOPS_A_PAIR['backward']} backward",
        [
            "scene", "Gaussians", "size", "instructions", "threads", "forward ms", "backward ms", "pairs processed, million",
            "contributing", "processed million/s", "contributing million/s", "share of FMA peak", "both, times 1 thread",
        ],
    )  # fmt: skip
    for scene in raster_scenes(options):
        view, one = scene.views[0], pass_of(scene, options.sh_degree)
        contributing = contributing_pairs(scene.gaussians, view)
        processed = processed_pairs(one.draw())
        settings = [(isa, threads) for isa in options.isa for threads in options.threads]
        samples = alternating([_with(one, isa, threads) for isa, threads in settings], options.seconds, least=5)
        alone: dict[str, float] = {}
        for (isa, threads), passes in zip(settings, samples, strict=True):
            forward, backward = (typical(times) for times in zip(*passes, strict=True))
            both = typical([total(times) for times in passes])
            if threads == 1:
                alone[isa] = both.wall
            seconds = [time.of(threads) / 1e3 for time in (forward, backward)]
            rates = [None if pairs is None else [pairs / s for s in seconds] for pairs in (processed, contributing)]
            share = None
            if rates[0] is not None and isa in peaks:
                flops = zip(FLOPS_A_PAIR.values(), rates[0], strict=True)
                share = " / ".join(f"{rate * each / (1e9 * peaks[isa] * threads):.0%}" for each, rate in flops)
            table.row(
                scene.name, len(scene.gaussians), f"{view.width}x{view.height}", isa, threads,
                1e3 * seconds[0], 1e3 * seconds[1], None if processed is None else processed / 1e6, contributing / 1e6,
                *(None if rate is None else " / ".join(f"{r / 1e6:.0f}" for r in rate) for rate in rates),
                share, alone[isa] / both.wall if isa in alone else None,
            )  # fmt: skip
    os.environ.pop("SPARSE3D_ISA", None)


def _with(one: Pass, isa: str, threads: int) -> Callable[[], PassTime]:
    def call() -> PassTime:
        os.environ["SPARSE3D_ISA"] = isa
        torch.set_num_threads(threads)
        return one.run()

    return call


def peers(options: argparse.Namespace) -> None:
    """The rasterizer against two PyTorch forms of it."""
    table = Table(
        f"Forward and backward against PyTorch, one thread, {cpu.instruction_set()}, SH degree {options.sh_degree}; gsplat without "
        "its tile lists and the enumeration of pairs",
        ["Gaussians", "size", "ours ms", "kernels/reference.py ms", "ratio", "gsplat's PyTorch form ms", "ratio", "enumeration ms, not counted"],
    )  # fmt: skip
    torch.set_num_threads(1)
    for count, width, height in paired(options):
        if count > BEARABLE:
            continue
        scene = with_targets(*relief(count, width, height))
        one = pass_of(scene, options.sh_degree)

        def of_gsplat(scene: Scene = scene, one: Pass = one) -> Parts:
            return time_gsplat(scene.gaussians, scene.views[0], one.weights[0], options.sh_degree)

        calls = [one.run, lambda one=one: one.run(reference.rasterize), of_gsplat]
        ours, slow, theirs = alternating(calls, options.seconds)
        fast, slow_ms = (typical([total(times) for times in passes]).cpu for passes in (ours, slow))
        parts, enumeration = (typical(times).cpu for times in zip(*theirs, strict=True))
        table.row(
            count,
            f"{width}x{height}",
            fast,
            slow_ms,
            f"{slow_ms / fast:.0f}x",
            parts,
            f"{parts / fast:.0f}x",
            enumeration,
        )


def step(options: argparse.Namespace) -> None:
    """The whole training step against OpenSplat's."""
    table = Table(
        f"Training step (render, L1 + SSIM, gradients, Adam; SH degree 3), {cpu.instruction_set()}",
        [
            "Gaussians", "size", "threads", "ours ms", "steps/s", "in compiled kernels", "elsewhere",
            "OpenSplat ms", "ratio", "mean difference of the pictures, if grey",
        ],
    )  # fmt: skip
    if options.opensplat is None:
        print("(OpenSplat is left out: pass --opensplat or set SPARSE3D_OPENSPLAT to opensplat_step)")
    for count, width, height in paired(options):
        scene = with_targets(*relief(count, width, height))
        difference = grey_difference(options.opensplat, scene) if options.opensplat else None
        for threads in options.threads:
            steps = measure_steps(scene, threads, options.rounds, options.opensplat)
            ours, theirs = (typical(times).of(threads) if times else None for times in (steps.ours, steps.theirs))
            ratio = None if theirs is None else f"{theirs / ours:.1f}x"
            table.row(
                len(scene.gaussians), f"{width}x{height}", threads, ours, 1e3 / ours, *_shares(steps), theirs, ratio, difference
            )  # fmt: skip


def _shares(steps: Steps) -> list[str]:
    """Of our steps' CPU time: compiled kernels, everything else."""
    whole = sum(time.cpu for time in steps.ours)
    kernels = sum(steps.parts.values())
    return [f"{part / whole:.1%}" for part in (kernels, whole - kernels)]


def loss(options: argparse.Namespace) -> None:
    """SSIM + L1 with its gradient."""
    table = Table(
        f"L1 + SSIM and its gradient, one thread, {cpu.instruction_set()}, milliseconds",
        ["size", "kernel", "prepare a target (once a view)", "kernels/ssim.py", "ratio", "PyTorch's conv2d", "ratio"],
    )
    torch.set_num_threads(1)
    for size in options.size:
        samples: list[list[Time]] = alternating(loss_calls(*read_size(size)), options.seconds, least=5)
        prepare, kernel, ours, conv = (typical(times).cpu for times in samples)
        table.row(size, kernel, prepare, ours, f"{ours / kernel:.1f}x", conv, f"{conv / kernel:.1f}x")


def memory(options: argparse.Namespace) -> None:
    """Peak and growth of resident memory."""
    count, (width, height) = max(options.gaussians), read_size(max(options.size, key=lambda text: read_size(text)[0]))
    before, peak = peak_mb(count, width, height)
    print(
        f"\nMemory: forward and backward of {count:,} Gaussians of SH degree 3 at {width}x{height} take a fresh process from "
        f"{before:.0f} MB (Python, PyTorch, scene) to at most {peak:.0f} MB.\n"
        f"1000 more passes of a small scene grow this process by {growth_mb(1000):.2f} MB.",
        flush=True,
    )


SECTIONS = {call.__name__: call for call in (raster, peers, step, loss, memory)}


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--gaussians", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--size", nargs="+", default=SIZES, help="WIDTHxHEIGHT")
    parser.add_argument(
        "--scenes", nargs="+", choices=("relief", "photos"), default=("relief", "photos"), help="of raster"
    )
    parser.add_argument("--isa", nargs="+", default=[cpu.instruction_set()], help="of raster: scalar, avx2, avx512")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of raster and step")
    parser.add_argument("--sh-degree", type=int, default=0, help="of raster and peers")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement; slow ones are made twice")
    parser.add_argument("--rounds", type=int, default=7, help="of step: OpenSplat's steps, each after three of ours")
    parser.add_argument("--opensplat", type=Path, default=os.environ.get("SPARSE3D_OPENSPLAT"), help="opensplat_step")
    parser.add_argument("--cache", type=Path, default=Path("build/benchmarks"), help="for what is made once")
    options = parser.parse_args()
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; choose of {', '.join(SECTIONS)}")
    for name in options.sections or SECTIONS:
        SECTIONS[name](options)


if __name__ == "__main__":
    main()

"""gsplat on a CUDA GPU: agreement with our CPU kernels, times, and a reconstruction from given poses.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --no-recon

Without a CUDA GPU it says so and ends with exit code 2. Times are what passed until the device had finished.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from harness.parity import differences
from harness.photo_sets import DATA, fold_of, photo_files, with_given_cameras
from harness.rasters import Pass
from harness.scenes import COUNTS, SIZES, read_size, relief
from harness.tables import Table
from harness.timing import alternating, typical

from sparse3d.config import load_config
from sparse3d.io.load import load_scene
from sparse3d.kernels import cpu
from sparse3d.metrics.protocol import evaluate_views, mean_scores
from sparse3d.pipeline import recon
from sparse3d.render import Rasterizer, drawer
from sparse3d.types import View


def parity(ours: Rasterizer, theirs: Rasterizer, name: str, cells: Sequence[tuple[int, int, int]]) -> None:
    """Table of how far `theirs`, called `name`, is from `ours`, for some of (Gaussians, width, height)."""
    table = Table(
        f"{name} against {cpu.instruction_set()} kernels of sparse3d, SH degree 3",
        ["Gaussians", "size", "of", "largest difference / largest entry", "entries beyond 1e-3", "cosine"],
    )
    for count, width, height in cells:
        for difference in differences(Pass(*relief(count, width, height), sh_degree=3), ours, theirs):
            share = f"{difference.share:.3%}"
            table.row(
                count, f"{width}x{height}", difference.name, difference.relative, share, f"{difference.cosine:.7f}"
            )


def times(
    rasterize: Rasterizer,
    name: str,
    device: str,
    wait: Callable[[], None],
    cells: Sequence[tuple[int, int, int]],
    budget_s: float = 2.0,
) -> None:
    """Table of forward and backward times with all tensors on a device, for some of (Gaussians, width, height)."""
    table = Table(
        f"{name}, SH degree 3", ["Gaussians", "size", "forward ms", "backward ms", "both, Gaussians/s (million)"]
    )
    for count, width, height in cells:
        one = Pass(*relief(count, width, height), sh_degree=3, device=device, wait=wait)
        one.run(rasterize)  # compiles and allocates
        (passes,) = alternating([lambda one=one: one.run(rasterize)], budget_s, least=5)
        forward, backward = (typical(column).wall for column in zip(*passes, strict=True))
        table.row(count, f"{width}x{height}", forward, backward, count / 1e3 / (forward + backward))


def reconstruction(
    photos: Sequence[Path], poses: Path, test: Sequence[View], settings: Sequence[str], name: str
) -> None:
    """Table of one `recon` with given poses: seconds of its stages, and scores on other views where there are some.

    Args:
        photos: To learn from.
        poses: Their cameras.
        test: Views to measure on, in the frame of `poses`.
        settings: As for `sparse3d recon --set`.
        name: Of what it runs on.
    """
    table = Table(
        f"recon of {len(photos)} photos with given poses on {name}",
        ["read and pose s", "initialize s", "optimize s", "Gaussians", "PSNR", "SSIM"],
    )
    with tempfile.TemporaryDirectory() as folder:
        config = load_config("balanced", settings)
        result = recon(photos, Path(folder) / "scene", config, poses=poses)
        scene = load_scene(result.scene)
        draw = drawer(scene.gaussians, scene.look, config.renderer)
        scores = mean_scores(evaluate_views(draw, test)) if test else {}
    table.row(*result.seconds.values(), result.gaussians, scores.get("psnr"), scores.get("ssim"))


def fern_on_gpu(name: str) -> None:
    """recon of three photos of "fern" at 504x378, measured on the field's test photos."""
    scene, settings = DATA / "fern", ["renderer=gsplat", "photos.max_size=504"]
    fold = fold_of(scene, 3)
    test = with_given_cameras(scene, fold, 504, load_config("balanced", settings)).test
    reconstruction(photo_files(scene, fold.training), scene / "sparse" / "0", test, settings, name)


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gaussians", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--size", nargs="+", default=SIZES, help="WIDTHxHEIGHT")
    parser.add_argument("--no-recon", action="store_true", help="leave out the reconstruction, which needs photos")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "no CUDA device: this benchmark measures gsplat on one. On a CPU run benchmarks/kernels.py", file=sys.stderr
        )
        raise SystemExit(2)
    from sparse3d.kernels import cuda

    name = f"gsplat on {torch.cuda.get_device_name()}"
    cells = [(count, *read_size(size)) for size in options.size for count in options.gaussians]
    parity(cpu.rasterize, cuda.rasterize, name, cells)
    times(cuda.rasterize, name, "cuda", torch.cuda.synchronize, cells)
    if not options.no_recon:
        fern_on_gpu(name)


if __name__ == "__main__":
    main()

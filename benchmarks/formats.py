"""Formats of Gaussians: size, seconds, the worst error of each field after writing and reading, and what a picture loses.

    python benchmarks/formats.py SCENE --count 200000

The Gaussians are those of a scene, drawn from with replacement up to --count and moved by a tenth of their size, so that the values are those that
scenes have. The picture is the scene's first view, drawn from both. `tests/unit/test_export_formats.py` reads the same files with programs of others.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from harness.splat_errors import in_file_order, worst
from harness.tables import Table

from sparse3d.export import FORMATS, ExportOptions, export
from sparse3d.io.load import load_scene
from sparse3d.io.ply import write_gaussians
from sparse3d.io.splats.read import read_splats
from sparse3d.metrics.image import psnr
from sparse3d.render import drawer
from sparse3d.types import Gaussians

_READ = ("ply", "compressed-ply", "spz", "splat", "sog", "gltf")


def many(gaussians: Gaussians, count: int) -> Gaussians:
    """So many Gaussians like these; these themselves where they are as many."""
    if len(gaussians) >= count:
        return gaussians[torch.randperm(len(gaussians), generator=torch.Generator().manual_seed(0))[:count]]
    generator = torch.Generator().manual_seed(0)
    drawn = gaussians[torch.randint(len(gaussians), (count,), generator=generator)]
    moved = drawn.means + 0.1 * drawn.scales * torch.randn(count, 3, generator=generator)
    return replace(drawn, means=moved, sh=drawn.sh + 0.01 * torch.randn(drawn.sh.shape, generator=generator))


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path, help="a scene folder")
    parser.add_argument("--count", type=int, default=200_000, help="Gaussians")
    options = parser.parse_args()
    scene = load_scene(options.scene)
    gaussians = many(scene.gaussians, options.count)
    camera = scene.posed.views[0].cameras
    want = drawer(gaussians, scene.look)(camera).image[0]
    size = float((gaussians.means.quantile(0.95, dim=0) - gaussians.means.quantile(0.05, dim=0)).norm())
    title = f"{len(gaussians):,} Gaussians of SH degree {gaussians.sh_degree}; 90 % of them within {size:.3g} units"
    columns = ["format", "MB", "write s", "read s", "position", "angle deg", "log scale", "opacity", "colour coef.", "other coef.", "PSNR dB"]  # fmt: skip
    table = Table(title, columns)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.ply"
        write_gaussians(source, gaussians)
        for name in _READ:
            file = Path(folder) / f"out{FORMATS[name].suffix}"
            began = time.perf_counter()
            read_splats(source)
            loaded = time.perf_counter()
            export(source, name, file, ExportOptions(min_opacity=0.0))
            written = time.perf_counter()
            got = read_splats(file)
            read = time.perf_counter()
            errors = worst(got, in_file_order(name, gaussians))
            same = drawer(got, scene.look)(camera).image[0]
            rest = errors.pop("sh") if got.sh_degree == gaussians.sh_degree else None
            seconds = written - loaded - (loaded - began)  # less the reading of the source
            table.row(
                name,
                file.stat().st_size / 1e6,
                max(seconds, 0.0),
                read - written,
                *list(errors.values())[:5],
                rest,
                psnr(same, want),
            )


if __name__ == "__main__":
    main()

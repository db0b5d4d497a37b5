"""What each splat format keeps: worst error of each field after writing and reading, file size, seconds.

    python benchmarks/formats.py --count 200000

Gaussians of SH degree 1 as scenes of ours have them, spread over a cube of 4. Errors: of positions, relative of sizes, of opacities and degree-0
colours, of rotations in degrees, of degree-1 coefficients. Formats may put Gaussians in another order: each is compared with the nearest written one.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from harness.tables import Table
from scipy.spatial import cKDTree

from sparse3d.io.splats import SUFFIXES, read_splats, write_splats
from sparse3d.types import Gaussians


def scene(count: int) -> Gaussians:
    """Random ones."""
    g = torch.Generator().manual_seed(0)
    sh = 0.15 * torch.randn(count, 4, 3, generator=g)
    sh[:, 0] = (torch.rand(count, 3, generator=g) - 0.5) / 0.2821
    side = math.ceil(count ** (1 / 3))  # on a grid, a little off: none so near to another that it could be taken for it
    cells = torch.stack(torch.meshgrid(*[torch.arange(side)] * 3, indexing="ij"), dim=-1).reshape(-1, 3)[:count]
    return Gaussians(
        4 * (cells + 0.3 * torch.rand(count, 3, generator=g)) / side - 2,
        torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=1),
        2 * torch.rand(count, 3, generator=g) - 6,
        2 * torch.randn(count, generator=g),
        sh,
    )


def errors(got: Gaussians, want: Gaussians) -> list[str]:
    """Worst of each field."""
    _, index = cKDTree(want.means.numpy()).query(got.means.numpy())
    match = want[torch.from_numpy(np.asarray(index))]
    cosine = (torch.nn.functional.normalize(got.quats, dim=1) * match.quats).sum(1).abs().clamp(max=1).double()
    found = [
        float((got.means - match.means).norm(dim=1).max()),
        float((got.scales / match.scales - 1).abs().max()),
        float((got.opacities - match.opacities).abs().max()),
        float((got.sh[:, 0] - match.sh[:, 0]).abs().max()) * 0.2821,
        float(torch.rad2deg(2 * cosine.acos()).max()),
    ]
    rest = f"{float((got.sh[:, 1:] - match.sh[:, 1:]).abs().max()):.1g}" if got.sh_degree else "left out"
    return [*(f"{value:.1g}" for value in found), rest]


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--skip", nargs="*", default=[], choices=tuple(SUFFIXES), help="formats to leave out")
    options = parser.parse_args()
    made = scene(options.count)
    columns = ("format", "MB", "write s", "read s", "position", "size", "opacity", "colour", "rotation", "SH 1")
    table = Table(f"{options.count:,} Gaussians of SH degree 1", columns)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (suffix for suffix in SUFFIXES if suffix not in options.skip):
            path = Path(folder) / f"scene{suffix}"
            began = time.monotonic()
            write_splats(path, made)
            written = time.monotonic()
            back = read_splats(path)
            done = time.monotonic()
            size = path.stat().st_size / 1e6
            table.row(suffix, f"{size:.1f}", f"{written - began:.1f}", f"{done - written:.1f}", *errors(back, made))


if __name__ == "__main__":
    main()

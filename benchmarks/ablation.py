"""What each part of the optimizer's recipe is worth: all of it, and all of it but one.

    python benchmarks/ablation.py                                  # fern, fountain, fox, monstree; 3 views, 3 seeds
    python benchmarks/ablation.py fern --views 6 --seeds 1 --without dropout decay

Photos, cameras and first Gaussians are those of sparse.py with the set's own cameras, and the same in all rows. PSNR and SSIM are means over the test views,
then over the seeds; ± is the standard deviation over the seeds. The last columns are the change of the means over the scenes by what is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
from dataclasses import replace

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from harness.baselines import measured
from harness.photo_sets import fold_of, folder_of
from harness.sparse_run import Task, optimized, prepare, scores
from harness.tables import Table

from sparse3d.config import load_config

# Each part, and the settings that leave it out: 3DGS' own where it has them.
PARTS = {
    "dropout": ("optimize.dropout=0",),
    "decay": ("optimize.opacity_decay=1",),
    "guesses fade": ("optimize.guess_decay=1",),
    "slow opacities": ("optimize.opacities_lr=0.05",),
    "fast scales": ("optimize.scales_lr=5e-3",),
    "steps by depth": (
        "optimize.means_lr_unit=rig",
        "optimize.means_lr=1.6e-4",
        "optimize.means_lr_final=1.6e-6",
    ),
    "more D-SSIM": ("optimize.ssim_weight=0.2",),
    "half size first": ("optimize.coarse=0",),
    "mean background": ("optimize.background=black",),
    "harmonics of degree 1": ("optimize.sh_degree=0",),
}


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", default=["fern", "fountain", "fox", "monstree"])
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--size", type=int, default=504, help="longer side, pixels")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--without", nargs="+", choices=PARTS, default=list(PARTS), help="parts to leave out")
    options = parser.parse_args()

    title = f"{options.views} views, {options.size} px, balanced preset, {options.seeds} seeds"
    columns = ["left out", *options.scenes, "seconds", "change of PSNR", "change of SSIM"]
    recipe = measured(load_config("balanced"))
    tasks = []
    for name in options.scenes:
        task = Task(folder_of(name), fold_of(folder_of(name), options.views), options.size, recipe)
        tasks.append((task, prepare(task)))
    table = Table(f"{title}, {torch.get_num_threads()} threads", columns)
    whole: tuple[float, float] | None = None
    for part in ("-", *options.without):
        config = load_config("balanced", PARTS.get(part, ()))
        cells, seconds, psnrs, ssims = [], [], [], []
        for task, prepared in tasks:
            found = []
            for seed in range(options.seeds):
                one = replace(task, method=measured(replace(config, seed=seed)))
                made = optimized(one, prepared)
                found.append(scores(one, made))
                seconds.append(made.seconds["optimize"])
            psnr = [values["psnr"] for values in found]
            spread = f" ± {statistics.stdev(psnr):.2f}" if options.seeds > 1 else ""
            cells.append(f"{statistics.fmean(psnr):.2f}{spread}")
            psnrs += psnr
            ssims += [values["ssim"] for values in found]
        mean = statistics.fmean(psnrs), statistics.fmean(ssims)
        whole = whole or mean
        changes = (f"{mean[0] - whole[0]:+.2f}", f"{mean[1] - whole[1]:+.4f}")
        table.row(part, *cells, f"{statistics.fmean(seconds):.1f}", *changes)


if __name__ == "__main__":
    main()

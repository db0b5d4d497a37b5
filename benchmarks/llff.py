"""Few-view quality by the field's protocol: poses given, N training views, fixed test views.

    python benchmarks/llff.py fern --views 3 6
    python benchmarks/llff.py fern fountain fox --views 3 --set optimize.steps=2000 --seeds 3

A scene folder holds images/, a COLMAP model of all of them in sparse/0 and split.json with `test`, `train3`, `train6`, ... Cameras come from
the full model; sparse points are triangulated anew from the training views alone. Nothing of the test views is used. 1/8
resolution is 504 px (the originals are 4032 px). Rows are the mean over the test views, and over the seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from sparse3d.config import Config, load_config
from sparse3d.geometry import fitted_size
from sparse3d.init.initialize import initialize
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.metrics.lpips import Lpips
from sparse3d.metrics.protocol import evaluate_views, mean_scores
from sparse3d.optimize.loop import look_of, optimize
from sparse3d.pose.known import load_known
from sparse3d.pose.triangulate import triangulate
from sparse3d.progress import StageReporter
from sparse3d.render import choose, drawer, rasterizer
from sparse3d.types import Points, PosedViews

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SPARSE3D_DATA", ROOT.parent / "shared" / "data"))


FULL_SIZE = 1008  # longer side of the photos that points are triangulated from


def load(scene: Path, count: int, size: int, config: Config) -> tuple[PosedViews, PosedViews]:
    """Training views with points triangulated from them alone, and test views without any."""
    if not (scene / "split.json").is_file():
        raise SystemExit(
            f"no {scene / 'split.json'}: name a folder with images/, sparse/0 and split.json, or set SPARSE3D_DATA"
        )
    split = json.loads((scene / "split.json").read_text())
    photos = load_photos(find_photos([scene / "images"]), FULL_SIZE, warn=print)
    posed = load_known(scene / "sparse" / "0", photos, warn=print)
    full = posed.only(split[f"train{count}"])
    points = triangulate(full, config.pose, config.seed)
    small = [view.resized(*fitted_size(view.height, view.width, size)) for view in posed.views]
    chosen = {name: tuple(view for view in small if view.name in split[name]) for name in (f"train{count}", "test")}
    return PosedViews(chosen[f"train{count}"], points), PosedViews(chosen["test"], Points.none())


def measure(scene: Path, count: int, size: int, config: Config, output: Path | None) -> dict[str, float]:
    """Scores, seconds and Gaussians of one run."""
    loading = time.monotonic()
    training, test = load(scene, count, size, config)
    began = time.monotonic()
    start, _ = initialize(training, config.init, StageReporter("init"))
    initialized = time.monotonic()
    fitted = optimize(
        start,
        training.views,
        config.optimize,
        rasterizer(config.renderer),
        generator=torch.Generator().manual_seed(config.seed),
        progress=StageReporter("optimize"),
    )
    ended = time.monotonic()
    look = look_of(training.views, config.optimize)
    scores = mean_scores(evaluate_views(drawer(fitted, look, config.renderer), test.views, output, Lpips.find()))
    first = mean_scores(evaluate_views(drawer(start, look, config.renderer), test.views))
    return {
        **scores,
        "init psnr": first["psnr"],
        "load + points s": began - loading,
        "init s": initialized - began,
        "optimize s": ended - initialized,
        "gaussians": len(fitted),
    }


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="+", help=f"names below {DATA}, or folders")
    parser.add_argument("--views", type=int, nargs="+", default=[3])
    parser.add_argument("--size", type=int, default=504, help="longer side, pixels; 504 is 1/8")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--output", type=Path, help="folder for renders beside photos")
    arguments = parser.parse_args()
    print(f"renderer {choose('auto')}, {torch.get_num_threads()} threads, {os.cpu_count()} cores\n")
    header: list[str] = []
    for name in arguments.scenes:
        scene = Path(name) if Path(name).is_dir() else DATA / name
        for count in arguments.views:
            rows = []
            for seed in range(arguments.seeds):
                config = load_config(arguments.preset, [*arguments.settings, f"seed={seed}"])
                output = arguments.output / f"{scene.name}_{count}" if arguments.output else None
                rows.append(measure(scene, count, arguments.size, config, output))
            if not header:
                header = list(rows[0])
                print("| scene | views | " + " | ".join(header) + " |\n" + "|---" * (len(header) + 2) + "|")
            cells = []
            for key in header:
                values = [row[key] for row in rows]
                spread = (
                    f" ± {statistics.stdev(values):.2f}" if len(values) > 1 and key in ("psnr", "ssim", "lpips") else ""
                )
                mean = statistics.fmean(values)
                cells.append((f"{mean:.0f}" if mean > 1000 else f"{mean:.3f}" if mean < 1 else f"{mean:.2f}") + spread)
            print(f"| {scene.name} | {count} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

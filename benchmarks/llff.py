"""Few-view quality by the field's protocol: poses given, N training views, fixed test views.

    python benchmarks/llff.py fern --views 3 6
    python benchmarks/llff.py fern fountain fox --views 3 --set optimize.steps=2000 --seeds 3

A scene folder holds images/, a COLMAP model of all of them in sparse/0 and split.json with `test`, `train3`, `train6`, ... Cameras come from
the full model; sparse points are triangulated anew from the training views alone. Nothing of the test views is used. 1/8
resolution is 504 px (the originals are 4032 px). Rows are the mean over the test views, and over the seeds.

    python benchmarks/llff.py fern fountain --views 6 --perturb 0.3 1

`--perturb` turns every camera, those of the test views too, by so many degrees about a random axis, and makes the focal length
that much per cent too long: what structure from motion may err by. Test views are then also measured after their cameras are
aligned to the finished scene, and so are errors of the training cameras to the set's own, before and after.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from sparse3d.config import Config, load_config
from sparse3d.geometry import fitted_size, se3_exp
from sparse3d.init.initialize import initialize
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.metrics.lpips import Lpips
from sparse3d.metrics.pose import pose_errors
from sparse3d.metrics.protocol import evaluate_views, mean_scores
from sparse3d.optimize.align import aligner
from sparse3d.optimize.cameras import with_refined
from sparse3d.optimize.loop import look_of, optimize
from sparse3d.pose.known import load_known
from sparse3d.pose.triangulate import triangulate
from sparse3d.progress import StageReporter
from sparse3d.render import choose, drawer, rasterizer
from sparse3d.types import Points, PosedViews, View

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SPARSE3D_DATA", ROOT.parent / "shared" / "data"))


FULL_SIZE = 1008  # longer side of the photos that points are triangulated from


@dataclass(frozen=True)
class Perturbation:
    """What is done to the set's own cameras."""

    angle_deg: float
    focal_percent: float

    def __call__(self, views: tuple[View, ...], seed: int) -> tuple[View, ...]:
        """The views with their cameras turned and focal lengths changed, none of them in the same way for another seed."""
        generator = torch.Generator().manual_seed(1000 + seed)
        changed = []
        for view in views:
            axis = torch.nn.functional.normalize(torch.randn(3, generator=generator), dim=0)
            turn = se3_exp(torch.cat([axis * math.radians(self.angle_deg), torch.zeros(3)]))
            K = view.K.clone()
            K[:2, :2] *= 1 + self.focal_percent / 100
            changed.append(replace(view, c2w=view.c2w @ turn, K=K))
        return tuple(changed)


def load(
    scene: Path, count: int, size: int, config: Config, perturb: Perturbation | None = None
) -> tuple[PosedViews, PosedViews, tuple[View, ...]]:
    """Training views with points triangulated from them alone, test views without any, and the training views as they truly are."""
    if not (scene / "split.json").is_file():
        raise SystemExit(
            f"no {scene / 'split.json'}: name a folder with images/, sparse/0 and split.json, or set SPARSE3D_DATA"
        )
    split = json.loads((scene / "split.json").read_text())
    photos = load_photos(find_photos([scene / "images"]), FULL_SIZE, warn=print)
    posed = load_known(scene / "sparse" / "0", photos, warn=print)
    true = {view.name: view for view in posed.views}
    if perturb is not None:
        posed = replace(posed, views=perturb(posed.views, config.seed))
    full = posed.only(split[f"train{count}"])
    points = triangulate(full, config.pose, config.seed)
    small = [view.resized(*fitted_size(view.height, view.width, size)) for view in posed.views]
    chosen = {name: tuple(view for view in small if view.name in split[name]) for name in (f"train{count}", "test")}
    training = PosedViews(chosen[f"train{count}"], points)
    truth = tuple(true[v.name].resized(v.height, v.width) for v in training.views)
    return training, PosedViews(chosen["test"], Points.none()), truth


def camera_errors(views: tuple[View, ...], truth: tuple[View, ...]) -> dict[str, float]:
    """Mean rotation error in degrees and position error in per cent of the rig after alignment, focal error in per cent."""
    errors = pose_errors(*(torch.stack([view.c2w for view in some]).double() for some in (views, truth)))
    focal = [float(view.K[0, 0] / true.K[0, 0]) - 1 for view, true in zip(views, truth, strict=True)]
    return {
        "rotation deg": float(errors.rotation_deg.mean()),
        "position %": 100 * float(errors.position.mean()),
        "focal %": 100 * statistics.fmean(focal),
    }


def measure(
    scene: Path, count: int, size: int, config: Config, output: Path | None, perturb: Perturbation | None = None
) -> dict[str, float]:
    """Scores, seconds and Gaussians of one run."""
    loading = time.monotonic()
    training, test, truth = load(scene, count, size, config, perturb)
    began = time.monotonic()
    start = initialize(training, config.init, StageReporter("init")).gaussians
    initialized = time.monotonic()
    fit = optimize(
        start,
        training.views,
        config.optimize,
        rasterizer(config.renderer),
        generator=torch.Generator().manual_seed(config.seed),
        progress=StageReporter("optimize"),
        estimated=perturb is not None,
    )
    ended = time.monotonic()
    look = look_of(training.views, config.optimize)
    fitted, tested = fit.gaussians, with_refined(test.views, training.views, fit.views)
    align = None
    if perturb is not None:
        align = aligner(fitted, look, config.renderer)
    scores = mean_scores(evaluate_views(drawer(fitted, look, config.renderer), tested, output, Lpips.find(), align))
    if perturb is not None:
        before, after = (camera_errors(views, truth) for views in (training.views, fit.views))
        scores |= {f"{name} before": value for name, value in before.items()}
        scores |= {f"{name} after": value for name, value in after.items()}
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
    parser.add_argument(
        "--perturb",
        type=float,
        nargs=2,
        metavar=("DEG", "PERCENT"),
        help="errors of rotations and focal length; 0 0 for none",
    )
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--output", type=Path, help="folder for renders beside photos")
    arguments = parser.parse_args()
    perturb = Perturbation(*arguments.perturb) if arguments.perturb else None
    print(f"renderer {choose('auto')}, {torch.get_num_threads()} threads, {os.cpu_count()} cores\n")
    header: list[str] = []
    for name in arguments.scenes:
        scene = Path(name) if Path(name).is_dir() else DATA / name
        for count in arguments.views:
            rows = []
            for seed in range(arguments.seeds):
                config = load_config(arguments.preset, [*arguments.settings, f"seed={seed}"])
                output = arguments.output / f"{scene.name}_{count}" if arguments.output else None
                rows.append(measure(scene, count, arguments.size, config, output, perturb))
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

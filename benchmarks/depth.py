"""Depth maps against the truth, and what their Gaussians look like before any optimization.

    python benchmarks/depth.py room fern fountain fox apartment_walk redkitchen kitchen --views 3 6

Cameras are a set's own, sparse points triangulated from the training views alone, as in sparse.py; pictures are 504 px wide or
high. Truth are the points of the full model that a view sees; `room`, the photos of examples/, has exact depth at every pixel.

*sweep* is the cheapest depth at every pixel, *smoothed* the one after semi-global matching, *kept* what remains of that with the
default settings. A pixel without depth is never right. *two views* counts points that two of the training views see, and *complete*
is the share of the pixels which two of them see that have a depth. The second table draws the first Gaussians as they are, and says what
could be reached at most where views were matched.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from unittest.mock import patch

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from harness.depth_truth import MEASURES, Truth, from_depths, from_points, scores
from harness.photo_sets import DATA, fold_of, model_points, with_given_cameras
from harness.room import exact_depths, room
from torch import Tensor

from sparse3d.config import Config, load_config
from sparse3d.errors import UserError
from sparse3d.init import matching, planesweep
from sparse3d.init.depth_map import DepthMap
from sparse3d.init.initialization import Origin, Start
from sparse3d.init.initialize import initialize
from sparse3d.init.planesweep import estimate_depths
from sparse3d.metrics.image import psnr as image_psnr
from sparse3d.metrics.protocol import evaluate_views, mean_scores
from sparse3d.optimize.loop import look_of
from sparse3d.progress import StageReporter
from sparse3d.render import drawer
from sparse3d.types import Gaussians, PosedViews, View

SIZE = 504


def synthetic(count: int, config: Config) -> tuple[PosedViews, tuple[View, ...], list[Truth]]:
    """Training and test views of the example photos, with exact depth."""
    training, test = room(count, SIZE, config)
    return training, test, from_depths(training.views, exact_depths(training.views))


def real(name: str, count: int, config: Config) -> tuple[PosedViews, tuple[View, ...], list[Truth]]:
    """Training and test views of a photo set, with the points of its full model."""
    loaded = with_given_cameras(DATA / name, fold_of(DATA / name, count), SIZE, config)
    return loaded.training, loaded.test, from_points(loaded.training.views, model_points(DATA / name, SIZE))


def unsmoothed(costs: Tensor, *_: object) -> Tensor:
    """Stands in for semi-global matching."""
    return costs


def everywhere(views: PosedViews, config: Config) -> Sequence[DepthMap]:
    """Depth maps with the depth that the sweep chose at every pixel."""
    with patch.object(planesweep, "without_specks", lambda depth: depth):
        return estimate_depths(views, replace(config.init, min_confidence=0.0), StageReporter("init"))


def psnr(gaussians: Gaussians, training: PosedViews, test: tuple[View, ...], config: Config) -> float:
    """Mean over the test views of what the Gaussians look like as they are."""
    look = look_of(training.views, config.optimize)
    return mean_scores(evaluate_views(drawer(gaussians, look, config.renderer), test))["psnr"]


def ceiling(start: Start, training: PosedViews, test: tuple[View, ...], config: Config) -> float:
    """Mean PSNR over the test views if all that matched Gaussians cover were perfect, and the rest the photos' mean colour."""
    look = look_of(training.views, config.optimize)
    draw = drawer(start.gaussians[start.origin == Origin.MATCHED], look, config.renderer)
    total = 0.0
    for view in test:
        mean = torch.tensor(look.background)[:, None, None].expand_as(view.image)
        total += image_psnr(torch.where(draw(view.cameras).alpha[0] > 0.5, view.image, mean), view.image)
    return total / len(test)


def measure(name: str, count: int, config: Config) -> str:
    """Prints the rows of one set's depth maps, and returns the one of its first Gaussians."""
    training, test, truths = synthetic(count, config) if name == "room" else real(name, count, config)
    began = time.monotonic()
    found = initialize(training, config.init, StageReporter("init"))
    seconds = time.monotonic() - began
    with patch.object(matching.plane_sweep, "semi_global", unsmoothed):
        swept = everywhere(training, config)
    for row, maps in (("sweep", swept), ("smoothed", everywhere(training, config)), ("kept", found.maps)):
        measured = scores(maps, truths)
        cells = (f"{measured[key]:.2f}" if key.startswith("median") else f"{measured[key]:.1f}" for key in MEASURES)
        print(f"| {name} | {count} | {row} | {' | '.join(cells)} |", flush=True)
    starts = [found.gaussians]
    if len(training.points):
        sparse = replace(config.init, method="sfm")
        starts.append(initialize(training, sparse, StageReporter("init")).gaussians)
    images = [f"{psnr(start, training, test, config):.2f}" for start in starts] + ["–"] * (2 - len(starts))
    most = f"{ceiling(found.start, training, test, config):.2f}"
    return f"| {name} | {count} | {' | '.join(images)} | {most} | {len(found.gaussians):,} | {seconds:.1f} |"


def main() -> None:
    """Prints two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="+", help=f"room, or names below {DATA}")
    parser.add_argument("--views", type=int, nargs="+", default=[3])
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=C")
    arguments = parser.parse_args()
    config = load_config(arguments.preset, arguments.settings)
    pictures: list[str] = []
    print(f"| scene | views | depth | {' | '.join(MEASURES)} |\n" + "|---" * (3 + len(MEASURES)) + "|")
    for name in arguments.scenes:
        for count in arguments.views:
            try:
                pictures.append(measure(name, count, config))
            except UserError as problem:
                print(f"| {name} | {count} | {problem} |" + " |" * len(MEASURES), flush=True)
    print(
        "\n| scene | views | PSNR | PSNR of sparse points | if matched were perfect | Gaussians | seconds |\n"
        + "|---" * 7
        + "|"
    )
    print("\n".join(pictures))


if __name__ == "__main__":
    main()

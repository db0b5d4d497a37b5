"""How well views support the scene, and whether a camera that is wrong on purpose is named.

    python benchmarks/view_support.py fern fountain fox apartment_walk redkitchen monstree kitchen brighton --views 3 6
    python benchmarks/view_support.py fern fountain fox apartment_walk --views 6 --wrong turn5 turn20 swap copy shift

Cameras are a set's own, sparse points triangulated from the training views alone with the cameras as they are given; pictures are 504 px
wide or high. With `--wrong` each row is one view whose camera is turned by so many degrees about a random axis, has changed places with
the next view's, is a copy of it, or has moved by the mean distance of the cameras from their middle. Every view takes its turn; --only
takes some of them. *Named* are the views that count for less than 1: rightly those that are wrong.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import math

import torch
import torch.nn.functional as F
from harness.photo_sets import DATA, SETS, fitted, fold_of, in_order, true_views

from sparse3d.config import Config, load_config
from sparse3d.errors import UserError
from sparse3d.geometry import se3_exp
from sparse3d.init.planesweep import estimate_depths
from sparse3d.init.support import Support, support_of
from sparse3d.pose.triangulate import triangulate
from sparse3d.progress import StageReporter
from sparse3d.types import Points, PosedViews, View

SIZE = 504
Change = Callable[[list[View], int], set[int]]  # changes the list at and after an index, and returns what is wrong then


def turn(angle_deg: float) -> Change:
    """Turned in place, for each view about an axis of its own."""

    def change(views: list[View], index: int) -> set[int]:
        axis = F.normalize(torch.randn(3, generator=torch.Generator().manual_seed(index)), dim=0)
        turned = se3_exp(torch.cat([axis * math.radians(angle_deg), torch.zeros(3)]))
        views[index] = replace(views[index], c2w=views[index].c2w @ turned)
        return {index}

    return change


def swap(views: list[View], index: int) -> set[int]:
    """Has the next one's camera, and the next one has its."""
    after = (index + 1) % len(views)
    first, second = views[index], views[after]
    views[index], views[after] = replace(first, c2w=second.c2w), replace(second, c2w=first.c2w)
    return {index, after}


def copy(views: list[View], index: int) -> set[int]:
    """Has the next one's camera."""
    views[index] = replace(views[index], c2w=views[(index + 1) % len(views)].c2w)
    return {index}


def shift(views: list[View], index: int) -> set[int]:
    """Moved by the mean distance of the cameras from their middle."""
    centres = torch.stack([view.c2w[:3, 3] for view in views])
    axis = F.normalize(torch.randn(3, generator=torch.Generator().manual_seed(index)), dim=0)
    c2w = views[index].c2w.clone()
    c2w[:3, 3] += axis * (centres - centres.mean(dim=0)).norm(dim=1).mean()
    views[index] = replace(views[index], c2w=c2w)
    return {index}


WRONG: dict[str, Change] = {"turn5": turn(5.0), "turn20": turn(20.0), "swap": swap, "copy": copy, "shift": shift}


def measured(views: Sequence[View], config: Config) -> tuple[Support, float]:
    """Support of full-size views by their swept depth, and the seconds that it took by itself."""
    points = triangulate(PosedViews(tuple(views), Points.none()), config.pose, config.seed)
    maps = estimate_depths(PosedViews(fitted(views, SIZE), points), config.init, StageReporter("init"))
    began = time.process_time()
    return support_of(maps, config.init.consistency), time.process_time() - began


def row(name: str, count: int, case: str, wrong: set[int], views: Sequence[View], config: Config) -> str:
    """One line of the table; the problem in place of numbers where there is no depth to be had."""
    names = ", ".join(views[index].name for index in sorted(wrong)) or "–"
    try:
        support, seconds = measured(views, config)
    except UserError as problem:
        return f"| {name} | {count} | {case} | {names} | {problem} | | | |"
    named = {index for index, weight in enumerate(support.weights) if weight < 1}
    called = ", ".join(support.views[index].name for index in sorted(named)) or "–"
    shares = " ".join(
        f"{100 * view.twice:.0f}/{100 * view.disputed:.0f}/{100 * view.once:.0f}" for view in support.views
    )
    return f"| {name} | {count} | {case} | {names} | {called} | {shares} | {100 * support.once:.0f} % | {seconds:.2f} |"


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", default=SETS, help=f"names below {DATA}")
    parser.add_argument("--views", type=int, nargs="+", default=[3])
    parser.add_argument("--wrong", nargs="+", choices=WRONG, default=[], help="without: cameras as they are")
    parser.add_argument("--only", type=int, nargs="+", help="views whose camera is made wrong, from 0")
    parser.add_argument("--preset", default="balanced")
    arguments = parser.parse_args()
    config = load_config(arguments.preset)
    print("| scene | views | case | wrong | named | of each twice/disputed/once, % | once | seconds |")
    print("|---" * 8 + "|")
    for name in arguments.scenes:
        for count in arguments.views:
            fold = fold_of(DATA / name, count)
            views = in_order(true_views(DATA / name, replace(fold, held_out=())), fold.training)
            if not arguments.wrong:
                print(row(name, count, "true", set(), views, config), flush=True)
            for case in arguments.wrong:
                for index in range(count) if arguments.only is None else arguments.only:
                    changed = list(views)
                    wrong = WRONG[case](changed, index)
                    print(row(name, count, case, wrong, changed, config), flush=True)


if __name__ == "__main__":
    main()

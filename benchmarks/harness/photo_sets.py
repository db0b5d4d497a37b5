"""Photo sets with their own cameras: which photos are learned from, which are measured on, and how both are loaded.

A set is a folder with images/, a COLMAP model of all of them in sparse/0 and split.json with `test`, `train3`, `train6`, ...
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.camera_errors import Perturbation
from sparse3d.config import Config
from sparse3d.geometry import fitted_size
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.pose.known import load_known
from sparse3d.pose.triangulate import triangulate
from sparse3d.types import Points, PosedViews, View

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SPARSE3D_DATA", ROOT.parent / "shared" / "data"))
SETS = ("fern", "fox", "fountain", "apartment_walk", "redkitchen", "monstree", "kitchen", "brighton")
FULL_SIZE = 1008  # longer side of the photos that points are triangulated from


@dataclass(frozen=True)
class Fold:
    """Names of the photos that one scene is made from, and of those that it is measured on."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class PhotoSet:
    """A fold's photos with cameras, all in one frame and of the working size."""

    training: PosedViews  # with points that were triangulated from these views alone
    test: tuple[View, ...]
    truth: tuple[View, ...]  # the training views as they truly are, in the frame of the set's own model
    left_out: tuple[str, ...] = ()  # training photos for which no camera was found, each with the reason


def folder_of(name: str) -> Path:
    """A set by its name below DATA, or by its path."""
    return Path(name) if Path(name).is_dir() else DATA / name


def folds_of(scene: Path, count: int, leave_one_out: bool = False) -> list[Fold]:
    """The protocol's one fold of `count` training views, or as many as views that each leave out one of them.

    Leaving one out looks at the training views alone: it is what settings may be chosen by.

    Returns:
        The folds; none where the set has no such split, as those of few photos have no `train9`.

    Raises:
        SystemExit: there is no split.json.
    """
    if not (scene / "split.json").is_file():
        raise SystemExit(
            f"no {scene / 'split.json'}: name a folder with images/, sparse/0 and split.json, or set SPARSE3D_DATA"
        )
    split = json.loads((scene / "split.json").read_text(encoding="utf-8"))
    if f"train{count}" not in split:
        return []
    training = tuple(split[f"train{count}"])
    if not leave_one_out:
        return [Fold(training, tuple(split["test"]))]
    return [Fold(tuple(other for other in training if other != name), (name,)) for name in training]


def fold_of(scene: Path, count: int) -> Fold:
    """The protocol's fold of so many training views; SystemExit where the set has none."""
    folds = folds_of(scene, count)
    if not folds:
        raise SystemExit(f"{scene / 'split.json'} has no train{count}: choose another number of views")
    return folds[0]


def photo_files(scene: Path, names: Sequence[str]) -> list[Path]:
    """Files of some photos of a set, in order of their names."""
    return [scene / "images" / name for name in sorted(names)]


def true_views(scene: Path, fold: Fold) -> dict[str, View]:
    """The fold's photos with the cameras of the set's own model, at most FULL_SIZE long. No other photo is read.

    Raises:
        SystemExit: a photo has no camera there.
    """
    names = {*fold.training, *fold.held_out}
    photos = load_photos(photo_files(scene, sorted(names)), FULL_SIZE, strict=True, warn=print)
    # what it warns of is that the model names the photos that this fold has no use for
    views = load_known(scene / "sparse" / "0", photos, minimum=1, warn=lambda _: None).views
    found = {view.name: view for view in views}
    if set(found) != names:
        raise SystemExit(f"{scene / 'sparse' / '0'} has no camera for {', '.join(sorted(names - set(found)))}")
    return found


def model_points(scene: Path, size: int) -> Points:
    """All points of the set's own model, which every photo of the set took part in: for measuring only."""
    photos = load_photos(find_photos([scene / "images"]), size, warn=print)
    return load_known(scene / "sparse" / "0", photos, warn=print).points


def with_given_cameras(
    scene: Path, fold: Fold, size: int, config: Config, perturb: Perturbation | None = None
) -> PhotoSet:
    """The fold with the set's own cameras, or these with errors; points are triangulated with the ones that are handed on.

    Args:
        scene: Folder of the set.
        fold: Its photos.
        size: Longer side of the views, pixels.
        config: `pose` for triangulation, `seed`.
        perturb: What is done to all cameras, those of the test views too.
    """
    true = true_views(scene, fold)
    posed = true
    if perturb is not None:
        names = [file.name for file in find_photos([scene / "images"])]
        posed = {view.name: view for view in perturb(tuple(true.values()), names, config.seed)}
    full = PosedViews(in_order(posed, fold.training), Points.none())
    points = triangulate(full, config.pose, config.seed)
    return PhotoSet(
        PosedViews(fitted(full.views, size), points),
        fitted(in_order(posed, fold.held_out), size),
        fitted(in_order(true, fold.training), size),
    )


def in_order(views: dict[str, View], names: Sequence[str]) -> tuple[View, ...]:
    """The named views, sorted by name."""
    return tuple(views[name] for name in sorted(names))


def fitted(views: Sequence[View], size: int) -> tuple[View, ...]:
    """The views with their longer side at most `size` pixels."""
    return tuple(view.resized(*fitted_size(view.height, view.width, size)) for view in views)

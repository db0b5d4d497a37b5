"""One run of the few-view protocol: photos to a scene, and the scene measured on held-out photos."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from harness.baselines import Method
from harness.camera_errors import Perturbation, camera_errors
from harness.contact_sheet import Row, contact_sheet
from harness.estimated_cameras import with_estimated_cameras
from harness.memory import resident_mb
from harness.photo_sets import Fold, PhotoSet, with_given_cameras
from sparse3d.init.initialization import Origin, Start
from sparse3d.io.images import write_image
from sparse3d.metrics.lpips import Lpips
from sparse3d.metrics.protocol import ALIGNED, evaluate_views, mean_scores
from sparse3d.optimize.align import aligner
from sparse3d.optimize.cameras import with_refined
from sparse3d.optimize.loop import Fit, look_of, optimize
from sparse3d.progress import StageReporter
from sparse3d.render import drawer, rasterizer
from sparse3d.types import View


@dataclass(frozen=True)
class Task:
    """What one run is given."""

    scene: Path
    fold: Fold
    size: int  # longer side of the views, pixels
    method: Method
    estimated: bool = False  # cameras from the training photos alone
    perturb: Perturbation | None = None  # errors of given cameras
    sheet: Path | None = None  # file of the contact sheet

    @property
    def exact(self) -> bool:
        """Whether the cameras are the set's own."""
        return not self.estimated and self.perturb is None


@dataclass(frozen=True)
class Prepared:
    """What there is before the optimization."""

    photos: PhotoSet
    start: Start
    weights: tuple[float, ...] | None  # of the training views, where initialization judged them
    seconds: dict[str, float]  # of each stage


@dataclass(frozen=True)
class Reconstruction:
    """What came of the training photos."""

    photos: PhotoSet
    start: Start
    fit: Fit
    seconds: dict[str, float]  # of each stage


@dataclass(frozen=True)
class Measured:
    """What one run reports."""

    values: dict[str, float]
    left_out: tuple[str, ...]  # training photos without a camera, with reasons


def reconstruct(task: Task) -> Reconstruction:
    """The scene of the fold's training photos. The test photos are read here, but nothing looks at them."""
    return optimized(task, prepare(task))


def prepare(task: Task) -> Prepared:
    """Photos with cameras, and first Gaussians."""
    config = task.method.config
    began = time.monotonic()
    if task.estimated:
        photos = with_estimated_cameras(task.scene, task.fold, task.size, config)
    else:
        photos = with_given_cameras(task.scene, task.fold, task.size, config, task.perturb)
    loaded = time.monotonic()
    found = task.method.first(photos.training, config)
    seconds = {"load": loaded - began, "initialize": time.monotonic() - loaded}
    weights = None if found.support is None else found.support.weights
    return Prepared(photos, found.start, weights, seconds)


def optimized(task: Task, prepared: Prepared) -> Reconstruction:
    """The scene that comes of what is prepared."""
    config, start = task.method.config, prepared.start
    began = time.monotonic()
    fit = optimize(
        start.gaussians,
        prepared.photos.training.views,
        config.optimize,
        rasterizer(config.renderer),
        generator=torch.Generator().manual_seed(config.seed),
        progress=StageReporter("optimize"),
        estimated=not task.exact,
        guessed=start.origin == int(Origin.GUESSED),
        weights=prepared.weights,
    )
    seconds = prepared.seconds | {"optimize": time.monotonic() - began}
    return Reconstruction(prepared.photos, start, fit, seconds)


def measure(task: Task) -> Measured:
    """One run with its scores. The peak of memory is that of this process so far, so run it in a fresh one."""
    made = reconstruct(task)
    values = {f"{stage} s": seconds for stage, seconds in made.seconds.items()}
    values |= {"gaussians": float(len(made.fit.gaussians)), "peak MB": _peak_mb()}
    training = made.photos.training.views
    config = task.method.config
    look = look_of(training, config.optimize)
    if not task.exact:
        for when, views in (("before", training), ("after", made.fit.views)):
            values |= {f"{name} {when}": error for name, error in camera_errors(views, made.photos.truth).items()}
    before = evaluate_views(drawer(made.start.gaussians, look, config.renderer), made.photos.test)
    values["initial psnr"] = mean_scores(before)["psnr"]
    return Measured(values | scores(task, made), made.photos.left_out)


def scores(task: Task, made: Reconstruction) -> dict[str, float]:
    """Of the finished scene, from cameras as they are, and where they are not exact also from cameras aligned to it."""
    config = task.method.config
    look = look_of(made.photos.training.views, config.optimize)
    draw = drawer(made.fit.gaussians, look, config.renderer)
    test = with_refined(made.photos.test, made.photos.training.views, made.fit.views)
    best = test if task.exact else tuple(map(aligner(made.fit.gaussians, look, config.renderer), test))
    aligned = {view.name: view for view in best}
    align = None if task.exact else lambda view: aligned[view.name]
    results = evaluate_views(draw, test, lpips=Lpips.find(), align=align)
    if task.sheet is not None:
        renders = [draw(view.cameras).image[0].clamp(0, 1) for view in best]
        names = [_label(view, results[view.name]) for view in best]
        rows = [Row(*row) for row in zip(names, [view.image for view in best], renders, strict=True)]
        write_image(task.sheet, contact_sheet(rows))
    return mean_scores(results)


def _label(view: View, scores: dict[str, float]) -> str:
    psnr = ", ".join(f"{name} {scores[name]:.2f}" for name in ("psnr", "psnr" + ALIGNED) if name in scores)
    return f"{view.name}  {psnr}"


def _peak_mb() -> float:
    """nan where Linux does not tell."""
    return resident_mb("VmHWM") if Path("/proc/self/status").is_file() else math.nan


def with_seed(task: Task, seed: int) -> Task:
    """The same run with all its randomness drawn anew."""
    method = replace(task.method, config=replace(task.method.config, seed=seed))
    return replace(task, method=method)


def mean_values(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of each value over rows that all have it."""
    shared = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: math.fsum(row[name] for row in rows) / len(rows) for name in shared}

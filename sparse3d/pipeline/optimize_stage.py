"""The last stage: first Gaussians to a scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import torch

from sparse3d.config import Config, as_dict
from sparse3d.densify.weights import with_drawn, with_steps
from sparse3d.init.initialization import Origin, Start
from sparse3d.io.ply import read_gaussians, write_gaussians
from sparse3d.io.scene import SceneFolder, content_hash
from sparse3d.io.views import load_refined, save_refined
from sparse3d.optimize.cameras import with_refined
from sparse3d.optimize.loop import look_of, optimize
from sparse3d.pipeline.init_stage import view_weights
from sparse3d.pipeline.log import Log
from sparse3d.pipeline.regularizer import regularizer_of
from sparse3d.priors.names import regularizing
from sparse3d.render import choose, device_of, rasterizer
from sparse3d.types import Gaussians, PosedViews, View

OPTIMIZE = ("04_optimize", 7)  # raised when the same inputs give another result


def optimize_key(before: str, config: Config, refine: bool) -> str:
    """How often to save and which renderer draws do not change the scene that is meant."""
    settings = as_dict(config)["optimize"] | {"refine_cameras": refine}
    if config.densify.prior != "none":
        settings["share"] = config.densify.share
    settings.pop("checkpoint_interval")
    if config.regularize.kind != "none":
        settings["regularize"] = as_dict(config)["regularize"] | {
            name: getattr(regularizing(config), name) for name in ("prior", "weights", "prompt")
        }
    return content_hash(OPTIMIZE, before, settings, config.seed)


def optimize_stage(
    scene: SceneFolder,
    posed: PosedViews,
    training: PosedViews,
    drawn: tuple[View, ...],
    start: Start,
    config: Config,
    refine: bool,
    key: str,
    log: Log,
    on_step: Callable[[int, Gaussians], None] | None,
) -> tuple[Gaussians, PosedViews]:
    """The Gaussians, and all photographed views with the cameras that go with them. `drawn` are views that a prior drew."""
    progress = log.stage("optimize")
    stage = scene.stage_path(OPTIMIZE[0])
    if scene.is_done(OPTIMIZE[0], key):
        log.skipped(scene, OPTIMIZE[0], progress, "scene from an earlier run")
        return read_gaussians(stage / "scene.ply"), load_refined(stage, posed)
    checkpoint = scene.path / "stages" / "optimize.checkpoint"
    backend = choose(config.renderer)
    progress.note(f"renderer: {backend}")
    with scene.write_stage(OPTIMIZE[0], key) as (folder, facts):
        regularizer = regularizer_of(scene, training, posed.names, config, progress)
        photos = view_weights(scene, [view.name for view in training.views])
        fit = optimize(
            start.gaussians,
            (*training.views, *drawn),
            with_steps(config.optimize, len(drawn), config.densify.share),
            rasterizer(backend),
            generator=torch.Generator().manual_seed(config.seed),
            progress=progress,
            checkpoint=checkpoint,
            key=key,
            on_step=on_step,
            estimated=refine,
            guessed=start.origin == int(Origin.GUESSED),
            weights=with_drawn(photos, len(drawn), config.densify.share),
            device=device_of(backend),
            regularizer=regularizer,
        )
        write_gaussians(folder / "scene.ply", fit.gaussians)
        if refine:
            save_refined(folder, with_refined(posed.views, training.views, fit.views[: len(training.views)]))
        look = asdict(look_of(training.views, config.optimize))
        facts |= {"gaussians": len(fit.gaussians), "renderer": backend, "look": look, "cameras": fit.camera_changes}
        facts["regularizer"] = None if regularizer is None else regularizer.facts()
        facts["warnings"] = log.taken()
    checkpoint.unlink(missing_ok=True)
    moved = ""
    if (changes := fit.camera_changes) is not None:
        moved = f"; cameras turned by {changes['rotation_mean_deg']:.2f} degrees in the mean"
        if config.optimize.cameras_max_focal > 0:
            moved += f", focal length changed by {changes['focal_percent']:+.1f} %"
    progress.done(f"{len(fit.gaussians)} Gaussians{moved}")
    return read_gaussians(stage / "scene.ply"), load_refined(stage, posed)

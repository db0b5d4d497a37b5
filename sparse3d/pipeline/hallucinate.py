"""One photo to a scene folder like any other: lifted by its depth, grown outwards by a prior, optimized with the photo before all else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sparse3d import __version__
from sparse3d.config import Config, OptimizeConfig, as_dict
from sparse3d.errors import UserError
from sparse3d.init.initialization import Start
from sparse3d.io.scene import SceneFolder
from sparse3d.io.views import load_views
from sparse3d.lift.depth import DepthModel
from sparse3d.lift.grow import grow
from sparse3d.lift.photo import network_of
from sparse3d.pipeline.budget import affordable
from sparse3d.pipeline.densify_stage import DENSIFY, densify_key, facts_of, tell_drawn, write_drawn
from sparse3d.pipeline.finish import finish
from sparse3d.pipeline.init_stage import INIT, first_gaussians, write_start
from sparse3d.pipeline.lift_stage import LiftedPhoto, lift_key, lift_stages
from sparse3d.pipeline.log import Log, running
from sparse3d.pipeline.optimize_stage import OPTIMIZE, optimize_key, optimize_stage
from sparse3d.priors.names import load_prior, resolved
from sparse3d.progress import Reporter, silent
from sparse3d.render import rasterizer
from sparse3d.types import Points, PosedViews, View


def hallucinate(path: Path, output: Path, config: Config, *, report: Reporter = silent) -> dict[str, Any]:
    """A scene of one photo in a scene folder.

    Args:
        path: Of the photo.
        output: The scene folder; an earlier run of the same photo and settings is continued.
        config: `photos`, `lift`, `densify` for the prior, `optimize`, `seed`. "auto" is wan-vace where it can run, else classical.
        report: Told everything that happens.

    Returns:
        Number of `gaussians`, and `lift`: what scene.json says of depth, scale, reach, and what is invented.

    Raises:
        UserError: the photo, its depth map, the depth network or the prior cannot be used.
    """
    rasterizer(config.renderer)
    if not path.is_file():
        raise UserError(
            f"there is no photo {path}. Give one file with --single; a folder of photos is for sparse3d recon"
        )
    scene = SceneFolder.create(output)
    with running(scene, report) as log:
        config = affordable(scene, [path], config, log)
        scene.update({"sparse3d": __version__, "settings": as_dict(config)})
        network = network_of(config.lift)
        config = replace(
            config,
            densify=resolved(config.densify, otherwise="classical"),
            optimize=photo_alone(config.optimize, config.lift.steps),
        )
        key = lift_key(path, config)
        lifted = lift_stages(scene, path, network, config, key, log)
        if lifted.view.mask is not None and config.densify.prior != "none":
            log.stage("densify").note("the photo has a mask: nothing is drawn around what it shows")
            config = replace(config, densify=replace(config.densify, prior="none"))
        key = _grow_key(key, config)
        drawn, start = _grow_stage(scene, lifted, network, config, key, log)
        key = optimize_key(key, config, refine=False)
        posed = PosedViews((lifted.view,), Points.none())
        gaussians, posed = optimize_stage(scene, posed, posed, drawn, start, config, False, key, log, None)
        finish(scene, posed, gaussians, [], config, log)
    return {"gaussians": len(gaussians), "seconds": _seconds(scene), "lift": lifted.facts}


def photo_alone(config: OptimizeConfig, steps: int) -> OptimizeConfig:
    """Settings for a photo whose depth is told: nothing is there to be held up by other views, so nothing fades or is left out.

    Args:
        config: Of several photos.
        steps: That look at the photo.
    """
    return replace(
        config,
        steps=steps,
        opacity_decay=1.0,
        guess_decay=1.0,
        dropout=0.0,
        sh_degree=0,
        exposure="off",
        strategy="none",
    )


def _grow_key(before: str, config: Config) -> str:
    """Of what the drawn views depend on; `densify.views` and `densify.path` are not among it."""
    return densify_key(
        f"{before} {config.lift.views}", replace(config, densify=replace(config.densify, views=1, path=""))
    )


def _grow_stage(
    scene: SceneFolder, lifted: LiftedPhoto, network: DepthModel | None, config: Config, key: str, log: Log
) -> tuple[tuple[View, ...], Start]:
    """Drawn views that are kept, and the Gaussians to start from."""
    if config.densify.prior == "none":
        scene.remove_stage(DENSIFY[0])
        return (), lifted.start
    progress, stage = log.stage("densify"), scene.stage_path(DENSIFY[0])
    if scene.is_done(DENSIFY[0], key):
        log.skipped(scene, DENSIFY[0], progress, "drawn views from an earlier run")
    else:
        prior = load_prior(config.densify, progress.warning)
        with scene.write_stage(DENSIFY[0], key) as (folder, facts):
            made = grow(
                lifted.view,
                lifted.layers,
                lifted.start,
                prior,
                config,
                radius=lifted.facts["radius"],
                distance=lifted.facts["distance"],
                depth_of=network,
                progress=progress,
            )
            write_drawn(folder, made.densified)
            write_start(folder, made.start)
            tell_drawn(made.densified, progress)
            facts |= facts_of(made.densified, prior) | {"added": made.added, "warnings": log.taken()}
        progress.done(
            f"{len(made.densified.views)} of {len(made.densified.verdicts)} views kept, {made.added} Gaussians added"
        )
    return load_views(stage).views, first_gaussians(scene, stage)


def _seconds(scene: SceneFolder) -> dict[str, float]:
    return {name: scene.facts(name)["seconds"] for name in (INIT[0], DENSIFY[0], OPTIMIZE[0]) if scene.facts(name)}

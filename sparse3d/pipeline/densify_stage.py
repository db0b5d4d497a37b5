"""The third stage: views that a prior draws where no photo was taken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from sparse3d.config import Config, as_dict, update, with_assignments
from sparse3d.densify.accept import REPEATS
from sparse3d.densify.densify import Densified, Plan, densify, plan
from sparse3d.densify.known import Known
from sparse3d.errors import UserError
from sparse3d.init.initialization import Start
from sparse3d.io.images import read_depth
from sparse3d.io.nerfstudio import read_camera_path
from sparse3d.io.scene import MANIFEST, SceneFolder, content_hash, file_hash
from sparse3d.io.views import file_names, load_views, save_views
from sparse3d.pipeline.init_stage import INIT, first_gaussians, write_start
from sparse3d.pipeline.log import Log, running
from sparse3d.pipeline.pose_stage import POSE
from sparse3d.priors.base import PriorCaps, ViewPrior
from sparse3d.priors.names import NAMES, load_prior, resolved
from sparse3d.progress import Reporter, StageReporter, silent
from sparse3d.types import Points, PosedViews, View

DENSIFY = ("03_densify", 1)  # raised when the same inputs give another result


def densify_key(before: str, config: Config) -> str:
    """Of what the stage depends on; that of the stage before where nothing is drawn. How often drawn views are looked at is not its concern."""
    if config.densify.prior == "none":
        return before
    settings = as_dict(config)["densify"]
    for name in ("accept_license", "share"):
        settings.pop(name)
    path = Path(config.densify.path)
    keyframes = file_hash(path) if path.suffix == ".json" and path.is_file() else None
    return content_hash(DENSIFY, before, settings, keyframes, config.seed)


def densify_stage(
    scene: SceneFolder, training: PosedViews, names: list[str], config: Config, key: str, log: Log
) -> tuple[tuple[View, ...], Start]:
    """Drawn views that are kept, and the Gaussians to start from. `names` are those of all photographed views."""
    if config.densify.prior == "none":
        scene.remove_stage(DENSIFY[0])
        return (), first_gaussians(scene)
    progress = log.stage("densify")
    stage = scene.stage_path(DENSIFY[0])
    if scene.is_done(DENSIFY[0], key):
        log.skipped(scene, DENSIFY[0], progress, "drawn views from an earlier run")
    else:
        prior = load_prior(config.densify, progress.warning)
        known = known_of(scene, training, names)
        planned = plan_of(known, prior.caps, config)
        for text in planned.left_out:
            progress.warning(f"{text}: left out of the path")
        with scene.write_stage(DENSIFY[0], key) as (folder, facts):
            made = densify(training, known, planned, prior, config, progress)
            write_drawn(folder, made)
            facts |= facts_of(made, prior)
            tell_drawn(made, progress)
            facts["warnings"] = log.taken()
        progress.done(f"{len(made.views)} of {len(made.verdicts)} views kept")
    start = first_gaussians(scene, stage if (stage / "init.ply").is_file() else None)
    return load_views(stage).views, start


def densify_scene(
    path: Path, assignments: Sequence[str] = (), *, dry_run: bool = False, report: Reporter = silent
) -> dict[str, Any]:
    """The third stage alone, on a scene folder that has first Gaussians and depth. `recon` with the same settings goes on from there.

    Args:
        path: The scene folder.
        assignments: Settings other than those the scene was made with, as of `load_config`.
        dry_run: Plan only: draw nothing, write nothing.
        report: Told everything that happens.

    Returns:
        What scene.json says of the stage; of a dry run the plan: cameras, calls of the prior, memory, licence.

    Raises:
        UserError: no scene, one without first Gaussians, a wrong setting, no such prior, or no view that can be drawn.
    """
    scene = SceneFolder.open(path)
    with running(scene, report) as log:
        manifest = scene.manifest()
        if not scene.facts(INIT[0]) or not scene.stage_path(INIT[0]).is_dir():
            raise UserError(f"{path} has no first Gaussians and depth yet. Make them with: sparse3d init {path}")
        config = with_assignments(update(Config(), manifest["settings"], MANIFEST), assignments)
        config = replace(config, densify=resolved(config.densify, otherwise="classical"))
        if config.densify.prior == "none":
            raise UserError(f"say who draws the views with --prior: {', '.join(NAMES)}")
        posed = load_views(scene.stage_path(POSE[0]))
        held_out = set(manifest.get("held_out") or [])
        training = posed.only([name for name in posed.names if name not in held_out])
        if dry_run:
            prior = load_prior(config.densify, log.stage("densify").warning)
            return planned_facts(plan_of(known_of(scene, training, posed.names), prior.caps, config), prior.caps)
        densify_stage(scene, training, posed.names, config, densify_key(scene.facts(INIT[0])["key"], config), log)
        scene.update({"settings": as_dict(config)})
    return scene.facts(DENSIFY[0])


def planned_facts(planned: Plan, caps: PriorCaps) -> dict[str, Any]:
    """What a dry run tells."""
    return {
        "views": len(planned),
        "size": [planned.width, planned.height],
        "path": "one after the other" if planned.ordered else "the views that uncover most, one by one",
        "left_out": list(planned.left_out),
        "calls": planned.calls(caps),
        "prior": caps.name,
        "licence": caps.licence,
        "commercial": caps.commercial,
        "min_vram_gb": caps.min_vram_gb,
        "seconds_per_call": caps.seconds or None,
        "seconds_on": caps.seconds_on or None,
        "c2w": planned.c2w.tolist(),
    }


def known_of(scene: SceneFolder, training: PosedViews, names: list[str]) -> Known:
    """The photos with the depth that initialization found.

    Raises:
        UserError: it found none.
    """
    stems = file_names(names)
    folder = scene.stage_path(INIT[0]) / "depth"
    files = {view.name: folder / f"{stems[view.name]}.png" for view in training.views}
    views = [view for view in training.views if files[view.name].is_file()]
    try:
        return Known.of(views, [read_depth(files[view.name]) for view in views])
    except ValueError as error:
        raise UserError(
            "drawing views needs depth of the photos, and initialization found none: use --init auto or planesweep, not sfm, and photos "
            "that overlap by half or more"
        ) from error


def plan_of(known: Known, caps: PriorCaps, config: Config) -> Plan:
    """Where views are to be drawn, at the size of the photos' depth.

    Raises:
        UserError: no such path, or none of its cameras can be drawn.
    """
    size = (known.views[0].height, known.views[0].width)
    given = None
    if config.densify.path.endswith(".json"):
        given = read_camera_path(Path(config.densify.path)).cameras
    return plan(known, size, caps, config.densify, torch.Generator().manual_seed(config.seed), given)


def facts_of(made: Densified, prior: ViewPrior) -> dict[str, Any]:
    """What scene.json says: who drew which view, and what is thought of it."""
    views = {
        verdict.view.name: {
            "kept": not verdict.why_not,
            "agreement": round(verdict.agreement, 3),
            "new": round(verdict.new, 3),
            "why_not": verdict.why_not,
        }
        for verdict in made.verdicts
    }
    provenance = asdict(made.meta) | {"commercial": prior.caps.commercial, "verified": prior.caps.verified}
    return {"provenance": provenance, "views": views, "initialized_again": made.first is not None}


def write_drawn(folder: Path, made: Densified) -> None:
    """The views that are kept, who drew them, and first Gaussians where there are new ones."""
    save_views(folder, PosedViews(made.views, Points.none()))
    (folder / "provenance.json").write_text(json.dumps(asdict(made.meta), indent=1), encoding="utf-8")
    if made.first is not None:
        write_start(folder, made.first.start)


def tell_drawn(made: Densified, progress: StageReporter) -> None:
    """How many are kept, and why not the others."""
    wrong = [verdict for verdict in made.verdicts if verdict.why_not not in ("", REPEATS)]
    repeated = sum(verdict.why_not == REPEATS for verdict in made.verdicts)
    count = len(made.verdicts)
    if wrong:
        progress.warning(f"{len(wrong)} of {count} drawn views are left out; {wrong[0].view.name}: {wrong[0].why_not}")
    if repeated:
        progress.note(f"{repeated} of {count} drawn views are left out: they show nothing that the photos do not show")
    if not made.views:
        progress.note("no drawn view is kept: the scene is made of the photos alone")

"""The second stage: posed views to first Gaussians."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse3d.config import Config, as_dict, update, with_assignments
from sparse3d.errors import UserError
from sparse3d.init.initialization import Start
from sparse3d.init.initialize import initialize
from sparse3d.init.pictures import depth_facts, depth_picture
from sparse3d.init.support import support_facts
from sparse3d.io.images import write_depth, write_image
from sparse3d.io.ply import read_gaussians, write_gaussians
from sparse3d.io.publish import publish_cameras, publish_gaussians
from sparse3d.io.scene import MANIFEST, SceneFolder, content_hash
from sparse3d.io.views import file_names, load_views
from sparse3d.optimize.loop import look_of
from sparse3d.pipeline.log import Log, running
from sparse3d.pipeline.pose_stage import POSE
from sparse3d.progress import Reporter, silent
from sparse3d.types import PosedViews

INIT = ("02_init", 4)  # raised when the same inputs give another result


def init_key(scene: SceneFolder, config: Config, held_out: list[str]) -> str:
    """Of what the stage depends on. How many accept a licence changes nothing."""
    settings = as_dict(config)["init"]
    settings.pop("accept_license")
    return content_hash(INIT, scene.facts(POSE[0])["key"], settings, held_out, config.seed)


def first_gaussians(scene: SceneFolder, stage: Path | None = None) -> Start:
    """What the stage has written, or another one that made them anew. The scene must have done it."""
    stage = stage or scene.stage_path(INIT[0])
    return Start(read_gaussians(stage / "init.ply"), torch.from_numpy(np.load(stage / "origin.npy")))


def write_start(folder: Path, start: Start) -> None:
    """Writes what `first_gaussians` reads."""
    write_gaussians(folder / "init.ply", start.gaussians)
    buffer = io.BytesIO()  # on a full disk np.save says how many numbers it wrote instead
    np.save(buffer, start.origin.numpy())
    (folder / "origin.npy").write_bytes(buffer.getbuffer())


def init_stage(scene: SceneFolder, training: PosedViews, names: list[str], config: Config, key: str, log: Log) -> None:
    """Writes first Gaussians and depth of the training views; `names` are those of all views."""
    progress = log.stage("init")
    if scene.is_done(INIT[0], key):
        log.skipped(scene, INIT[0], progress, "first Gaussians from an earlier run")
        return
    with scene.write_stage(INIT[0], key) as (folder, facts):
        found = initialize(training, config.init, progress, torch.Generator().manual_seed(config.seed))
        progress.note(f"initializer: {found.method} ({found.why})")
        for text in found.notes:
            progress.warning(text)
        write_start(folder, found.start)
        stems = file_names(names)
        for depth_map in found.maps:
            stem = stems[depth_map.view.name]
            write_depth(folder / "depth" / f"{stem}.png", depth_map.depth)
            write_image(folder / "pictures" / f"{stem}.jpg", depth_picture(depth_map))
        look = asdict(look_of(training.views, config.optimize))
        facts |= {"look": look, "gaussians": len(found.gaussians), "initializer": found.method, "why": found.why}
        facts["depth"] = {found_map.view.name: depth_facts(found_map) for found_map in found.maps}
        facts["support"] = None if found.support is None else support_facts(found.support)
        facts["warnings"] = log.taken()
    progress.done(f"{len(found.gaussians)} Gaussians")


def view_weights(scene: SceneFolder, names: Sequence[str]) -> tuple[float, ...]:
    """How much each of the named views should count, as the finished stage found: 1 unless its camera contradicts the others.

    Views that the stage knows nothing of, as all of them where it looked for no depth, have 1.
    """
    support = scene.facts(INIT[0]).get("support") or {"views": {}}
    return tuple(float(support["views"].get(name, {"weight": 1.0})["weight"]) for name in names)


def find_gaussians(path: Path, assignments: Sequence[str] = (), *, report: Reporter = silent) -> dict[str, Any]:
    """The second stage alone, on a scene folder whose photos have cameras: first Gaussians into `scene.ply`, depth into `depth/`.

    `recon` with the same settings goes on from there.

    Args:
        path: The scene folder.
        assignments: Settings other than those the scene was made with, as of `load_config`.
        report: Told everything that happens.

    Returns:
        What scene.json says of the stage.

    Raises:
        UserError: no scene, one without cameras, a wrong setting, or views that the initializer cannot take.
    """
    scene = SceneFolder.open(path)
    with running(scene, report) as log:
        manifest = scene.manifest()
        if not scene.facts(POSE[0]) or not scene.stage_path(POSE[0]).is_dir():
            raise UserError(f"{path} has no cameras yet. Find them with: sparse3d pose PHOTOS -o {path}")
        config = with_assignments(update(Config(), manifest["settings"], MANIFEST), assignments)
        posed = load_views(scene.stage_path(POSE[0]))
        names = manifest.get("held_out") or []
        training = posed.only([name for name in posed.names if name not in set(names)])
        init_stage(scene, training, posed.names, config, init_key(scene, config, names), log)
        scene.update({"settings": as_dict(config), "published": None, "scores": None})
        publish_gaussians(scene, read_gaussians(scene.stage_path(INIT[0]) / "init.ply"))
        publish_cameras(scene, posed)
        scene.update({"published": scene.keys(), "shown": INIT[0]})
    return scene.facts(INIT[0])

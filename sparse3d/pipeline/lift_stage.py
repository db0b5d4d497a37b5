"""One photo to a scene folder like any other: its camera and its depth in place of poses, its layers as first Gaussians."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse3d import __version__
from sparse3d.config import Config, as_dict
from sparse3d.init.depth_map import DepthMap
from sparse3d.init.initialization import Origin, Start
from sparse3d.init.pictures import depth_facts, depth_picture
from sparse3d.io.images import write_depth, write_image
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.io.ply import write_gaussians
from sparse3d.io.publish import publish_cameras, publish_gaussians
from sparse3d.io.scene import SceneFolder, content_hash, file_hash
from sparse3d.io.views import file_names, save_views
from sparse3d.lift.depth import PhotoDepth
from sparse3d.lift.layers import SHELL, Layers, layers, lifted
from sparse3d.lift.photo import check_photo, depth_and_camera
from sparse3d.models import store
from sparse3d.optimize.loop import look_of
from sparse3d.pipeline.init_stage import INIT, first_gaussians
from sparse3d.pipeline.inputs import given_intrinsics, identity
from sparse3d.pipeline.log import Log
from sparse3d.pipeline.pose_stage import POSE
from sparse3d.progress import Reporter, silent
from sparse3d.types import Points, PosedViews, View

_LIFT = ("lift", 1)  # raised when the same photo gives another result
_TRAVEL = 0.3  # shares of the median depth that cameras may move
_TRAVEL_APPROXIMATE = 0.1
_NEAR = 0.01  # of the median depth: Gaussians nearer than this are not drawn


def lift_photo(path: Path, output: Path, config: Config, *, report: Reporter = silent) -> dict[str, Any]:
    """A scene of one photo in a scene folder.

    Args:
        path: Of the photo.
        output: The scene folder; where it holds the same photo's with the same settings nothing is done.
        config: `photos`, `lift`, `optimize.background`.
        report: Told everything that happens.

    Returns:
        What scene.json says of it: `lift` in the facts of the second stage.

    Raises:
        UserError: the photo, its depth map or the depth network cannot be used.
    """
    scene, log = SceneFolder.create(output), Log(report)
    with scene.locked():
        scene.update({"sparse3d": __version__, "settings": as_dict(config)})
        progress = log.stage("lift")
        settings = as_dict(config)
        given = file_hash(Path(config.lift.depth)) if Path(config.lift.depth).is_file() else None
        network = str(store.path("depth-anything-v2-small")) if config.lift.depth_model == "auto" else None
        key = content_hash(_LIFT, identity(path), settings["photos"], settings["lift"], given, network)
        if scene.is_done(POSE[0], key) and scene.is_done(INIT[0], key):
            log.skipped(scene, INIT[0], progress, "the scene of an earlier run")
            return scene.facts(INIT[0])
        with scene.write_stage(POSE[0], key) as (folder, facts):
            (photo,) = load_photos(
                find_photos([path]),
                config.photos.max_size,
                strict=True,
                intrinsics=given_intrinsics(config),
                warn=progress.warning,
            )
            check_photo(photo)
            found, K, source = depth_and_camera(photo, config.lift, progress.warning)
            view = View(photo.name, photo.image, K, torch.eye(4), photo.mask)
            save_views(folder, PosedViews((view,), Points.none()))
            facts |= {"photos": [identity(path)], "photos_found": 1, "warnings": log.taken()}
        progress.note(f"depth: {found.source}; focal length: {source}")
        with scene.write_stage(INIT[0], key) as (folder, facts):
            travel = config.lift.travel or (_TRAVEL_APPROXIMATE if found.approximate else _TRAVEL)
            facts |= _write(folder, view, found, travel, source, config)
            facts["warnings"] = log.taken()
        scene.update({"published": None, "held_out": [], "scores": None})
        publish_gaussians(scene, first_gaussians(scene).gaussians)
        publish_cameras(scene, PosedViews((view,), Points.none()))
        scene.update({"published": scene.keys(), "shown": INIT[0]})
        progress.done(f"{facts['gaussians']} Gaussians")
    return scene.facts(INIT[0])


def _write(folder: Path, view: View, found: PhotoDepth, share: float, source: str, config: Config) -> dict[str, Any]:
    """Gaussians and depth of the photo; the stage's facts."""
    finite = found.depth[found.depth.isfinite()]
    median = float(finite.median()) if len(finite) else 1.0
    made = layers(view, found.depth, share * median)
    if view.mask is not None:
        made = _masked(made, view.mask)
    start: Start = lifted(view, made)
    write_gaussians(folder / "init.ply", start.gaussians)
    np.save(folder / "origin.npy", start.origin.numpy())
    stem = file_names([view.name])[view.name]
    known = made.front > 0
    nowhere = torch.zeros_like(known)
    shown = DepthMap(
        view, made.front, known.float() * (0.5 if found.approximate else 1.0), nowhere.long(), nowhere, SHELL * median
    )
    write_depth(folder / "depth" / f"{stem}.png", made.front)
    write_image(folder / "pictures" / f"{stem}.jpg", depth_picture(shown))
    look = replace(look_of((view,), config.optimize), near_plane=_NEAR * median)
    return {
        "look": asdict(look),
        "gaussians": len(start),
        "initializer": "lift",
        "why": "one photo",
        "depth": {view.name: depth_facts(shown)},
        "support": None,
        "lift": {
            "depth": found.source,
            "licence": found.licence,
            "metric": found.metric,
            "approximate": found.approximate,
            "intrinsics": source,
            "radius": share * median,
            "unit": "metres" if found.metric else "median depth of the photo is 1",
            "invented": round(float((start.origin == int(Origin.FILLED)).float().mean()), 4),
            "sky": round(float((made.sky > 0).float().mean()), 4),
        },
    }


def _masked(made: Layers, mask: torch.Tensor) -> Layers:
    """Without what the mask leaves out."""
    return replace(made, **{name: torch.where(mask, getattr(made, name), 0.0) for name in ("front", "behind", "sky")})

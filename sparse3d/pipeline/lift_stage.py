"""One photo in place of poses and first Gaussians: its camera and its depth, its layers as Gaussians."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse3d.config import Config, as_dict
from sparse3d.init.depth_map import DepthMap
from sparse3d.init.initialization import Start
from sparse3d.init.pictures import depth_facts, depth_picture
from sparse3d.io.images import write_depth, write_image
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.io.scene import SceneFolder, content_hash, file_hash
from sparse3d.io.views import file_names, load_views, save_views
from sparse3d.lift.depth import DepthModel, PhotoDepth
from sparse3d.lift.grow import unseen
from sparse3d.lift.layers import SHELL, Layers, layers, lifted
from sparse3d.lift.photo import NETWORK, check_photo, depth_and_camera
from sparse3d.models import store
from sparse3d.optimize.loop import look_of
from sparse3d.pipeline.init_stage import INIT, first_gaussians, write_start
from sparse3d.pipeline.inputs import given_intrinsics, identity
from sparse3d.pipeline.log import Log
from sparse3d.pipeline.pose_stage import POSE
from sparse3d.types import Points, PosedViews, View

_LIFT = ("lift", 2)  # raised when the same photo gives another result
_TRAVEL = 0.3  # shares of the median depth that cameras may move
_TRAVEL_APPROXIMATE = 0.1


@dataclass(frozen=True)
class LiftedPhoto:
    """What the stages before hand on."""

    view: View
    layers: Layers
    start: Start
    facts: dict[str, Any]  # `lift` of the second stage


def lift_key(path: Path, config: Config) -> str:
    """Of what both stages depend on."""
    settings = as_dict(config)
    lift = settings["lift"]
    for later in ("views", "steps"):
        lift.pop(later)
    given = file_hash(Path(config.lift.depth)) if Path(config.lift.depth).is_file() else None
    network = str(store.path(NETWORK)) if config.lift.depth_model == "auto" else None
    return content_hash(_LIFT, identity(path), settings["photos"], lift, given, network)


def lift_stages(
    scene: SceneFolder, path: Path, network: DepthModel | None, config: Config, key: str, log: Log
) -> LiftedPhoto:
    """The photo with its camera, its layers and their Gaussians.

    Raises:
        UserError: the photo or its depth map cannot be used.
    """
    progress = log.stage("lift")
    if scene.is_done(POSE[0], key) and scene.is_done(INIT[0], key):
        log.skipped(scene, INIT[0], progress, "layers from an earlier run")
    else:
        with scene.write_stage(POSE[0], key) as (folder, facts):
            (photo,) = load_photos(
                find_photos([path]),
                config.photos.max_size,
                strict=True,
                intrinsics=given_intrinsics(config),
                warn=progress.warning,
            )
            check_photo(photo)
            found, K, source = depth_and_camera(photo, config.lift, network, progress.warning)
            view = View(photo.name, photo.image, K, torch.eye(4), photo.mask)
            save_views(folder, PosedViews((view,), Points.none()))
            facts |= {"photos": [identity(path)], "photos_found": 1, "warnings": log.taken()}
        progress.note(f"depth: {found.source}; focal length: {source}")
        with scene.write_stage(INIT[0], key) as (folder, facts):
            travel = config.lift.travel or (_TRAVEL_APPROXIMATE if found.approximate else _TRAVEL)
            facts |= _write(folder, view, found, travel, source, config)
            facts["warnings"] = log.taken()
        progress.done(f"{facts['gaussians']} Gaussians")
    (view,) = load_views(scene.stage_path(POSE[0])).views
    return LiftedPhoto(view, _read(scene.stage_path(INIT[0])), first_gaussians(scene), scene.facts(INIT[0])["lift"])


def _write(folder: Path, view: View, found: PhotoDepth, share: float, source: str, config: Config) -> dict[str, Any]:
    """Gaussians, layers and depth of the photo; the stage's facts."""
    finite = found.depth[found.depth.isfinite()]
    median = float(finite.median()) if len(finite) else 1.0
    made = layers(view, found.depth, share * median)
    if view.mask is not None:
        made = _masked(made, view.mask)
    start = lifted(view, made, config.lift.stride)
    write_start(folder, start)
    np.savez(folder / "layers.npz", **{name: values.numpy() for name, values in vars(made).items()})
    stem = file_names([view.name])[view.name]
    known = made.front > 0
    nowhere = torch.zeros_like(known)
    sure = known.float() * (0.5 if found.approximate else 1.0)
    shown = DepthMap(view, made.front, sure, nowhere.long(), nowhere, SHELL * median)
    write_depth(folder / "depth" / f"{stem}.png", made.front)
    write_image(folder / "pictures" / f"{stem}.jpg", depth_picture(shown))
    return {
        "look": asdict(look_of((view,), config.optimize)),
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
            "distance": median,
            "radius": share * median,
            "unit": "metres" if found.metric else "median depth of the photo is 1",
            "invented": round(unseen(view, made, share * median, median), 4),
            "sky": round(float((made.sky > 0).float().mean()), 4),
        },
    }


def _read(folder: Path) -> Layers:
    with np.load(folder / "layers.npz") as stored:
        return Layers(**{name: torch.from_numpy(stored[name]) for name in stored.files})


def _masked(made: Layers, mask: torch.Tensor) -> Layers:
    """Without what the mask leaves out."""
    return replace(made, **{name: torch.where(mask, getattr(made, name), 0.0) for name in ("front", "behind", "sky")})

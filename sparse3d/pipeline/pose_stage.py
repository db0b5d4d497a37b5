"""The first stage: photos to posed views."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse3d import __version__
from sparse3d.config import Config, as_dict
from sparse3d.io.cameras import camera_files
from sparse3d.io.images import write_image
from sparse3d.io.publish import publish_cameras
from sparse3d.io.scene import MANIFEST, SceneFolder, content_hash, file_hash
from sparse3d.io.views import load_views, save_views
from sparse3d.pipeline.budget import affordable
from sparse3d.pipeline.inputs import checked, identity, read_photos
from sparse3d.pipeline.log import Log, running
from sparse3d.pose.estimate import estimate_poses
from sparse3d.pose.report import matrix_picture
from sparse3d.progress import Reporter, silent
from sparse3d.types import PosedViews

POSE = ("01_pose", 2)  # raised when the same inputs give another result; older scenes then redo it and what follows


def find_poses(
    inputs: Sequence[Path],
    output: Path,
    config: Config,
    *,
    poses: Path | None = None,
    strict: bool = False,
    report: Reporter = silent,
) -> tuple[PosedViews, dict[str, Any] | None]:
    """The first stage alone: cameras of photos, in the scene folder and as COLMAP model and transforms.json there.

    `recon` with the same photos and settings goes on from there. Arguments and errors as of `recon`.

    Returns:
        The views, and what happened to each photo (`pose.report.PoseReport` as JSON); None where cameras were given.
    """
    paths = checked(inputs, config, poses)
    scene = SceneFolder.create(output)
    with running(scene, report) as log:
        config = affordable(scene, paths, config, log)
        scene.update({"sparse3d": __version__, "settings": as_dict(config)})
        posed = pose_stage(scene, paths, config, poses, strict, log)
        scene.update({"published": None})
        publish_cameras(scene, posed)
    return posed, pose_report(scene)


def pose_report(scene: SceneFolder) -> dict[str, Any] | None:
    """What pose estimation said of each photo; None where cameras were given."""
    path = scene.stage_path(POSE[0]) / "poses.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def pose_stage(
    scene: SceneFolder, paths: Sequence[Path], config: Config, known: Path | None, strict: bool, log: Log
) -> PosedViews:
    """Cameras of photos, from an earlier run with the same photos and settings where there is one.

    Args:
        scene: Where the stage's output goes.
        paths: Of photos, or of one video.
        config: Settings of photos and poses, and the seed.
        known: Cameras that the user gives.
        strict: Stop at an unreadable photo or a missing camera instead of going on without it.
        log: Told everything that happens.

    Raises:
        UserError: as of `find_poses`.
    """
    progress = log.stage("pose")
    files = [identity(path) for path in paths]
    settings = as_dict(config)
    cameras = None if known is None else _cameras_hash(known)
    key = content_hash(POSE, files, settings["photos"], settings["pose"], cameras, strict, config.seed)
    if scene.is_done(POSE[0], key):
        posed = load_views(scene.stage_path(POSE[0]))
        log.skipped(scene, POSE[0], progress, f"{len(posed.views)} views from an earlier run")
        return posed
    with scene.write_stage(POSE[0], key) as (folder, facts):
        photos = read_photos(paths, folder / "frames", config, strict, log)
        found = estimate_poses(
            photos,
            config.pose,
            known=known,
            max_size=config.photos.max_size,
            strict=strict,
            seed=config.seed,
            progress=progress,
        )
        posed = found.views
        save_views(folder, posed)
        if found.report is not None:
            (folder / "poses.json").write_text(json.dumps(found.report.as_dict(), indent=1), encoding="utf-8")
            write_image(folder / "matches.png", matrix_picture(found.report))
        facts |= {"photos": files, "photos_found": len(photos), "warnings": log.taken()}
    progress.done(f"{len(posed.views)} of {len(photos)} photos placed, {len(posed.points)} points")
    return load_views(scene.stage_path(POSE[0]))


def _cameras_hash(known: Path) -> str:
    """Of the files that say where the cameras are, so that an edited one is noticed."""
    if (known / MANIFEST).is_file():
        return content_hash(SceneFolder.open(known).facts(POSE[0]).get("key"))
    return content_hash([(file.name, file_hash(file)) for file in camera_files(known)])

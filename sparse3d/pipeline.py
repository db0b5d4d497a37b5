"""Photos to scene: the stages in order, each skipped when its inputs and settings are those of an earlier run.

Every stage reads what the one before it wrote to disk, so that a resumed run and an uninterrupted one are the same.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse3d import __version__
from sparse3d.config import Config, as_dict
from sparse3d.errors import UserError
from sparse3d.init.initialize import initialize
from sparse3d.init.pictures import depth_facts, depth_picture
from sparse3d.io.cameras import camera_files
from sparse3d.io.images import write_depth, write_image
from sparse3d.io.intrinsics import parse_intrinsics
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.io.ply import read_gaussians, write_gaussians
from sparse3d.io.publish import publish_cameras, publish_gaussians
from sparse3d.io.scene import MANIFEST, SceneFolder, content_hash, file_hash
from sparse3d.io.video import VIDEO_SUFFIXES, extract_frames
from sparse3d.io.views import file_names, load_refined, load_views, save_refined, save_views
from sparse3d.metrics.lpips import HOW_TO_GET, Lpips
from sparse3d.metrics.protocol import Scores, evaluate_views, mean_scores
from sparse3d.optimize.align import aligner
from sparse3d.optimize.cameras import refines_cameras, with_refined
from sparse3d.optimize.loop import look_of, optimize
from sparse3d.pose.estimate import estimate_poses
from sparse3d.pose.report import matrix_picture
from sparse3d.progress import Event, Reporter, StageReporter, silent
from sparse3d.render import Look, choose, drawer, rasterizer
from sparse3d.report import write_report
from sparse3d.types import Gaussians, Photo, PosedViews

# Raised when a stage gives another result from the same inputs; older scenes then redo it and what follows.
POSE, INIT, OPTIMIZE = ("01_pose", 2), ("02_init", 2), ("04_optimize", 3)


@dataclass(frozen=True)
class Result:
    """What a run made."""

    scene: Path
    photos: int  # found
    registered: int  # given a camera
    gaussians: int
    seconds: dict[str, float]  # of each stage, as measured when it ran
    scores: dict[str, float] | None  # means over held-out views; None when none were held out
    warnings: tuple[str, ...]


def held_out(names: Sequence[str], every: int) -> list[str]:
    """Every so-manieth of the sorted names, starting with the first (the LLFF protocol); none for 0."""
    return sorted(names)[::every] if every > 0 else []


def recon(
    inputs: Sequence[Path],
    output: Path,
    config: Config,
    *,
    poses: Path | None = None,
    holdout: int = 0,
    strict: bool = False,
    report: Reporter = silent,
    on_step: Callable[[int, Gaussians], None] | None = None,
) -> Result:
    """Reconstructs a scene from photos into a scene folder.

    Args:
        inputs: A folder, photos, or one video.
        output: The scene folder; an earlier run of the same inputs and settings is continued.
        config: All settings.
        poses: Known cameras: a file or folder that `io.cameras` reads, or a scene folder.
        holdout: Keep every so-manieth photo out of initialization and optimization, and measure on it. 0: none.
        strict: Stop at an unreadable photo or a missing camera instead of going on without it.
        report: Told everything that happens.
        on_step: Called after each optimization step; for a live view.

    Raises:
        UserError: something the user can put right. What was finished stays.
    """
    paths = _checked(inputs, config, poses)
    rasterizer(config.renderer)  # a renderer that cannot run should be known before the long stages
    scene = SceneFolder.create(output)
    log = _Log(report)
    with scene.locked():
        scene.update({"sparse3d": __version__, "settings": as_dict(config)})
        posed = _pose_stage(scene, paths, config, poses, strict, log)
        names = held_out(posed.names, holdout)
        training = posed.only([name for name in posed.names if name not in set(names)])
        if len(training.views) < 2:
            raise UserError(
                f"--holdout {holdout} leaves {len(training.views)} of {len(posed.views)} views to learn from, needed 2 or more"
            )
        init_key = content_hash(INIT, scene.facts(POSE[0])["key"], as_dict(config)["init"], names)
        _init_stage(scene, training, posed.names, config, init_key, log)
        refine = refines_cameras(config.optimize, estimated=poses is None)
        optimize_key = _optimize_key(init_key, config, refine)
        gaussians, posed = _optimize_stage(scene, posed, training, config, refine, optimize_key, log, on_step)
        scores = _finish(scene, posed, gaussians, names, config, log)
        stages = scene.manifest()["stages"]
    return Result(
        scene.path,
        stages[POSE[0]]["photos_found"],
        len(posed.views),
        len(gaussians),
        {name: stage["seconds"] for name, stage in stages.items()},
        scores,
        tuple(warning for stage in stages.values() for warning in stage["warnings"]),
    )


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
    paths = _checked(inputs, config, poses)
    scene = SceneFolder.create(output)
    log = _Log(report)
    with scene.locked():
        scene.update({"sparse3d": __version__, "settings": as_dict(config)})
        posed = _pose_stage(scene, paths, config, poses, strict, log)
        scene.update({"published": None})
        publish_cameras(scene, posed)
    return posed, pose_report(scene)


def pose_report(scene: SceneFolder) -> dict[str, Any] | None:
    """What pose estimation said of each photo; None where cameras were given."""
    path = scene.stage_path(POSE[0]) / "poses.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _checked(inputs: Sequence[Path], config: Config, poses: Path | None) -> list[Path]:
    """The files to read, when inputs and settings go together."""
    paths = list(inputs) if _is_video(inputs) else find_photos(inputs)
    if _is_video(inputs) and not inputs[0].is_file():
        raise UserError(f"there is no video {inputs[0]}")
    if len(paths) == 1 and not _is_video(inputs):
        raise UserError(
            f"recon needs at least 2 photos of one scene, found 1: {paths[0].name}. Add photos that overlap it by half or more; a "
            f"scene from a single photo is the job of `sparse3d hallucinate --single {paths[0].name}`, which this version does not have yet"
        )
    if config.photos.intrinsics:
        parse_intrinsics(config.photos.intrinsics)
        if poses is not None:
            raise UserError(
                f"--intrinsics {config.photos.intrinsics} and --poses {poses} both say how the photos were taken: the cameras of "
                "--poses have their own intrinsics. Leave out one of the two"
            )
    return paths


class _Log:
    """Passes events on and keeps the warnings of each stage, which belong into the scene too."""

    def __init__(self, report: Reporter) -> None:
        self.report = report
        self.warnings: list[str] = []

    def __call__(self, event: Event) -> None:
        if event.kind == "warning":
            self.warnings.append(event.message)
        self.report(event)

    def stage(self, name: str) -> StageReporter:
        return StageReporter(name, self)

    def taken(self) -> list[str]:
        """The warnings since the last call."""
        warnings, self.warnings = self.warnings, []
        return warnings

    def skipped(self, scene: SceneFolder, stage: str, progress: StageReporter, message: str) -> None:
        """Says that a stage was done before, and again what it warned of."""
        progress.skipped(message)
        for warning in scene.facts(stage)["warnings"]:
            progress.warning(warning)
        self.taken()


def _is_video(inputs: Sequence[Path]) -> bool:
    return len(inputs) == 1 and inputs[0].suffix.lower() in VIDEO_SUFFIXES


def _load(paths: Sequence[Path], folder: Path, config: Config, strict: bool, log: _Log) -> tuple[Photo, ...]:
    progress = log.stage("photos")
    progress.start(f"reading {len(paths)} files")
    if _is_video(paths):
        paths = extract_frames(paths[0], config.photos.frames, folder)
    size = max(config.pose.max_size, config.photos.max_size)
    given = parse_intrinsics(config.photos.intrinsics) if config.photos.intrinsics else None
    photos = load_photos(paths, size, strict=strict, intrinsics=given, warn=progress.warning)
    if len(photos) < 2:
        raise UserError(
            f"only {len(photos)} of {len(paths)} files could be read as a photo, needed 2 or more. See the warnings above"
        )
    progress.done(f"{len(photos)} photos")
    return photos


def _pose_stage(
    scene: SceneFolder, paths: Sequence[Path], config: Config, known: Path | None, strict: bool, log: _Log
) -> PosedViews:
    progress = log.stage("pose")
    files = [_identity(path) for path in paths]
    settings = as_dict(config)
    cameras = None if known is None else _cameras_hash(known)
    key = content_hash(POSE, files, settings["photos"], settings["pose"], cameras, strict, config.seed)
    if scene.is_done(POSE[0], key):
        posed = load_views(scene.stage_path(POSE[0]))
        log.skipped(scene, POSE[0], progress, f"{len(posed.views)} views from an earlier run")
        return posed
    with scene.write_stage(POSE[0], key) as (folder, facts):
        photos = _load(paths, folder / "frames", config, strict, log)
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


def _identity(path: Path) -> dict[str, Any]:
    """What tells a file from another; one that cannot be opened is left for the loader to warn of."""
    try:
        return {"name": path.name, "bytes": path.stat().st_size, "sha256": file_hash(path)}
    except OSError:
        return {"name": path.name, "bytes": 0, "sha256": ""}


def _cameras_hash(known: Path) -> str:
    """Of the files that say where the cameras are, so that an edited one is noticed."""
    if (known / MANIFEST).is_file():
        return content_hash(SceneFolder.open(known).facts(POSE[0]).get("key"))
    return content_hash([(file.name, file_hash(file)) for file in camera_files(known)])


def _init_stage(
    scene: SceneFolder, training: PosedViews, names: list[str], config: Config, key: str, log: _Log
) -> None:
    progress = log.stage("init")
    if scene.is_done(INIT[0], key):
        log.skipped(scene, INIT[0], progress, "first Gaussians from an earlier run")
        return
    with scene.write_stage(INIT[0], key) as (folder, facts):
        found = initialize(training, config.init, progress, torch.Generator().manual_seed(config.seed))
        progress.note(f"initializer: {found.method} ({found.why})")
        for text in found.notes:
            progress.warning(text)
        write_gaussians(folder / "init.ply", found.gaussians)
        np.save(folder / "origin.npy", found.start.origin.numpy())
        stems = file_names(names)
        for depth_map in found.maps:
            stem = stems[depth_map.view.name]
            write_depth(folder / "depth" / f"{stem}.png", depth_map.depth)
            write_image(folder / "pictures" / f"{stem}.jpg", depth_picture(depth_map))
        facts |= {"gaussians": len(found.gaussians), "initializer": found.method, "why": found.why}
        facts["depth"] = {found_map.view.name: depth_facts(found_map) for found_map in found.maps}
        facts["warnings"] = log.taken()
    progress.done(f"{len(found.gaussians)} Gaussians")


def _optimize_key(init_key: str, config: Config, refine: bool) -> str:
    """How often to save and which renderer draws do not change the scene that is meant."""
    settings = as_dict(config)["optimize"] | {"refine_cameras": refine}
    settings.pop("checkpoint_interval")
    return content_hash(OPTIMIZE, init_key, settings, config.seed)


def _optimize_stage(
    scene: SceneFolder,
    posed: PosedViews,
    training: PosedViews,
    config: Config,
    refine: bool,
    key: str,
    log: _Log,
    on_step: Callable[[int, Gaussians], None] | None,
) -> tuple[Gaussians, PosedViews]:
    """The Gaussians, and all views with the cameras that go with them."""
    progress = log.stage("optimize")
    stage = scene.stage_path(OPTIMIZE[0])
    if scene.is_done(OPTIMIZE[0], key):
        log.skipped(scene, OPTIMIZE[0], progress, "scene from an earlier run")
        return read_gaussians(stage / "scene.ply"), load_refined(stage, posed)
    checkpoint = scene.path / "stages" / "optimize.checkpoint"
    backend = choose(config.renderer)
    progress.note(f"renderer: {backend}")
    with scene.write_stage(OPTIMIZE[0], key) as (folder, facts):
        fit = optimize(
            read_gaussians(scene.stage_path(INIT[0]) / "init.ply"),
            training.views,
            config.optimize,
            rasterizer(backend),
            generator=torch.Generator().manual_seed(config.seed),
            progress=progress,
            checkpoint=checkpoint,
            key=key,
            on_step=on_step,
            estimated=refine,
        )
        write_gaussians(folder / "scene.ply", fit.gaussians)
        if refine:
            save_refined(folder, with_refined(posed.views, training.views, fit.views))
        look = asdict(look_of(training.views, config.optimize))
        facts |= {"gaussians": len(fit.gaussians), "renderer": backend, "look": look, "cameras": fit.camera_changes}
        facts["warnings"] = log.taken()
    checkpoint.unlink(missing_ok=True)
    moved = ""
    if (changes := fit.camera_changes) is not None:
        moved = f"; cameras turned by {changes['rotation_mean_deg']:.2f} degrees in the mean"
        if config.optimize.cameras_max_focal > 0:
            moved += f", focal length changed by {changes['focal_percent']:+.1f} %"
    progress.done(f"{len(fit.gaussians)} Gaussians{moved}")
    return read_gaussians(stage / "scene.ply"), load_refined(stage, posed)


def _finish(
    scene: SceneFolder, posed: PosedViews, gaussians: Gaussians, names: list[str], config: Config, log: _Log
) -> Scores | None:
    """What people look at: cameras, scene.ply, depth, scores on held-out views, the report."""
    scene.update({"published": None, "held_out": names, "scores": None})
    publish_gaussians(scene, gaussians)
    publish_cameras(scene, posed)
    look = Look(**scene.facts(OPTIMIZE[0])["look"])
    draw = drawer(gaussians, look, config.renderer)
    shutil.rmtree(scene.path / "eval", ignore_errors=True)
    scores = None
    if names:
        progress = log.stage("eval")
        progress.start(f"{len(names)} held-out views")
        lpips = Lpips.find()
        if lpips is None:
            progress.note(HOW_TO_GET)
        test = tuple(view for view in posed.views if view.name in set(names))
        refined = scene.facts(OPTIMIZE[0])["cameras"] is not None
        align = aligner(gaussians, look, config.renderer) if refined else None
        results = evaluate_views(draw, test, scene.path / "eval", lpips, align)
        scores = mean_scores(results)
        scene.update({"scores": {"mean": scores, "views": results}})
        progress.done("  ".join(f"{name} {value:.3f}" for name, value in scores.items()))
    write_report(scene, posed, len(gaussians), draw)
    scene.update({"published": scene.keys()})
    log.stage("report").done(str(scene.path / "report.html"))
    return scores

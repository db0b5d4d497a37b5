"""Photos to scene: the stages in order, each skipped when its inputs and settings are those of an earlier run.

Every stage reads what the one before it wrote to disk, so that a resumed run and an uninterrupted one are the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sparse3d import __version__
from sparse3d.config import Config, as_dict
from sparse3d.errors import UserError
from sparse3d.init.initialize import initialize
from sparse3d.io.images import write_depth
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.io.ply import read_gaussians, write_gaussians
from sparse3d.io.publish import publish_cameras, publish_gaussians
from sparse3d.io.scene import SceneFolder, content_hash, file_hash
from sparse3d.io.video import VIDEO_SUFFIXES, extract_frames
from sparse3d.io.views import file_names, load_views, save_views
from sparse3d.metrics.protocol import evaluate_views, mean_scores
from sparse3d.optimize.loop import background_color, optimize
from sparse3d.pose.estimate import estimate_poses
from sparse3d.progress import Event, Reporter, StageReporter, silent
from sparse3d.render import choose, drawer, rasterizer
from sparse3d.report import write_report
from sparse3d.types import Gaussians, Photo, PosedViews

# Raised when a stage gives another result from the same inputs; older scenes then redo it and what follows.
POSE, INIT, OPTIMIZE = ("01_pose", 1), ("02_init", 1), ("04_optimize", 1)


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
        poses: Known cameras: a COLMAP model, a transforms.json or a scene folder.
        holdout: Keep every so-manieth photo out of initialization and optimization, and measure on it. 0: none.
        strict: Stop at an unreadable photo or a missing camera instead of going on without it.
        report: Told everything that happens.
        on_step: Called after each optimization step; for a live view.

    Raises:
        UserError: something the user can put right. What was finished stays.
    """
    paths = list(inputs) if _is_video(inputs) else find_photos(inputs)
    if len(paths) == 1 and not _is_video(inputs):
        raise UserError(
            f"recon needs at least 2 photos of one scene, found 1: {paths[0].name}. Add photos that overlap it by half or more; a "
            f"scene from a single photo is the job of `sparse3d hallucinate --single {paths[0].name}`, which this version does not have yet"
        )
    rasterizer(config.renderer)  # a renderer that cannot run should be known before the long stages
    scene = SceneFolder.create(output)
    log = _Log(report)
    with scene.locked():
        posed = _pose_stage(scene, paths, config, poses, strict, log)
        names = held_out(posed.names, holdout)
        training = posed.only([name for name in posed.names if name not in set(names)])
        if len(training.views) < 2:
            raise UserError(
                f"--holdout {holdout} leaves {len(training.views)} of {len(posed.views)} views to learn from, needed 2 or more"
            )
        pose_key = scene.manifest()["stages"][POSE[0]]["key"]
        init_key = content_hash(INIT, pose_key, as_dict(config)["init"], names)
        _init_stage(scene, training, config, init_key, log)
        optimize_key = _optimize_key(init_key, config)
        gaussians = _optimize_stage(scene, training, config, optimize_key, log, on_step)
        scores = _finish(scene, posed, gaussians, names, config, log)
        manifest = scene.manifest()
    seconds = {name: stage["seconds"] for name, stage in manifest["stages"].items()}
    return Result(
        scene.path,
        manifest["photos_found"],
        len(posed.views),
        len(gaussians),
        seconds,
        scores,
        tuple(manifest["warnings"]),
    )


class _Log:
    """Passes events on and keeps the warnings, which belong into the scene too."""

    def __init__(self, report: Reporter) -> None:
        self.report = report
        self.warnings: list[str] = []

    def __call__(self, event: Event) -> None:
        if event.kind == "warning":
            self.warnings.append(event.message)
        self.report(event)

    def stage(self, name: str) -> StageReporter:
        return StageReporter(name, self)


def _is_video(inputs: Sequence[Path]) -> bool:
    return len(inputs) == 1 and inputs[0].suffix.lower() in VIDEO_SUFFIXES


def _load(paths: Sequence[Path], folder: Path, config: Config, strict: bool, log: _Log) -> tuple[Photo, ...]:
    progress = log.stage("photos")
    progress.start(f"reading {len(paths)} files")
    if _is_video(paths):
        paths = extract_frames(paths[0], config.photos.frames, folder)
    size = max(config.pose.max_size, config.photos.max_size)
    photos = load_photos(paths, size, strict=strict, warn=progress.warning)
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
    files = [(path.name, path.stat().st_size, file_hash(path)) for path in paths]
    settings = as_dict(config)
    cameras = None if known is None else _cameras_hash(known)
    key = content_hash(POSE, files, settings["photos"], settings["pose"], cameras, strict, config.seed)
    if scene.is_done(POSE[0], key):
        posed = load_views(scene.stage_path(POSE[0]))
        progress.skipped(f"{len(posed.views)} views from an earlier run")
        log.warnings.extend(scene.manifest().get("warnings", []))
        return posed
    with scene.write_stage(POSE[0], key) as folder:
        photos = _load(paths, folder / "frames", config, strict, log)
        posed = estimate_poses(
            photos,
            config.pose,
            known=known,
            max_size=config.photos.max_size,
            strict=strict,
            seed=config.seed,
            progress=progress,
        )
        save_views(folder, posed)
    sources = [{"name": name, "bytes": size, "sha256": digest} for name, size, digest in files]
    scene.update({"sparse3d": __version__, "photos": sources, "photos_found": len(photos), "warnings": log.warnings})
    progress.done(f"{len(posed.views)} of {len(photos)} photos placed, {len(posed.points)} points")
    return load_views(scene.stage_path(POSE[0]))


def _cameras_hash(known: Path) -> str:
    """Of the files that say where the cameras are, so that an edited one is noticed."""
    if not known.exists():
        raise UserError(
            f"--poses {known}: no such file or folder. Give a COLMAP model folder, a transforms.json or a scene folder"
        )
    files = [known] if known.is_file() else sorted(p for p in known.rglob("*") if p.suffix in (".bin", ".txt", ".json"))
    return content_hash([(file.name, file_hash(file)) for file in files])


def _init_stage(scene: SceneFolder, training: PosedViews, config: Config, key: str, log: _Log) -> None:
    progress = log.stage("init")
    if scene.is_done(INIT[0], key):
        progress.skipped("first Gaussians from an earlier run")
        return
    with scene.write_stage(INIT[0], key) as folder:
        gaussians, maps = initialize(training, config.init, progress)
        write_gaussians(folder / "init.ply", gaussians)
        stems = file_names(training.names)
        for depth_map in maps:
            write_depth(
                folder / "depth" / f"{stems[depth_map.view.name]}.png",
                torch.where(depth_map.support > 0, depth_map.depth, 0.0),
            )
    progress.done(f"{len(gaussians)} Gaussians")


def _optimize_key(init_key: str, config: Config) -> str:
    """How often to save and which renderer draws do not change the scene that is meant."""
    settings = as_dict(config)["optimize"]
    settings.pop("checkpoint_interval")
    return content_hash(OPTIMIZE, init_key, settings, config.seed)


def _optimize_stage(
    scene: SceneFolder,
    training: PosedViews,
    config: Config,
    key: str,
    log: _Log,
    on_step: Callable[[int, Gaussians], None] | None,
) -> Gaussians:
    progress = log.stage("optimize")
    final = scene.stage_path(OPTIMIZE[0]) / "scene.ply"
    if scene.is_done(OPTIMIZE[0], key):
        progress.skipped("scene from an earlier run")
        return read_gaussians(final)
    checkpoint = scene.path / "stages" / "optimize.checkpoint"
    backend = choose(config.renderer)
    progress.note(f"renderer: {backend}")
    with scene.write_stage(OPTIMIZE[0], key) as folder:
        fitted = optimize(
            read_gaussians(scene.stage_path(INIT[0]) / "init.ply"),
            training.views,
            config.optimize,
            rasterizer(backend),
            generator=torch.Generator().manual_seed(config.seed),
            progress=progress,
            checkpoint=checkpoint,
            key=key,
            on_step=on_step,
        )
        background = background_color(training.views, config.optimize.background).tolist()
        write_gaussians(folder / "scene.ply", fitted)
        (folder / "background.json").write_text(json.dumps(background))
    checkpoint.unlink(missing_ok=True)
    scene.update({"background": background, "antialiased": config.optimize.antialiased, "renderer": backend})
    progress.done(f"{len(fitted)} Gaussians")
    return read_gaussians(final)


def _finish(
    scene: SceneFolder, posed: PosedViews, gaussians: Gaussians, names: list[str], config: Config, log: _Log
) -> dict[str, float] | None:
    """What people look at: cameras, scene.ply, depth, scores on held-out views, the report."""
    began = time.monotonic()
    publish_gaussians(scene, gaussians)
    publish_cameras(scene, posed)
    scene.update({"settings": as_dict(config), "held_out": names, "gaussians": len(gaussians)})
    draw = drawer(gaussians, scene.manifest(), config.renderer)
    scores = None
    if names:
        progress = log.stage("eval")
        progress.start(f"{len(names)} held-out views")
        test = tuple(view for view in posed.views if view.name in set(names))
        results = evaluate_views(draw, test, scene.path / "eval")
        scores = mean_scores(results)
        scene.update({"scores": {"mean": scores, "views": results}})
        progress.done("  ".join(f"{name} {value:.3f}" for name, value in scores.items()))
    write_report(scene, posed, len(gaussians), draw)
    log.stage("report").done(f"{scene.path / 'report.html'} ({time.monotonic() - began:.1f} s)")
    return scores

"""Photos to scene: the stages in order, each skipped when its inputs and settings are those of an earlier run.

Every stage reads what the one before it wrote to disk, so that a resumed run and an uninterrupted one are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sparse3d import __version__
from sparse3d.config import Config, as_dict
from sparse3d.errors import UserError
from sparse3d.io.scene import SceneFolder
from sparse3d.optimize.cameras import refines_cameras
from sparse3d.pipeline.densify_stage import densify_key, densify_stage
from sparse3d.pipeline.finish import finish
from sparse3d.pipeline.init_stage import init_key, init_stage
from sparse3d.pipeline.inputs import checked
from sparse3d.pipeline.log import Log
from sparse3d.pipeline.optimize_stage import optimize_key, optimize_stage
from sparse3d.pipeline.pose_stage import POSE, pose_stage
from sparse3d.priors.names import regularizing, resolved
from sparse3d.progress import Reporter, silent
from sparse3d.render import rasterizer
from sparse3d.types import Gaussians


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
    paths = checked(inputs, config, poses)
    rasterizer(config.renderer)  # a renderer that cannot run should be known before the long stages
    settings, config = as_dict(config), replace(config, densify=resolved(config.densify))
    regularizing(config)  # and so should a prior without a score
    scene = SceneFolder.create(output)
    log = Log(report)
    with scene.locked():
        scene.update({"sparse3d": __version__, "settings": settings})
        posed = pose_stage(scene, paths, config, poses, strict, log)
        names = held_out(posed.names, holdout)
        training = posed.only([name for name in posed.names if name not in set(names)])
        if len(training.views) < 2:
            raise UserError(
                f"--holdout {holdout} leaves {len(training.views)} of {len(posed.views)} views to learn from, needed 2 or more"
            )
        key = init_key(scene, config, names)
        init_stage(scene, training, posed.names, config, key, log)
        refine = refines_cameras(config.optimize, estimated=poses is None)
        key = densify_key(key, config)
        drawn, start = densify_stage(scene, training, posed.names, config, key, log)
        key = optimize_key(key, config, refine)
        gaussians, posed = optimize_stage(scene, posed, training, drawn, start, config, refine, key, log, on_step)
        scores = finish(scene, posed, gaussians, names, config, log)
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

"""What people look at: cameras, Gaussians, scores, the report."""

from __future__ import annotations

import shutil

from sparse3d.config import Config
from sparse3d.io.publish import publish_cameras, publish_gaussians
from sparse3d.io.scene import SceneFolder
from sparse3d.metrics.lpips import HOW_TO_GET, Lpips
from sparse3d.metrics.protocol import Scores, evaluate_views, mean_scores
from sparse3d.optimize.align import aligner
from sparse3d.pipeline.log import Log
from sparse3d.pipeline.optimize_stage import OPTIMIZE
from sparse3d.render import Look, drawer
from sparse3d.report import write_report
from sparse3d.types import Gaussians, PosedViews


def finish(
    scene: SceneFolder, posed: PosedViews, gaussians: Gaussians, names: list[str], config: Config, log: Log
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
    scene.update({"published": scene.keys(), "shown": OPTIMIZE[0]})
    log.stage("report").done(str(scene.path / "report.html"))
    return scores

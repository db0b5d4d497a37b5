"""Measure a finished scene on photos that it has not learned from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sparse3d.errors import UserError
from sparse3d.io.folders import output_folder
from sparse3d.io.load import load_scene
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.metrics.lpips import Lpips
from sparse3d.metrics.protocol import Scores, evaluate_views, mean_scores
from sparse3d.optimize.align import aligner
from sparse3d.pose.known import load_known
from sparse3d.render import drawer

_NO_LIMIT = 1 << 16  # longer side in pixels: photos are measured at their own size


@dataclass(frozen=True)
class Evaluation:
    """Scores of each view and their mean."""

    mean: Scores
    views: dict[str, Scores]


def evaluate(
    scene: Path,
    photos: Path | None,
    poses: Path | None,
    output: Path | None,
    *,
    backend: str = "auto",
    warn: Callable[[str], None],
) -> Evaluation:
    """PSNR, SSIM and (with its weights) LPIPS of a scene.

    Views that `recon --holdout` kept aside are measured twice where the scene's cameras were refined: from their own cameras,
    and from cameras aligned to their photos (`optimize.align`). Given cameras are never aligned.

    Args:
        scene: Scene folder.
        photos: Folder of held-out photos; None measures on the views that `recon --holdout` kept aside.
        poses: Cameras of `photos`, in the scene's frame.
        output: Where renders are written beside the photos; None writes none.
        backend: The renderer.
        warn: Called with each warning.

    Raises:
        UserError: nothing to measure on, or the renders cannot be written to `output` or would lie among the photos.
    """
    loaded = load_scene(scene)
    if (photos is None) != (poses is None):
        raise UserError("eval needs --photos and --poses together: the photos, and their cameras in the scene's frame")
    if photos is not None and poses is not None:
        files = find_photos([photos])
        if output is not None and output.resolve() in {file.parent.resolve() for file in files}:
            raise UserError(
                f"-o {output} is the folder of the photos, which renders of the same name would replace. Choose another "
                "folder with -o"
            )
        loaded_photos = load_photos(files, _NO_LIMIT, warn=warn)
        views = load_known(poses, loaded_photos, minimum=1, same_frame=True, warn=warn).views
    else:
        names = set(loaded.folder.manifest().get("held_out", []))
        views = tuple(view for view in loaded.posed.views if view.name in names)
        if not views:
            raise UserError(
                f"{scene} has no held-out views. Give photos with --photos and --poses, or run recon with --holdout 8"
            )
    if output is not None:
        output_folder(output)
    draw = drawer(loaded.gaussians, loaded.look, backend)
    align = aligner(loaded.gaussians, loaded.look, backend) if loaded.refined and poses is None else None
    results = evaluate_views(draw, views, output, Lpips.find(), align)
    return Evaluation(mean_scores(results), results)

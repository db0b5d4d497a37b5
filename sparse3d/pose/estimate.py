"""The one way into pose estimation: photos in, undistorted posed views out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparse3d.config import PoseConfig
from sparse3d.geometry import fitted_size
from sparse3d.pose import colmap
from sparse3d.pose.from_scene import is_scene, load_from_scene
from sparse3d.pose.known import load_known
from sparse3d.pose.triangulate import triangulate
from sparse3d.progress import StageReporter
from sparse3d.types import Photo, PosedViews


def estimate_poses(
    photos: Sequence[Photo],
    config: PoseConfig,
    *,
    known: Path | None,
    max_size: int,
    strict: bool,
    seed: int,
    progress: StageReporter,
) -> PosedViews:
    """Undistorted views at the working size.

    Args:
        photos: At least two.
        config: Structure from motion.
        known: File or folder with the cameras, see `io.cameras`, or an earlier scene of the same photos, whose views are
            taken as they are; None finds the cameras from the photos.
        max_size: Longer side of the views that come back, pixels.
        strict: A camera of `known` (not of a scene) without its photo, or a photo without a camera, is an error.
        seed: Of all random choices.
        progress: Told what happens.

    Raises:
        UserError: no cameras; says why and what to do.
    """
    if known is not None:
        progress.start(f"cameras from {known}")
        if is_scene(known):
            posed = load_from_scene(known, photos, strict=strict, warn=progress.warning)
            _warn_of_small_views(posed, photos, max_size, known, progress)
        else:
            posed = load_known(known, photos, strict=strict, warn=progress.warning, note=progress.note)
        if len(posed.points) == 0:
            progress.note("the cameras came without points: triangulating some")
            posed = PosedViews(posed.views, triangulate(posed, config, seed))
    else:
        posed = colmap.estimate(photos, config, seed, progress)
    sizes = [fitted_size(view.height, view.width, max_size) for view in posed.views]
    return PosedViews(tuple(view.resized(*size) for view, size in zip(posed.views, sizes, strict=True)), posed.points)


def _warn_of_small_views(
    posed: PosedViews, photos: Sequence[Photo], max_size: int, scene: Path, progress: StageReporter
) -> None:
    """The views of a scene cannot become larger again, though the photos may be."""
    largest = max(max(view.height, view.width) for view in posed.views)
    wanted = min(max_size, max(max(photo.image.shape[1:]) for photo in photos))
    if largest < wanted:
        progress.warning(
            f"the views of {scene} are {largest} pixels long and stay so, where photos.max_size asks for {wanted}. For "
            "larger ones, leave out --poses"
        )

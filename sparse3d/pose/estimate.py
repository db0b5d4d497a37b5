"""The one way into pose estimation: photos in, undistorted posed views and a report out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparse3d.config import PoseConfig
from sparse3d.errors import UserError
from sparse3d.geometry import fitted_size
from sparse3d.pose.from_scene import is_scene, load_from_scene
from sparse3d.pose.given import adopt
from sparse3d.pose.intrinsics import fixed_cameras
from sparse3d.pose.known import load_known
from sparse3d.pose.ladder import Climb, climb
from sparse3d.pose.mapping import image_index
from sparse3d.pose.points import colour_points
from sparse3d.pose.report import PoseReport, no_cameras, report_of, warnings_of
from sparse3d.pose.triangulate import triangulate
from sparse3d.pose.uncertainty import uncertainty
from sparse3d.progress import StageReporter
from sparse3d.types import Photo, PosedViews


@dataclass(frozen=True)
class Posed:
    """Views with cameras, and how they came by them."""

    views: PosedViews
    report: PoseReport | None  # None for given cameras


def estimate_poses(
    photos: Sequence[Photo],
    config: PoseConfig,
    *,
    known: Path | None,
    max_size: int,
    strict: bool,
    seed: int,
    progress: StageReporter,
) -> Posed:
    """Undistorted views at the working size.

    Args:
        photos: At least two.
        config: Matching and mapping.
        known: File or folder with the cameras, see `io.cameras`, or an earlier scene of the same photos, whose views are
            taken as they are; None finds the cameras from the photos. Photos that a file has no camera for are placed
            beside the others.
        max_size: Longer side of the views that come back, pixels.
        strict: A camera of `known` (not of a scene) without its photo, or a photo without a camera, is an error.
        seed: Of all random choices.
        progress: Told what happens.

    Raises:
        UserError: no cameras; says why and what to do.
    """
    report = None
    if known is not None:
        progress.start(f"cameras from {known}")
        if is_scene(known):
            posed = load_from_scene(known, photos, strict=strict, warn=progress.warning)
            _warn_of_small_views(posed, photos, max_size, known, progress)
        else:
            rest = "they are placed by their matches"
            posed = load_known(known, photos, strict=strict, warn=progress.warning, note=progress.note, rest=rest)
            others = [photo for photo in photos if photo.name not in set(posed.names)]
            if others or config.refine_given:
                posed = adopt(posed, others, config, seed, progress)
        if len(posed.points) == 0:
            progress.note("the cameras came without points: triangulating some")
            posed = PosedViews(posed.views, triangulate(posed, config, seed, progress))
    else:
        progress.start(f"finding the cameras of {len(photos)} photos")
        posed, report = _find(photos, config, seed, strict, progress)
    sizes = [fitted_size(view.height, view.width, max_size) for view in posed.views]
    views = tuple(view.resized(*size) for view, size in zip(posed.views, sizes, strict=True))
    return Posed(PosedViews(views, posed.points), report)


def _find(
    photos: Sequence[Photo], config: PoseConfig, seed: int, strict: bool, progress: StageReporter
) -> tuple[PosedViews, PoseReport]:
    found = climb(photos, config, seed, progress)
    model = found.solution.model
    sigma = None
    if model is not None:
        sigma = uncertainty(model, found.max_error_px / 2, fixed_cameras(photos, found.solution.cameras))
    report = report_of(photos, found, sigma)
    if model is None:
        raise UserError(no_cameras(report))
    for warning in warnings_of(report):
        progress.warning(warning)
    left_out = [photo.name for photo in report.photos if not photo.placed]
    if left_out and strict:
        raise UserError(
            f"no camera was found for {', '.join(left_out)} (see above). Remove these photos, or run without strict"
        )
    return _views(photos, found, progress), report


def _views(photos: Sequence[Photo], found: Climb, progress: StageReporter) -> PosedViews:
    """The reconstruction as undistorted views, by the way that given cameras take."""
    model = found.solution.model
    assert model is not None
    colour_points(model, photos)
    model.normalize()  # the scale is nobody's to know, and a wild one would cost precision
    placed = []
    for image_id in model.reg_image_ids():
        image = model.image(image_id)
        placed.append(photos[image_index(image.name)])
        image.name = placed[-1].name
    with tempfile.TemporaryDirectory(prefix="sparse3d-pose-") as temporary:
        model.write_binary(temporary)
        names = {photo.name for photo in placed}
        return load_known(Path(temporary), [photo for photo in photos if photo.name in names], warn=progress.warning)


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

"""The files of a run: which they are, and the photos in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse3d.config import Config
from sparse3d.errors import UserError
from sparse3d.io.intrinsics import Intrinsics, parse_intrinsics
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.io.scene import file_hash
from sparse3d.io.video import VIDEO_SUFFIXES, extract_frames
from sparse3d.pipeline.log import Log
from sparse3d.types import Photo


def checked(inputs: Sequence[Path], config: Config, poses: Path | None) -> list[Path]:
    """The files to read, when inputs and settings go together."""
    paths = list(inputs) if _is_video(inputs) else find_photos(inputs)
    if _is_video(inputs) and not inputs[0].is_file():
        raise UserError(f"there is no video {inputs[0]}")
    if len(paths) == 1 and not _is_video(inputs):
        raise UserError(
            f"recon needs at least 2 photos of one scene, found 1: {paths[0].name}. Add photos that overlap it by half or more; a "
            f"scene from a single photo is the job of `sparse3d hallucinate --single {paths[0].name}`"
        )
    if config.photos.intrinsics:
        parse_intrinsics(config.photos.intrinsics)
        if poses is not None:
            raise UserError(
                f"--intrinsics {config.photos.intrinsics} and --poses {poses} both say how the photos were taken: the cameras of "
                "--poses have their own intrinsics. Leave out one of the two"
            )
    return paths


def _is_video(inputs: Sequence[Path]) -> bool:
    return len(inputs) == 1 and inputs[0].suffix.lower() in VIDEO_SUFFIXES


def read_photos(paths: Sequence[Path], folder: Path, config: Config, strict: bool, log: Log) -> tuple[Photo, ...]:
    """The photos in files, or the sharpest frames of a video.

    Args:
        paths: Of photos, or of one video.
        folder: Where frames of a video are written.
        config: Sizes, frames and intrinsics.
        strict: Stop at a file that cannot be read instead of going on without it.
        log: Told what is read and left out.

    Raises:
        UserError: fewer than two can be read.
    """
    progress = log.stage("photos")
    progress.start(f"reading {len(paths)} files")
    if _is_video(paths):
        paths = extract_frames(paths[0], config.photos.frames, folder)
    size = max(config.pose.max_size, config.photos.max_size)
    photos = load_photos(paths, size, strict=strict, intrinsics=given_intrinsics(config), warn=progress.warning)
    if len(photos) < 2:
        raise UserError(
            f"only {len(photos)} of {len(paths)} files could be read as a photo, needed 2 or more. See the warnings above"
        )
    longest = max(max(photo.full_size) for photo in photos)
    if longest > config.photos.max_size:
        progress.note(
            f"the scene is made from pictures of {config.photos.max_size} pixels on the longer side, not {longest}: memory and time "
            "grow with the pixels. Raise photos.max_size for finer detail"
        )
    progress.done(f"{len(photos)} photos")
    return photos


def given_intrinsics(config: Config) -> Intrinsics | None:
    """Those that the user gives for all photos; errors as of `parse_intrinsics`."""
    return parse_intrinsics(config.photos.intrinsics) if config.photos.intrinsics else None


def identity(path: Path) -> dict[str, Any]:
    """What tells a file from another; one that cannot be opened is left for the loader to warn of."""
    try:
        return {"name": path.name, "bytes": path.stat().st_size, "sha256": file_hash(path)}
    except OSError:
        return {"name": path.name, "bytes": 0, "sha256": ""}

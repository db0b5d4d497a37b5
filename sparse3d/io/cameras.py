"""Cameras that another program has found: which format a path is, and what it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from sparse3d.errors import UserError
from sparse3d.geometry import invert_rigid
from sparse3d.io.arkit import (
    find_polycam,
    find_record3d,
    find_scanner_app,
    read_polycam,
    read_record3d,
    read_scanner_app,
)
from sparse3d.io.colmap import find_model, read_model
from sparse3d.io.lens import KnownCamera
from sparse3d.io.metashape import find_metashape, read_metashape
from sparse3d.io.nerfstudio import read_transforms
from sparse3d.io.realitycapture import find_csv, find_xmp, read_csv, read_xmp
from sparse3d.types import Photo, Points

Warn = Callable[[str], None]


@dataclass(frozen=True)
class CameraFile:
    """What a path holds."""

    cameras: list[KnownCamera]
    points: Points = field(default_factory=Points.none)  # their tracks name cameras
    in_metres: bool = False  # whether the unit of the world is the metre


@dataclass(frozen=True)
class _Format:
    """One format; a new one is a file with these two functions and a row in the table."""

    what: str  # for people
    find: Callable[[Path, Sequence[Photo]], list[Path]]  # the files that say where the cameras are; none: not this
    read: Callable[[list[Path], Sequence[Photo], Warn], CameraFile]


def read_cameras(path: Path, photos: Sequence[Photo], warn: Warn) -> CameraFile:
    """The cameras in a file or folder of any format that we know.

    Args:
        path: See the table at the end of this file.
        photos: Those that the cameras are wanted for; some formats leave the size of the photos to them.
        warn: Called with each warning.

    Raises:
        UserError: nothing readable at `path`.
    """
    files, chosen = _recognize(path, photos)
    return chosen.read(files, photos, warn)


def camera_files(path: Path) -> list[Path]:
    """The files that `read_cameras` may read there, for noticing a change.

    Raises:
        UserError: nothing readable at `path`.
    """
    files, _ = _recognize(path, ())
    return files


def _recognize(path: Path, photos: Sequence[Photo]) -> tuple[list[Path], _Format]:
    if not path.exists():
        raise UserError(f"--poses {path}: there is no such file or folder. Give {_choices()}")
    for candidate in _FORMATS:
        if files := candidate.find(path, photos):
            return files, candidate
    if path.is_file():
        raise UserError(f"{path} is not a camera file. Give {_choices()}")
    raise UserError(f"no cameras in {path}. Give {_choices()}")


def _choices() -> str:
    return (
        "a scene folder of sparse3d, " + ", ".join(entry.what for entry in _FORMATS[:-1]) + f" or {_FORMATS[-1].what}"
    )


def _sizes(photos: Sequence[Photo]) -> dict[str, tuple[int, int]]:
    """(height, width) of the files, by stem and by name."""
    return {key: photo.full_size for photo in photos for key in (PurePosixPath(photo.name).stem, photo.name)}


def _colmap_files(path: Path) -> list[Path]:
    folder = find_model(path) if path.is_dir() else None
    if folder is None:
        return []
    names = [f"{part}{suffix}" for part in ("cameras", "images", "points3D") for suffix in (".bin", ".txt")]
    return [folder / name for name in names if (folder / name).is_file()]


def _read_colmap(folder: Path) -> CameraFile:
    model = read_model(folder)
    cameras = zip(model.names, model.lenses, invert_rigid(model.w2c), strict=True)
    return CameraFile([KnownCamera(*camera) for camera in cameras], model.points)


def _transforms_file(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    return [path / "transforms.json"] if (path / "transforms.json").is_file() else []


def _read_transforms(path: Path, photos: Sequence[Photo]) -> CameraFile:
    frames = read_transforms(path, _sizes(photos))
    return CameraFile([KnownCamera(frame.name, frame.lens, frame.c2w) for frame in frames if not frame.generated])


def _polycam_files(path: Path, photos: Sequence[Photo]) -> list[Path]:
    if photos:
        return find_polycam(path, {photo.path.parent.resolve() for photo in photos if photo.path is not None})
    folders = ("cameras", "corrected_cameras", "keyframes/cameras", "keyframes/corrected_cameras")
    sets = [find_polycam(path), *(find_polycam(path / folder) for folder in folders)]  # either may be read
    return sorted({file for files in sets for file in files})


_FORMATS = (
    _Format(
        "a COLMAP model folder (cameras, images, points3D, there or in sparse/0)",
        lambda path, _: _colmap_files(path),
        lambda files, _, warn: _read_colmap(files[0].parent),
    ),
    _Format(
        "a Record3D recording (folder or .r3d)",
        lambda path, _: find_record3d(path),
        lambda files, _, warn: CameraFile(read_record3d(files[0]), in_metres=True),
    ),
    _Format(
        "a transforms.json of nerfstudio or instant-ngp",
        lambda path, _: _transforms_file(path),
        lambda files, photos, warn: _read_transforms(files[0], photos),
    ),
    _Format(
        "cameras.xml of Metashape",
        lambda path, _: find_metashape(path),
        lambda files, _, warn: CameraFile(read_metashape(files[0], warn)),
    ),
    _Format(
        "RealityCapture's table of cameras (.csv)",
        lambda path, _: find_csv(path),
        lambda files, photos, warn: CameraFile(read_csv(files[0], _sizes(photos))),
    ),
    _Format(
        "a folder of its .xmp files",
        lambda path, _: find_xmp(path),
        lambda files, photos, warn: CameraFile(read_xmp(files, _sizes(photos))),
    ),
    _Format(
        "a Polycam raw export",
        _polycam_files,
        lambda files, _, warn: CameraFile(read_polycam(files), in_metres=True),
    ),
    _Format(
        "a folder of 3D Scanner App",
        lambda path, _: find_scanner_app(path),
        lambda files, photos, warn: CameraFile(read_scanner_app(files, _sizes(photos)), in_metres=True),
    ),
)

"""Cameras of iPhone and iPad scanning apps that record ARKit's poses: Polycam, Record3D, 3D Scanner App.

ARKit's cameras are in OpenGL axes (x right, y up, looking along -z) in a world with y up, and its unit is the metre.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sparse3d.errors import UserError
from sparse3d.geometry import rotation_from_quat
from sparse3d.io._fields import GL_TO_CV, json_object, number, numbers, read_text, rigid
from sparse3d.io.lens import KnownCamera, Lens

_RECORD3D = ("metadata.json", "metadata")  # exported, and inside a .r3d file


def find_polycam(path: Path, photo_folders: Collection[Path] = ()) -> list[Path]:
    """The camera files of a Polycam raw export (or of its keyframes folder), one for each photo.

    Of the two sets in it, the one that Polycam has corrected belongs to photos that it has undistorted; for photos from
    the folder `images` of the export the others are right.

    Args:
        path: The export, its keyframes folder, or one of the two folders of cameras.
        photo_folders: That the photos lie in, resolved.
    """
    if path.name in ("corrected_cameras", "cameras"):
        folders = [path]
    else:
        base = path / "keyframes" if (path / "keyframes").is_dir() else path
        folders = [base / "corrected_cameras", base / "cameras"]
        if set(photo_folders) == {(base / "images").resolve()}:
            folders.reverse()
    found = ([file for file in sorted(folder.glob("*.json")) if _mentions(file, '"t_00"')] for folder in folders)
    return next((files for files in found if files), [])


def read_polycam(files: Sequence[Path]) -> list[KnownCamera]:
    """The cameras of Polycam's files, each named as its photo without suffix.

    Raises:
        UserError: a number is missing or wrong.
    """
    cameras = []
    for path in files:
        keys = json_object(read_text(path), str(path))
        pose = [number(keys, f"t_{row}{column}", str(path)) for row in range(3) for column in range(4)]
        lens = _pinhole(
            [number(keys, key, str(path)) for key in ("fx", "fy", "cx", "cy")], _size(keys, path), str(path)
        )
        cameras.append(KnownCamera(path.stem, lens, rigid(pose, f"{path}: t_00 to t_23") * GL_TO_CV))
    return cameras


def find_record3d(path: Path) -> list[Path]:
    """The metadata of a Record3D recording: of its folder, the file itself, or a .r3d file, which is a zip file."""
    if path.is_file() and path.suffix.lower() == ".r3d":
        return [path]
    candidates = [path / name for name in _RECORD3D] if path.is_dir() else [path] if path.name in _RECORD3D else []
    return [file for file in candidates if file.is_file() and _mentions(file, '"poses"')][:1]


def read_record3d(path: Path) -> list[KnownCamera]:
    """The cameras of a recording, named 0, 1, ... as Record3D names its frames.

    A pose is a quaternion (x, y, z, w) and a position, camera to world; K stands column by column.

    Raises:
        UserError: a number is missing or wrong.
    """
    if path.suffix.lower() == ".r3d":
        try:
            with zipfile.ZipFile(path) as archive:
                text = archive.read("metadata").decode()
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: is not a Record3D recording: {error}") from error
    else:
        text = read_text(path)
    keys = json_object(text, str(path))
    poses = keys.get("poses")
    if not isinstance(poses, list) or not poses:
        raise UserError(f"{path}: has no 'poses'; Record3D writes one of 7 numbers for each frame")
    size = _size(keys, path, "h", "w")
    own = keys.get("perFrameIntrinsicCoeffs")
    if own is not None and (not isinstance(own, list) or len(own) not in (0, len(poses))):
        raise UserError(f"{path}: 'perFrameIntrinsicCoeffs' is not a list of as many as the {len(poses)} poses")
    if not own:
        K = numbers(keys.get("K", []), (9,), f"{path}: 'K'")
        own = [[K[0], K[4], K[6], K[7]]] * len(poses)
    cameras = []
    for i, (pose, intrinsics) in enumerate(zip(poses, own, strict=True)):
        where = f"{path}: frame {i}"
        x, y, z, w, *position = numbers(pose, (7,), f"{where}: its pose")
        if not math.isclose(math.hypot(x, y, z, w), 1, abs_tol=1e-3):
            raise UserError(f"{where}: its quaternion ({x}, {y}, {z}, {w}) is not of length 1")
        c2w = torch.eye(4, dtype=torch.float64)
        c2w[:3, :3] = rotation_from_quat(torch.tensor([w, x, y, z], dtype=torch.float64))
        c2w[:3, 3] = torch.tensor(position, dtype=torch.float64)
        lens = _pinhole(numbers(intrinsics, (4,), f"{where}: its intrinsics"), size, where)
        cameras.append(KnownCamera(str(i), lens, c2w * GL_TO_CV))
    return cameras


def find_scanner_app(path: Path) -> list[Path]:
    """The frame files (frame_00000.json, ...) of a 3D Scanner App export ("All data")."""
    if not path.is_dir():
        return []
    return [file for file in sorted(path.glob("frame_*.json")) if _mentions(file, '"cameraPoseARFrame"')]


def read_scanner_app(files: Sequence[Path], sizes: Mapping[str, tuple[int, int]]) -> list[KnownCamera]:
    """The cameras of 3D Scanner App's frames, each named as its photo without suffix; frames without a photo are left out.

    Args:
        files: As of `find_scanner_app`.
        sizes: (height, width) of the photo files by stem, which the frames do not have.

    Raises:
        UserError: a number is missing or wrong.
    """
    cameras = []
    for path in files:
        if path.stem not in sizes:  # the app keeps a pose of every frame, a photo only of some
            continue
        keys = json_object(read_text(path), str(path))
        fx, _, cx, _, fy, cy, *_ = numbers(keys.get("intrinsics", []), (9,), f"{path}: 'intrinsics'")
        pose = rigid(keys.get("cameraPoseARFrame", []), f"{path}: 'cameraPoseARFrame'")
        cameras.append(KnownCamera(path.stem, _pinhole([fx, fy, cx, cy], sizes[path.stem], str(path)), pose * GL_TO_CV))
    return cameras


def _mentions(path: Path, word: str) -> bool:
    return word.encode() in path.read_bytes()


def _size(keys: Mapping[str, Any], path: Path, height: str = "height", width: str = "width") -> tuple[int, int]:
    h, w = (round(number(keys, key, str(path), at_least=1)) for key in (height, width))
    return h, w


def _pinhole(intrinsics: Sequence[float], size: tuple[int, int], where: str) -> Lens:
    fx, fy, cx, cy = intrinsics
    if fx <= 0 or fy <= 0:
        raise UserError(f"{where}: the focal length is {fx} x {fy} pixels, needed more than 0")
    return Lens("PINHOLE", (fx, fy, cx, cy), *size)

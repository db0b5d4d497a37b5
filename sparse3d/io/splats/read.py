"""Gaussians of a file in any format that is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sparse3d.errors import UserError
from sparse3d.frames import to_up, turn_gaussians
from sparse3d.io.ply import read_elements, read_gaussians
from sparse3d.io.splats.compressed_ply import is_compressed, read_compressed_ply
from sparse3d.io.splats.gltf import read_gltf
from sparse3d.io.splats.ksplat import read_ksplat
from sparse3d.io.splats.sog import read_sog
from sparse3d.io.splats.splat import read_splat
from sparse3d.io.splats.spz import read_spz
from sparse3d.types import Gaussians


def _read_ply(path: Path) -> Gaussians:
    return read_compressed_ply(path) if is_compressed(read_elements(path)) else read_gaussians(path)


# suffix -> reader, and the axis that points up in such files
READERS: dict[str, tuple[Callable[[Path], Gaussians], str]] = {
    ".ply": (_read_ply, "-y"),
    ".spz": (read_spz, "y"),
    ".splat": (read_splat, "-y"),
    ".sog": (read_sog, "-y"),
    ".ksplat": (read_ksplat, "-y"),
    ".glb": (read_gltf, "y"),
}


def read_splats(path: Path, up: str | None = None) -> Gaussians:
    """Gaussians of a PLY (standard or compressed), SPZ, .splat, SOG, .ksplat or glTF file, in OpenCV's axes.

    Args:
        path: Its suffix names the format.
        up: The axis that points up in the file; None: what is usual for the format: y for SPZ and glTF, -y for the others.

    Raises:
        UserError: no such file, of no known format, damaged, or without Gaussians.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: sparse3d reads Gaussians from files that end in {', '.join(READERS)}")
    read, usual = reader
    return turn_gaussians(read(path), to_up(up or usual).T)

"""Files of 3D Gaussians in the formats of other programs: which reads and writes what.

The canonical file is the PLY of 3DGS (`io.ply`); what is written here is for elsewhere, and smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sparse3d.errors import UserError, did_you_mean
from sparse3d.io.ply import is_compressed, read_gaussians, write_gaussians
from sparse3d.io.splats import antimatter, forge, gltf
from sparse3d.io.splats.compressed import read_compressed, write_compressed
from sparse3d.types import Gaussians

Read = Callable[[Path], Gaussians]
Write = Callable[[Path, Gaussians], None]

SUFFIXES: dict[str, tuple[Read, Write]] = {
    ".compressed.ply": (read_compressed, write_compressed),
    ".ply": (read_gaussians, write_gaussians),
    ".splat": (antimatter.read_splat, antimatter.write_splat),
    ".ksplat": (forge.reader("ksplat"), forge.writer("ksplat")),
    ".spz": (forge.reader("spz"), forge.writer("spz")),
    ".sog": (forge.reader("sog"), forge.writer("sog")),
    ".glb": (gltf.read_glb, gltf.write_glb),
}


def suffix_of(path: Path) -> str | None:
    """The suffix of SUFFIXES that a name has; None for others."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)


def read_splats(path: Path) -> Gaussians:
    """Gaussians of a file in any of the formats.

    Positions are those of the file, but where a format has its own axes (.spz, .glb: y up), in OpenCV's.

    Raises:
        UserError: no such file, another suffix, or a file that is damaged or something else.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    suffix = suffix_of(path)
    if suffix is None:
        raise UserError(f"{path.name}: splats are read from {', '.join(SUFFIXES)}{did_you_mean(path.suffix, SUFFIXES)}")
    if suffix == ".ply" and is_compressed(path):
        suffix = ".compressed.ply"
    return SUFFIXES[suffix][0](path)


def write_splats(path: Path, gaussians: Gaussians) -> None:
    """Gaussians in the format that the name says; whole or not at all.

    Raises:
        UserError: another suffix, or a library is missing.
    """
    suffix = suffix_of(path)
    if suffix is None:
        raise UserError(f"{path.name}: splats are written as {', '.join(SUFFIXES)}")
    SUFFIXES[suffix][1](path, gaussians)

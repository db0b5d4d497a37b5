"""`.ksplat` files of mkkellogg's viewer, by gaussforge."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sparse3d.errors import UserError, require
from sparse3d.io.ply import read_gaussians
from sparse3d.io.splats.packing import read_bytes
from sparse3d.types import Gaussians


def read_ksplat(path: Path) -> Gaussians:
    """Gaussians of a .ksplat file.

    Raises:
        UserError: gaussforge is missing, or cannot read the file.
    """
    gaussforge = require("gaussforge", extra="formats", purpose="reading .ksplat files")
    answer = gaussforge.GaussForge().convert(read_bytes(path), "ksplat", "ply")
    if "error" in answer:
        raise UserError(f"{path}: cannot be read as .ksplat: {answer['error']}")
    with tempfile.TemporaryDirectory() as folder:
        ply = Path(folder) / "converted.ply"
        ply.write_bytes(answer["data"])
        return read_gaussians(ply)

"""Folders that results are written to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sparse3d.errors import UserError


def output_folder(path: Path) -> Path:
    """The folder, made when missing and tried with an empty file, so that a long run does not end at a closed door.

    Raises:
        UserError: it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror or error}. Choose another folder with -o") from error
    return path

"""Inputs and outputs that are URLs: fetched before a scene and stored after it, by fsspec."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from sparse3d.errors import UserError, require


def is_url(text: str) -> bool:
    """Whether a text is a URL as s3://bucket/photos, not a path."""
    return re.match(r"[a-z][a-z0-9+.-]+://", text) is not None


def fetched(url: str, folder: Path) -> Path:
    """A copy of a remote file or of the files in a remote folder.

    Args:
        url: As s3://bucket/photos.
        folder: Where the copy goes.

    Returns:
        The file or folder there.

    Raises:
        UserError: it cannot be read; says what may be missing.
    """
    system, path = _system(url)
    name = PurePosixPath(path.rstrip("/")).name or "photos"
    target = folder / name
    try:
        if not system.isdir(path):
            folder.mkdir(parents=True, exist_ok=True)
            system.get_file(path, str(target))
            return target
        target.mkdir(parents=True)
        for entry in system.ls(path, detail=False):
            file = PurePosixPath(entry).name  # the name alone, so that nothing lands outside the folder
            if file not in ("", ".", "..") and system.isfile(entry):
                system.get_file(entry, str(target / file))
    except Exception as error:  # every service has exceptions of its own
        raise UserError(f"{url} cannot be read: {_said(error)}") from error
    return target


def store(folder: Path, url: str) -> None:
    """Copies a finished scene folder to a URL, `scene.json` last: where that is, all is.

    Raises:
        UserError: it cannot be written.
    """
    system, path = _system(url)
    files = sorted(
        (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".")),
        key=lambda file: file.name == "scene.json",
    )
    try:
        for file in files:
            target = f"{path.rstrip('/')}/{file.relative_to(folder).as_posix()}"
            system.makedirs(target.rpartition("/")[0], exist_ok=True)
            system.put_file(str(file), target)
    except Exception as error:  # every service has exceptions of its own
        raise UserError(f"{url} cannot be written: {_said(error)}. The scene is still in {folder}") from error


def _system(url: str) -> tuple[Any, str]:
    fsspec = require("fsspec", extra="remote", purpose=f"reading and writing {url}")
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(f"{url}: {error}. For s3:// install s3fs, for gs:// gcsfs") from error
    return system, path


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"

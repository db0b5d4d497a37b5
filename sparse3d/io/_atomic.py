"""Files and folders that appear whole or not at all, also when the machine loses power."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}(\.[^.]+)?")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to `path` when the block ends well and removed when it does not.

    The bytes are on the disk before the name is: after a power cut there is the old file or the new one, never an empty one.
    The temporary name keeps the suffix, for writers that choose the format by it. Missing parent folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Whether a file has a name that `replacing` gives while it writes: where nobody is at work, what a killed process left."""
    return _TEMPORARY.fullmatch(path.name) is not None and path.is_file()


def sync_tree(folder: Path) -> None:
    """Waits until a folder and all that is in it are on the disk."""
    for inside, _, files in os.walk(folder):
        for name in files:
            sync(Path(inside) / name)
        sync(Path(inside))


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk. Folders cannot be waited for on Windows."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

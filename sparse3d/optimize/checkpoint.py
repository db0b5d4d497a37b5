"""Checkpoints that are whole or absent, and resume to the same result."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from sparse3d.io._atomic import replacing


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values under a temporary name, then renames."""
    for leftover in path.parent.glob(f".{path.stem}.*{path.suffix}"):  # of a run killed while it saved
        leftover.unlink()
    # through memory, for on a full disk torch.save says something about positions instead
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path, key: str) -> dict[str, Any] | None:
    """The state saved for these inputs and settings, or None when there is none.

    Args:
        path: File written by `save_checkpoint`.
        key: Content hash of inputs and settings; a checkpoint of another key is not used.
    """
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state if state.get("key") == key else None

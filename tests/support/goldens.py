"""Networks held to stored results of the published ones: weights by recipe, and how far an array is from its golden."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def manifest(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published checkpoint's tensors."""
    entries = json.loads((folder / "checkpoint_manifest.json").read_text(encoding="utf-8"))["state_dict"]
    return {name: tuple(entry["shape"]) for name, entry in entries.items()}


def filled(folder: Path) -> dict[str, Tensor]:
    """The weights that the goldens were made with, by the recipe beside them, each held to its recorded checksum."""
    spec = importlib.util.spec_from_file_location(f"fill_weights_{folder.name}", folder / "fill_weights.py")
    assert spec is not None and spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    values = recipe.fill_weights(manifest(folder))
    recorded = json.loads((folder / "weights_check.json").read_text(encoding="utf-8"))["tensors"]
    for name, (start, *_) in recorded.items():
        assert hashlib.sha256(values[name].tobytes()).hexdigest().startswith(start), f"the recipe gave another {name}"
    return {name: torch.from_numpy(value) for name, value in values.items()}


def arrays(file: Path) -> dict[str, Tensor]:
    """The arrays of an .npz file."""
    with np.load(file) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored}


def rms(got: Tensor, want: Tensor) -> float:
    """Root mean square difference over the root mean square of what is wanted."""
    got, want = got.double(), want.double()
    return float((got - want).square().mean().sqrt() / want.square().mean().sqrt())


def largest(got: Tensor, want: Tensor) -> float:
    """Largest difference over the largest magnitude of what is wanted."""
    return float((got.double() - want.double()).abs().max() / want.double().abs().max())

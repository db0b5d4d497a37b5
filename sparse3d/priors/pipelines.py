"""Published pipelines of diffusers: found by hub id or folder, put where there is room for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sparse3d.errors import UserError, require
from sparse3d.models.fetch import offline


def load_pipeline(
    name: str,
    weights: str,
    warn: Callable[[str], None],
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """A diffusers pipeline with its weights.

    Args:
        name: Of the class that is needed, as StableVideoDiffusionPipeline.
        weights: Hub id, or a folder as `save_pretrained` writes it.
        warn: Called with what the user should know.
        device: Where it runs; a GPU where there is one when None.
        dtype: float32 on a CPU and float16 on a GPU when None.

    Raises:
        UserError: diffusers or the weights are missing, or they are another model's.
    """
    diffusers = require("diffusers", extra="diffusion", purpose="drawing views by a diffusion model")
    if not hasattr(diffusers, name):
        raise UserError(
            f"diffusers {diffusers.__version__} has no {name}. Update it with: pip install -U 'sparse3d[diffusion]'"
        )
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if dtype is None:
        dtype = torch.float32 if device.type == "cpu" else torch.float16
    local = Path(weights).is_dir()
    if local:
        _check_class(Path(weights), name)
    try:
        pipeline = getattr(diffusers, name).from_pretrained(
            weights, torch_dtype=dtype, local_files_only=local or offline() is not None
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"the weights {weights!r} are not here and could not be fetched ({str(error).splitlines()[0]}). Fetch them where there is a network, "
            f"with: huggingface-cli download {weights}, or give a folder that holds them with --weights. --prior classical works without any"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    if device.type == "cpu":
        return pipeline
    try:
        return pipeline.to(device)
    except torch.cuda.OutOfMemoryError:
        warn(f"{weights} does not fit on the GPU as a whole: parts of it wait in main memory, which is slower")
        pipeline.to("cpu")
        torch.cuda.empty_cache()
        pipeline.enable_model_cpu_offload()
        return pipeline


def _check_class(folder: Path, name: str) -> None:
    """Says so when a folder holds another pipeline.

    Raises:
        UserError: it does, or it holds none.
    """
    index = folder / "model_index.json"
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder} holds no pipeline of diffusers: its model_index.json is missing or unreadable. Give the folder that was downloaded as a whole"
        ) from error
    if found != name:
        raise UserError(
            f"{folder} holds a {found}, needed a {name}. Give other weights, or the --prior that they belong to"
        )

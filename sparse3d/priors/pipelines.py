"""Published pipelines of diffusers: found by hub id or folder, put where there is room for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse3d.errors import UserError, require
from sparse3d.models import store
from sparse3d.models.fetch import offline
from sparse3d.models.registry import lookup
from sparse3d.priors.base import OnStep, Stopped


def load_pipeline(
    name: str,
    weights: str,
    warn: Callable[[str], None],
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | dict[str, torch.dtype] | None = None,
) -> Any:
    """A diffusers pipeline with its weights.

    Args:
        name: Of the class that is needed, as StableVideoDiffusionPipeline; DiffusionPipeline for whatever the weights are of.
        weights: Hub id, or a folder as `save_pretrained` writes it.
        warn: Called with what the user should know.
        device: Where it runs; a GPU where there is one when None.
        dtype: On a GPU, float16 when None; by part, with a "default", as diffusers takes it. On a CPU all is float32.

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
    dtype = torch.float32 if device.type == "cpu" else dtype or torch.float16
    local = Path(weights).is_dir()
    if local and name != "DiffusionPipeline":
        _check_class(Path(weights), name)
    try:
        pipeline = getattr(diffusers, name).from_pretrained(
            weights, torch_dtype=dtype, local_files_only=local or offline() is not None
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"the weights {weights!r} are not here and could not be fetched ({str(error).splitlines()[0]}). Fetch them where there is a network, "
            f"with: hf download {weights}, or give a folder that holds them with --weights. --prior classical works without any"
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


def as_pil(picture: Tensor) -> Any:
    """A picture (3, H, W) in [0, 1] as pipelines take it: PIL, 8 bits."""
    from PIL import Image

    return Image.fromarray((picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def weights_of(model: str, given: str) -> str:
    """Where a prior's weights are: as given, else the folder where `sparse3d models fetch` put the published ones.

    Raises:
        UserError: none were given or fetched; says how to get them.
    """
    if given:
        return given
    here = store.path(model)
    if here is None:
        accept = "" if lookup(model).commercial else " --accept-license"
        raise UserError(
            f"the weights {model} ({lookup(model).source}) are not on this machine. Fetch them where there is a network, with: sparse3d models fetch "
            f"{model}{accept}, or give a folder that holds them, or another hub id, with --weights. --prior classical works without any"
        )
    return str(here)


def repo_of(model: str) -> str:
    """The hub id of published weights, for the record."""
    return str(getattr(lookup(model).source, "repo", model))


def stopping(
    on_step: OnStep | None, steps: int, then: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None = None
) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    """`callback_on_step_end` that tells `on_step` of each step, raises Stopped when it says so, and goes on with `then`."""

    def callback(pipeline: Any, index: int, at: Any, values: dict[str, Any]) -> dict[str, Any]:
        if on_step is not None and not on_step(index + 1, steps):
            raise Stopped
        return values if then is None else then(pipeline, index, at, values)

    return callback

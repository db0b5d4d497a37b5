"""Published weights: whose they are, under what licence, and how a package of another project loads them."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.utils import EntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from sparse3d.errors import UserError
from sparse3d.io._pycolmap import cv2

_SAFETENSORS = "model.safetensors"
# what hub, file formats and the constructors of other packages raise on weights that are missing or do not fit
_UNLOADABLE = (OSError, EntryNotFoundError, SafetensorError, RuntimeError, ValueError, TypeError, KeyError)


@dataclass(frozen=True)
class Published:
    """Weights on the hub."""

    hub_id: str
    license: str
    restricted: bool  # the licence asks something of the user: non-commercial use only, say
    checkpoint: str = ""  # name of the state dict, where the hub has (also) a torch checkpoint
    note: str = ""  # what else the user has to do to get them


@dataclass(frozen=True)
class Package:
    """The package of a network, installed by the user: it is not a dependency of sparse3d."""

    title: str  # for messages, as `Depth Anything 3`
    module: str  # as it is imported
    install: str  # the command


def check_license(published: Published, weights: str | Path | None, known: list[Published], accepted: bool) -> None:
    """Stops before restricted weights are taken from the hub, unless the user accepted their licence.

    Args:
        published: What the network takes when `weights` is None.
        weights: Hub id, folder or file; what lies on this machine was fetched by the user, and passes.
        known: Weights whose licence is known here.
        accepted: The user read and accepted the licence.

    Raises:
        UserError: the licence has to be accepted first; names it, the page and the flag.
    """
    if accepted or is_local(weights):
        return
    hub_id = published.hub_id if weights is None else str(weights)
    found = next((entry for entry in known if entry.hub_id == hub_id), None)
    if found is not None and not found.restricted:
        return
    license = "a licence that is not known here" if found is None else f"the licence {found.license}"
    note = f" {found.note}" if found is not None and found.note else ""
    raise UserError(
        f"the weights {hub_id} are under {license}. Read it at https://huggingface.co/{hub_id}, and if you accept it, "
        f"say so with --accept-license (accept_license=True).{note} Weights in a folder of your own are taken as they are"
    )


def is_local(weights: str | Path | None) -> bool:
    """True for a folder or file, False for a hub id (`owner/name` that is no folder here)."""
    if weights is None:
        return False
    if Path(weights).exists():
        return True
    looks_like_path = (
        isinstance(weights, Path) or str(weights).startswith((".", "/", "~")) or str(weights).count("/") != 1
    )
    if looks_like_path:
        raise UserError(
            f"no weights at {weights}. Give an existing folder or file, or a hub id such as facebook/VGGT-1B"
        )
    return False


def import_network(package: Package, module: str, needs: str) -> ModuleType:
    """A module of a network's package.

    Args:
        package: Whose module.
        module: Full name, as `vggt.models.vggt`.
        needs: The weights and their licence, for the message.

    Raises:
        UserError: the package is missing or cannot be imported; says how to install it and which weights it takes.
    """
    cv2()  # these packages import it too, and it has to come before pycolmap
    try:
        with prints_to_stderr():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != package.module:
            raise UserError(
                f"{package.title} is installed, but its dependency {error.name} is not. Install all of it with: {package.install}"
            ) from error
        raise UserError(
            f"{package.title} needs the package {package.module}. Install it with: {package.install}. It takes {needs}"
        ) from error
    except (ImportError, RuntimeError, OSError) as error:  # torchvision of another torch raises a RuntimeError
        raise UserError(
            f"{package.title} is installed, but cannot be imported: {error}. Often torch and torchvision do not fit each "
            f"other; install a pair that does, then: {package.install}"
        ) from error


def load_model(model_class: Any, package: Package, published: Published, weights: str | Path | None) -> torch.nn.Module:
    """A model of another package, in eval mode on the CPU, every one of its tensors read from the weights.

    Args:
        model_class: Has `from_pretrained`, of huggingface_hub's PyTorchModelHubMixin.
        package, published: For messages, and the hub id when there are no weights given.
        weights: Hub id; a folder with config.json and model.safetensors, as `save_pretrained` writes it, or with the
            torch checkpoint that `published` names; or one such file.

    Raises:
        UserError: the weights cannot be read, or do not fill the model.
    """
    source = published.hub_id if weights is None else str(weights)
    try:
        with prints_to_stderr():
            checkpoint = _checkpoint(published, source)
            if checkpoint is not None:
                model = model_class(**_settings(model_class, checkpoint.parent / "config.json"))
                model.load_state_dict(_tensors(checkpoint))
            else:
                model = model_class.from_pretrained(source)
                _check_filled(model, source)
    except pickle.UnpicklingError as error:  # its own text tells people to run the code
        raise UserError(
            f"{package.title}: the checkpoint {source} is broken, or holds more than tensors: then reading it would run code "
            f"of whoever made it. Take the files of https://huggingface.co/{published.hub_id}"
        ) from error
    except _UNLOADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        advice = f" {published.note}" if published.note and not is_local(weights) else ""
        raise UserError(
            f"{package.title}: the weights {source} could not be loaded: {reason}. Needed are the files of "
            f"https://huggingface.co/{published.hub_id}, by that id where the hub can be reached, or as a folder.{advice}"
        ) from error
    return model.eval()


def _checkpoint(published: Published, source: str) -> Path | None:
    """The torch checkpoint to read, where there is no model.safetensors to prefer."""
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        named = path / published.checkpoint
        return named if published.checkpoint and not (path / _SAFETENSORS).exists() and named.is_file() else None
    if not published.checkpoint or source != published.hub_id:
        return None
    try:
        hf_hub_download(source, _SAFETENSORS)
    except EntryNotFoundError as error:
        if isinstance(error, FileNotFoundError):  # the hub cannot be reached: LocalEntryNotFoundError
            raise
        return Path(hf_hub_download(source, published.checkpoint))
    return None


def _tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The state dict in a file; of a pickle tensors only, so that no code in it is run."""
    if checkpoint.suffix == ".safetensors":
        return load_file(checkpoint)
    return torch.load(checkpoint, map_location="cpu", weights_only=True)


def _settings(model_class: Any, config: Path) -> dict[str, Any]:
    """Arguments of the model that stand in config.json; none without one, when the defaults are the published model."""
    if not config.is_file():
        return {}
    known = inspect.signature(model_class.__init__).parameters
    return {key: value for key, value in json.loads(config.read_text("utf-8")).items() if key in known}


def _check_filled(model: torch.nn.Module, source: str) -> None:
    """`from_pretrained` leaves tensors that the file lacks at their random start, in silence; this does not.

    Tensors of the file that the model has no use for are left out, as there.

    Raises:
        ValueError: tensors of the model are not in the file.
    """
    folder = Path(source)
    file = folder / _SAFETENSORS if folder.is_dir() else Path(hf_hub_download(source, _SAFETENSORS))
    with safe_open(str(file), "pt") as opened:
        stored = set(opened.keys())
    state = model.state_dict()
    filled = {state[key].data_ptr() for key in stored if key in state}  # tied tensors are stored once
    missing = [key for key, tensor in state.items() if key not in stored and tensor.data_ptr() not in filled]
    if missing:
        raise ValueError(f"{len(missing)} of {len(state)} tensors are not in {file.name}, {missing[0]} among them")


@contextlib.contextmanager
def prints_to_stderr() -> Iterator[None]:
    """Other packages print while they work; stdout is kept for results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield

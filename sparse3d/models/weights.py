"""Reads weight files without running code from them, and says what does not fit."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sparse3d.errors import UserError

_SHOWN = 5


def load_state(path: Path, inside: str | None = None, *, optional: bool = False) -> dict[str, Tensor]:
    """The tensors of a weight file, on the CPU.

    safetensors files hold nothing but tensors. Of PyTorch's files only those are read that need no code to be unpacked.

    Args:
        path: A .safetensors file, a file of torch.save, or a folder with .safetensors files (all of them together).
        inside: The entry that holds the tensors where they are not at the top, as `extractor` in DISK's file.
        optional: Without that entry they are at the top.

    Raises:
        UserError: the file is absent, damaged, holds code, or is no mapping of names to tensors.
    """
    if path.is_dir():
        parts = sorted(path.glob("*.safetensors"))
        if not parts:
            raise UserError(f"{path} holds no .safetensors file")
        return {name: value for part in parts for name, value in load_state(part, inside, optional=optional).items()}
    if not path.is_file():
        raise UserError(f"the weight file {path} does not exist")
    found = _read(path)
    if inside is not None and not (optional and isinstance(found, Mapping) and inside not in found):
        if not isinstance(found, Mapping) or not isinstance(found.get(inside), Mapping):
            raise UserError(f"{path} has no entry {inside!r} with tensors in it: not the file that was expected")
        found = found[inside]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        keys = ", ".join(map(str, list(found)[:_SHOWN])) if isinstance(found, Mapping) else type(found).__name__
        raise UserError(f"{path} is not a mapping of names to tensors; it holds {keys}")
    return dict(found)


def _read(path: Path) -> object:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(_damaged(path, error)) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise UserError(
                f"{path} cannot be read without running code that it carries, which sparse3d never does. "
                "Use a safetensors file, or one that holds only tensors (torch.save of a state dict)"
            ) from error
        raise UserError(_damaged(path, error)) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise UserError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{path} is cut off or no weight file ({said}). Delete it and get it again: sparse3d models list shows how"


def check_manifest(
    state: Mapping[str, Tensor],
    expected: nn.Module | Mapping[str, tuple[int, ...]],
    *,
    what: str,
    computed: Collection[str] = (),
) -> None:
    """Holds weights to the names and shapes that a network needs: no more, no less.

    Args:
        state: The tensors of a file, renamed as the network names them.
        expected: The network, or the shape of each of its tensors.
        what: What the message calls them, as `disk-lightglue`.
        computed: Entries of the network that it computes by itself and files leave out.

    Raises:
        UserError: names the first that are missing, not expected, or of another shape.
    """
    if isinstance(expected, nn.Module):
        expected = {name: tuple(value.shape) for name, value in expected.state_dict().items()}
    missing = [name for name in expected if name not in state and name not in computed]
    unexpected = [name for name in state if name not in expected]
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name])}"
        for name in expected
        if name in state and tuple(state[name].shape) != tuple(expected[name])
    ]
    wrong = [
        f"{title}: {', '.join(names[:_SHOWN])}" + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        for title, names in (("missing", missing), ("not expected", unexpected), ("other shape", shapes))
        if names
    ]
    if wrong:
        raise UserError(
            f"the weights {what} do not fit the network. {'; '.join(wrong)}. "
            "They are another model or version; see: sparse3d models show"
        )

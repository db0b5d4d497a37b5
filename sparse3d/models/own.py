"""Weight files of the networks that sparse3d trains itself: safetensors whose header says which network, of which sizes, made how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from sparse3d.errors import UserError
from sparse3d.io._atomic import replacing
from sparse3d.models.weights import check_manifest, load_state

Sizes = TypeVar("Sizes")


@dataclass(frozen=True)
class OwnFormat:
    """What the files of one network are called, and which version of the network this sparse3d has."""

    name: str  # as `sparse3d train` calls it
    version: int  # raised when the same tensors would mean something else


def save_own(path: Path, form: OwnFormat, network: nn.Module, sizes: object, facts: Mapping[str, Any]) -> None:
    """Writes a network as float16, with what it takes to build it again, whole or not at all.

    Args:
        path: A .safetensors file.
        form: Of the network.
        network: Anywhere, in any type.
        sizes: The dataclass that it was built from.
        facts: How it was made: the command, steps, data, figures.
    """
    state = {name: value.detach().cpu().half().contiguous() for name, value in network.state_dict().items()}
    header = {"format": f"sparse3d {form.name}", "version": str(form.version)}
    header |= {"sizes": json.dumps(asdict(sizes)), "facts": json.dumps(dict(facts))}  # type: ignore[call-overload]
    with replacing(path) as temporary:
        save_file(state, temporary, header)


def own_sizes(path: Path, form: OwnFormat, kind: type[Sizes]) -> Sizes:
    """The sizes of the network in a file.

    Raises:
        UserError: no such file, not one of this network, or of another version; names both.
    """
    header = _header(path)
    if header.get("format") != f"sparse3d {form.name}":
        raise UserError(
            f"{path} holds {header.get('format', 'no network of sparse3d')!r}, needed weights of {form.name}, as "
            f"`sparse3d train {form.name}` makes"
        )
    if header.get("version") != str(form.version):
        raise UserError(
            f"{path} holds {form.name} version {header.get('version')}, and this sparse3d has version {form.version}. Use the sparse3d that "
            f"made it, or train again: sparse3d train {form.name}"
        )
    try:
        found = json.loads(header["sizes"])
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()})
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"the header of {path} does not say the sizes of its network ({error}): it is damaged"
        ) from error


def own_facts(path: Path) -> dict[str, Any]:
    """How the weights of a file were made."""
    facts: dict[str, Any] = json.loads(_header(path).get("facts", "{}"))
    return facts


def fill_own(path: Path, form: OwnFormat, network: nn.Module) -> None:
    """Puts the tensors of a file into a network of its sizes, which must be all of it.

    Raises:
        UserError: it is damaged, or tensors are missing, surplus or of another shape.
    """
    state = load_state(path)
    check_manifest(state, network, what=f"{path} of {form.name}")
    network.load_state_dict({name: value.float() for name, value in state.items()})


def _header(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise UserError(f"the weight file {path} does not exist")
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is cut off or no safetensors file ({str(error).splitlines()[0]})") from error


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is worth it there: GPUs and CPUs that multiply it in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    known = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return device.type == "cpu" and any(bool(check()) for check in known if check is not None)

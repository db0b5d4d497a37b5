"""Training data on disk: a folder of safetensors files, each with a checksum of what it holds and the number of its format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.io._atomic import replacing

VERSION = 1  # of the tensors' names and meaning; raise it when they change
_KEPT = 3  # shards that a process keeps in memory


def write_shard(path: Path, kind: str, tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> None:
    """Writes one shard, whole or not at all.

    Args:
        path: A .safetensors file.
        kind: What it holds: "scenes" or "pairs".
        tensors: All with the number of samples first.
        facts: What to record of how it was made.
    """
    held = {name: value.contiguous() for name, value in tensors.items()}
    header = {
        "format": f"sparse3d {kind}",
        "version": str(VERSION),
        "sha256": _digest(held),
        "facts": json.dumps(facts),
    }
    with replacing(path) as temporary:
        save_file(held, temporary, header)


def read_shard(path: Path, kind: str) -> dict[str, Tensor]:
    """The tensors of a shard.

    Raises:
        UserError: it is cut off, damaged, of another kind or version; names the file.
    """
    again = "Delete it; the command that made it makes it again"
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
    except (SafetensorError, OSError) as error:
        raise UserError(f"the shard {path} is cut off or no shard ({str(error).splitlines()[0]}). {again}") from error
    if header.get("format") != f"sparse3d {kind}":
        raise UserError(f"{path} holds {header.get('format', 'something else')!r}, needed a shard of {kind}")
    if header.get("version") != str(VERSION):
        raise UserError(
            f"the shard {path} is of version {header.get('version')}, and this sparse3d reads version {VERSION}. Make the data again"
        )
    if header.get("sha256") != _digest(tensors):
        raise UserError(f"the shard {path} is damaged: its checksum differs from the one it was written with. {again}")
    return tensors


def facts_of(path: Path) -> dict[str, object] | None:
    """What was recorded when a shard was made, without reading all of it; None when it is no whole file."""
    try:
        with safe_open(path, "pt") as file:
            found: dict[str, object] = json.loads((file.metadata() or {}).get("facts", "{}"))
            return found
    except (SafetensorError, OSError, ValueError):
        return None


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Shards:
    """All samples of one or several folders, in an order that is shuffled anew each time round: sample n is the same in every run.

    The shards are shuffled, and the samples within each, so that a process reads one file after the other.
    """

    def __init__(self, folders: list[Path], kind: str, seed: int) -> None:
        """
        Raises:
            UserError: a folder without shards, or with a file that is none.
        """
        self._kind, self._seed = kind, seed
        self._paths = [path for folder in folders for path in sorted(folder.glob("*.safetensors"))]
        if not self._paths:
            made = "sparse3d train data -o DIR" if kind == "scenes" else "sparse3d train pairs --scenes DIR -o DIR"
            raise UserError(f"no shards in {', '.join(map(str, folders))}. Make them with: {made}")
        self._counts = [_count(path, kind) for path in self._paths]
        self._read = lru_cache(maxsize=_KEPT)(lambda path: read_shard(path, kind))
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __len__(self) -> int:
        """Samples in one round."""
        return sum(self._counts)

    def sample(self, number: int) -> dict[str, Tensor]:
        """The tensors of the sample that comes as `number` (from 0, without end)."""
        turn, place = divmod(number, len(self))
        shard, row = self._order(turn)[place]
        return {name: value[row] for name, value in self._read(self._paths[shard]).items()}

    def _shuffled(self, turn: int) -> list[tuple[int, int]]:
        generator = torch.Generator().manual_seed(1_000_003 * self._seed + turn)
        order = torch.randperm(len(self._paths), generator=generator).tolist()
        return [(s, r) for s in order for r in torch.randperm(self._counts[s], generator=generator).tolist()]

    def __getstate__(self) -> dict[str, object]:  # for worker processes, which open their own files
        return {"paths": self._paths, "counts": self._counts, "kind": self._kind, "seed": self._seed}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update({f"_{name}": value for name, value in state.items()})
        kind = self._kind
        self._read = lru_cache(maxsize=_KEPT)(lambda path: read_shard(path, kind))
        self._order = lru_cache(maxsize=2)(self._shuffled)


def _count(path: Path, kind: str) -> int:
    """Samples in a shard, by its header.

    Raises:
        UserError: it is no whole file.
    """
    try:
        with safe_open(path, "pt") as file:
            return int(next(file.get_slice(name).get_shape()[0] for name in file.keys()))  # noqa: SIM118
    except (SafetensorError, OSError, StopIteration):
        read_shard(path, kind)  # says what is wrong
        raise

"""The weights on this machine: one folder a model, put in whole or not at all.

    <cache>/models/<name>/<file>        the weights
    <cache>/models/<name>/source.json   where they came from, size and sha256 of every file
    <cache>/downloads/                  what is on its way; safe to delete

`path` and `require` never touch the network and import nothing heavy.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any

from sparse3d.errors import UserError
from sparse3d.io import _disk
from sparse3d.io._disk import telling
from sparse3d.models.registry import Bundled, HubRepo, lookup

RECORD = "source.json"
_OTHER_DISK = "set SPARSE3D_CACHE to another folder"


def root() -> Path:
    """SPARSE3D_CACHE, else the platform's folder for caches."""
    chosen = os.environ.get("SPARSE3D_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "sparse3d"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "sparse3d" / "Cache"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sparse3d"


def folder(name: str) -> Path:
    """The folder of a model, whether it is there or not."""
    return root() / "models" / name


def path(name: str) -> Path | None:
    """The weights of a model: its file, or its folder for a whole hub repository; None when they are not here.

    Cheap: it compares the files' sizes with the record, not their checksums; `verify` does that.
    """
    model = lookup(name)
    if isinstance(model.source, Bundled):
        found = Path(str(files(model.source.package) / model.source.resource))
        return found if found.is_file() else None
    recorded = record(name)
    if recorded is None or damaged(name, recorded):
        return None
    if isinstance(model.source, HubRepo):
        return folder(name)
    return folder(name) / next(iter(recorded["files"]))


def require(name: str) -> Path:
    """`path`, or an error that says how to get the weights.

    Raises:
        UserError: they are not on this machine.
    """
    found = path(name)
    if found is None:
        raise UserError(
            f"the weights {name} ({lookup(name).purpose}) are not on this machine. "
            f"Get them with: sparse3d models fetch {name}"
        )
    return found


def record(name: str) -> dict[str, Any] | None:
    """What source.json says of a model; None without a readable one."""
    try:
        recorded = json.loads((folder(name) / RECORD).read_text(encoding="utf-8"))
        return recorded if recorded["files"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def damaged(name: str, recorded: dict[str, Any]) -> list[str]:
    """The files that are absent or have another size than recorded."""
    wrong = []
    for file, facts in recorded["files"].items():
        try:
            same = (folder(name) / file).stat().st_size == facts["size"]
        except OSError:
            same = False
        if not same:
            wrong.append(file)
    return wrong


def verify(name: str) -> list[str]:
    """Reads every file of a model and compares checksums with the record and the registry.

    Returns:
        One line for each file that differs; empty when all is well.

    Raises:
        UserError: the weights are not on this machine.
    """
    here = require(name)
    model, recorded = lookup(name), record(name)
    if isinstance(model.source, Bundled) or recorded is None:
        return []
    wrong = []
    for file, facts in recorded["files"].items():
        found = sha256_of(folder(name) / file)
        if found != facts["sha256"]:
            wrong.append(f"{folder(name) / file} has the checksum {found}, and had {facts['sha256']} when it came")
    if not wrong and model.sha256 and here.is_file() and sha256_of(here) != model.sha256:
        wrong.append(f"{here} was imported with another checksum than the published {model.sha256}")
    return wrong


def sha256_of(file: Path) -> str:
    """Checksum of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def install(name: str, staged: Path, origin: Mapping[str, str]) -> Path:
    """Makes the folder `staged` the folder of a model, in one rename.

    `staged` holds exactly the model's files and lies in `downloads()`, hence on the same disk. Nobody ever sees a part of it: a
    run that is killed before the rename leaves the model as it was.

    Args:
        origin: What to record besides the files: where they came from.

    Returns:
        What `path` returns from now on.
    """
    files_there = sorted(file for file in staged.rglob("*") if file.is_file())
    facts = {}
    for file in files_there:
        _flush(file)
        facts[file.relative_to(staged).as_posix()] = {"size": file.stat().st_size, "sha256": sha256_of(file)}
    model = lookup(name)
    recorded = {
        "model": name,
        "licence": model.licence,
        "licence_url": model.licence_url,
        **origin,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "files": facts,
    }
    (staged / RECORD).write_text(json.dumps(recorded, indent=2) + "\n", encoding="utf-8")
    _flush(staged / RECORD)
    target = folder(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked("install"):
        if target.exists():  # rename cannot replace a folder that holds files
            old = downloads() / f"old-{uuid.uuid4().hex[:8]}"
            os.rename(target, old)
            os.rename(staged, target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(staged, target)
    return require(name)


def _flush(file: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())


def downloads() -> Path:
    """Where files wait until they are whole."""
    made = root() / "downloads"
    made.mkdir(parents=True, exist_ok=True)
    return made


@contextmanager
def locked(what: str) -> Iterator[None]:
    """Lets one process at a time do `what`. The lock goes with the process, however that ends."""
    from filelock import FileLock

    with FileLock(downloads() / f"{what}.lock"):
        yield


@contextmanager
def staging(what: str, *, keep: bool = False) -> Iterator[Path]:
    """A folder in `downloads()` that belongs to this process while the block runs.

    Args:
        what: Its name; another process that asks for the same one waits.
        keep: Leave what an earlier run left, and leave it for a later one: a download of several files that goes on. Otherwise
            the folder starts empty and is removed.
    """
    with locked(what):
        made = downloads() / what
        if not keep:
            shutil.rmtree(made, ignore_errors=True)
        made.mkdir(exist_ok=True)
        try:
            yield made
        finally:
            if not keep:
                shutil.rmtree(made, ignore_errors=True)


def sweep() -> None:
    """Removes what killed runs left in `downloads()`, except downloads that go on (`hub-...`)."""
    from filelock import FileLock, Timeout

    for left in downloads().iterdir():
        if left.name.startswith("old-"):  # a model that was replaced; nobody reads it
            shutil.rmtree(left, ignore_errors=True)
        if not left.is_dir() or left.name.startswith("hub-"):
            continue
        try:
            with FileLock(downloads() / f"{left.name}.lock", timeout=0):
                shutil.rmtree(left, ignore_errors=True)
        except Timeout:  # its process is alive
            continue


def writing() -> AbstractContextManager[None]:
    """Turns what goes wrong with the disk into what to do about it."""
    return telling(root(), "nothing was changed", _OTHER_DISK)


def check_space(needed: int) -> None:
    """Stops before a download that cannot fit.

    Raises:
        UserError: the disk of the cache has less than `needed` bytes.
    """
    _disk.check_space(downloads(), needed, _OTHER_DISK)

"""The scene folder: a manifest, one sub-folder for each finished stage, never anything half-written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparse3d import __version__
from sparse3d.errors import UserError
from sparse3d.io._atomic import is_leftover, replacing, sync, sync_tree
from sparse3d.io._disk import check_space, telling
from sparse3d.io._lock import file_lock
from sparse3d.io.migrate import FORMAT, migrated

MANIFEST = "scene.json"
_PUBLISHED = ("cameras", "views", "depth")
_OTHER = "choose another folder with -o"


def content_hash(*parts: Any) -> str:
    """A short name for settings and inputs: equal values give equal hashes, on any machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class SceneFolder:
    """A folder that holds one scene; see the fields of `scene.json` in docs/scene-folder.md."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path) -> SceneFolder:
        """An existing scene, to read.

        Raises:
            UserError: no scene there, or one of a newer version.
        """
        if not (path / MANIFEST).is_file():
            found = "is not a scene folder (it has no scene.json)" if path.exists() else "does not exist"
            raise UserError(f"{path} {found}. Make a scene with: sparse3d recon PHOTOS -o {path}")
        scene = cls(path)
        scene.manifest()
        return scene

    @classmethod
    def create(cls, path: Path) -> SceneFolder:
        """A scene to write: a new folder, an empty one, or a scene that an earlier run left.

        Raises:
            UserError: the folder cannot be written, holds something else, or is a scene of a newer version.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / f".probe-{uuid.uuid4().hex[:8]}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(f"cannot write to {path}: {error.strerror}. Choose another folder with -o") from error
        others = [p.name for p in path.iterdir() if p.name not in (".lock", "logs") and not is_leftover(p)]
        scene = cls(path)
        if (path / MANIFEST).is_file():
            scene.manifest()
        elif others:
            raise UserError(
                f"{path} holds other files ({', '.join(sorted(others)[:3])}). Choose a new or empty folder with -o"
            )
        return scene

    def manifest(self) -> dict[str, Any]:
        """What scene.json says; an empty new scene when there is none.

        Raises:
            UserError: it cannot be read, or a newer sparse3d wrote it.
        """
        file = self.path / MANIFEST
        if not file.is_file():
            return {"format": FORMAT, "sparse3d": __version__, "stages": {}}
        try:
            manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            version = int(manifest["format"])
            if not isinstance(manifest["stages"], dict):
                raise TypeError("stages")
            manifest = manifest if version > FORMAT else migrated(manifest)
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise UserError(
                f"{file} is not a scene's manifest ({error!r}). Choose another folder, or remove this one"
            ) from error
        if version > FORMAT:
            raise UserError(
                f"{self.path} was written by sparse3d {manifest.get('sparse3d', '?')} in scene format {version}; this is sparse3d "
                f"{__version__}, which reads up to format {FORMAT}. Update with: pip install -U sparse3d, or choose another folder with -o"
            )
        return manifest

    def update(self, values: Mapping[str, Any]) -> None:
        """Replaces some top-level fields of scene.json."""
        manifest = self.manifest() | dict(values)
        with replacing(self.path / MANIFEST) as temporary:
            temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")

    def stage_path(self, name: str) -> Path:
        """Where a stage's output is; it exists only when the stage is finished."""
        return self.path / "stages" / name

    def is_done(self, name: str, key: str) -> bool:
        """Whether a stage was finished from the same inputs and settings."""
        return bool(self.manifest()["stages"].get(name, {}).get("key") == key and self.stage_path(name).is_dir())

    @contextmanager
    def write_stage(self, name: str, key: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """A folder to write a stage's output to, and a dict for what scene.json should say of the stage.

        The folder takes its name, and scene.json its entry, only when the block has ended well; an error leaves what was there.
        """
        final = self.stage_path(name)
        final.parent.mkdir(exist_ok=True)
        for leftover in final.parent.glob(f".{name}.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = final.with_name(f".{name}.{uuid.uuid4().hex[:8]}")
        temporary.mkdir()
        began = time.monotonic()
        facts: dict[str, Any] = {}
        try:
            yield temporary, facts
            sync_tree(temporary)
            self._forget(name)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        if final.exists():
            shutil.rmtree(final)
        os.replace(temporary, final)
        sync(final.parent)
        entry = {"key": key, "seconds": round(time.monotonic() - began, 2)} | facts
        self.update({"stages": self.manifest()["stages"] | {name: entry}})

    def remove_stage(self, name: str) -> None:
        """Takes a stage out of the scene, where it is there."""
        self._forget(name)
        shutil.rmtree(self.stage_path(name), ignore_errors=True)

    def facts(self, name: str) -> dict[str, Any]:
        """What scene.json says of a finished stage; empty for another."""
        entry: dict[str, Any] = self.manifest()["stages"].get(name, {})
        return entry

    def keys(self) -> dict[str, str]:
        """Key of every finished stage: what the files at the top of the folder are published from."""
        return {name: stage["key"] for name, stage in self.manifest()["stages"].items()}

    def _forget(self, name: str) -> None:
        """Takes a stage out of the manifest before its folder changes, so that the two never disagree."""
        stages = self.manifest()["stages"]
        if name in stages:
            self.update({"stages": {key: value for key, value in stages.items() if key != name}})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second run out of the folder, and says of a full or closed disk what to do.

        Raises:
            UserError: another run is at work in this folder, or the disk does not take what is written in the block.
        """
        with (
            telling(self.path, "finished stages are kept", _OTHER),
            file_lock(self.path / ".lock", f"{self.path}. Wait for it, or {_OTHER}"),
        ):
            for folder in (self.path, *(self.path / name for name in _PUBLISHED)):
                for file in folder.iterdir() if folder.is_dir() else ():
                    if is_leftover(file):  # of a killed run
                        file.unlink()
            yield

    def check_space(self, needed: int) -> None:
        """Stops before a run that cannot be stored; errors as of `io._disk.check_space`."""
        check_space(self.path, needed, _OTHER)

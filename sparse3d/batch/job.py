"""One scene of a batch, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from sparse3d.io.scene import content_hash

State = Literal["queued", "done", "failed", "stopped"]


@dataclass(frozen=True)
class Job:
    """A scene to make. Plain values, for it goes to other processes and machines."""

    name: str  # of its folder
    inputs: tuple[str, ...]  # a folder, photos or a video; paths, or URLs that fsspec reads
    output: str  # the scene folder, a path or a URL
    preset: str = "balanced"
    settings: tuple[str, ...] = ()  # as of --set
    poses: str = ""  # as of --poses
    holdout: int = 0

    @staticmethod
    def of(values: Mapping[str, Any]) -> Job:
        """From `as_dict`."""
        return Job(**{**values, "inputs": tuple(values["inputs"]), "settings": tuple(values["settings"])})

    def as_dict(self) -> dict[str, Any]:
        """Values that JSON has."""
        return asdict(self)

    def key(self) -> str:
        """Of what the scene is made from: settings, and names, sizes and times of local files, which need not be read for that."""
        files = [
            (file.name, stat.st_size, stat.st_mtime_ns)
            for given in self.inputs
            for file in (sorted(Path(given).iterdir()) if Path(given).is_dir() else [Path(given)])
            if file.is_file() and (stat := file.stat())
        ]
        return content_hash(self.inputs, files, self.preset, self.settings, self.poses, self.holdout)


@dataclass(frozen=True)
class Outcome:
    """How a scene ended."""

    state: State
    seconds: float = 0.0
    error: str = ""  # why not
    code: int = 0  # exit code of its process, negative for a signal
    attempts: int = 1
    facts: Mapping[str, Any] = field(default_factory=dict)  # photos, registered, gaussians, scores, warnings, peak_mb

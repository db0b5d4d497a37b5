"""`batch.json`: what became of every scene, always whole on the disk."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sparse3d import __version__
from sparse3d.batch.job import Job, Outcome
from sparse3d.errors import UserError
from sparse3d.io._atomic import replacing

_FORMAT = 1


class Record:
    """The scenes of a batch with their states, in one file that is replaced at each change."""

    def __init__(self, path: Path) -> None:
        """Reads what an earlier run left.

        Raises:
            UserError: the file is something else.
        """
        self.path = path
        self.scenes: dict[str, dict[str, Any]] = {}
        if path.is_file():
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
                if stored["format"] > _FORMAT:
                    raise ValueError(f"format {stored['format']}")
                self.scenes = {scene["name"]: scene for scene in stored["scenes"]}
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                raise UserError(
                    f"{path} is not the record of a batch ({error!r}). Choose another folder with -o"
                ) from error

    def earlier(self, job: Job, key: str) -> str:
        """State of a scene in the last run, when it was made from the same; else an empty text."""
        scene = self.scenes.get(job.name, {})
        return str(scene.get("state", "")) if scene.get("key") == key else ""

    def queue(self, jobs: dict[str, tuple[Job, str]]) -> None:
        """Puts scenes in with their keys, as yet to be made."""
        for name, (job, key) in jobs.items():
            self.scenes[name] = job.as_dict() | {"key": key, "state": "queued"}
        self.write()

    def finish(self, job: Job, outcome: Outcome) -> None:
        """Stores how a scene ended."""
        self.scenes[job.name] |= {**asdict(outcome), "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        self.write()

    def counts(self, names: list[str]) -> Counter[str]:
        """How many of these scenes are in which state."""
        return Counter(str(self.scenes[name]["state"]) for name in names)

    def write(self) -> None:
        """Puts it on the disk."""
        values = {"format": _FORMAT, "sparse3d": __version__, "scenes": list(self.scenes.values())}
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(values, indent=1, default=str) + "\n", encoding="utf-8")

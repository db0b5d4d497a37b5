"""What a run says, kept for the scene as well."""

from __future__ import annotations

import platform
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sparse3d import __version__
from sparse3d.errors import UserError
from sparse3d.io.scene import SceneFolder
from sparse3d.progress import Event, Reporter, StageReporter

LOGS = "logs"
_KEPT = 20  # log files of earlier runs
_STEP_EVERY_S = 10.0


@contextmanager
def running(scene: SceneFolder, report: Reporter) -> Iterator[Log]:
    """Locks the scene and logs what happens in the block to a file of its own in `logs/`, errors with their traceback.

    Raises:
        UserError: as of `SceneFolder.locked`.
    """
    with scene.locked():
        folder = scene.path / LOGS
        folder.mkdir(exist_ok=True)
        for old in sorted(folder.glob("*.log"))[: -(_KEPT - 1)]:
            old.unlink()
        began = time.time()
        name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(began))}-{int(began % 1 * 1000):03}.log"
        with open(folder / name, "w", encoding="utf-8", buffering=1) as file:
            log = Log(report, file)
            log.write(f"sparse3d {__version__}, Python {platform.python_version()}, {platform.platform()}")
            log.write(f"arguments: {' '.join(sys.argv[1:])}")
            try:
                yield log
            except UserError as error:
                log.write(f"stopped: {error}")
                raise
            except BaseException:
                log.write(traceback.format_exc())
                raise
            log.write("done")


class Log:
    """Passes events on and keeps the warnings of each stage, which belong into the scene too."""

    def __init__(self, report: Reporter, file: IO[str]) -> None:
        self.report, self.file = report, file
        self.warnings: list[str] = []
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        if event.kind == "warning":
            self.warnings.append(event.message)
        now = time.monotonic()
        if event.kind != "step" or now - self._last > _STEP_EVERY_S or event.current == event.total:
            self._last = now if event.kind == "step" else self._last
            at = f"{event.current} of {event.total} " if event.kind == "step" else ""
            values = " ".join(f"{name} {value:.4g}" for name, value in event.values.items())
            self.write(f"{event.stage} {event.kind} {at}{event.message}{values}")
        self.report(event)

    def write(self, line: str) -> None:
        """A line with the time, UTC, in the run's file. A disk that is full stops the log, not the run."""
        try:
            self.file.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {line}\n")
        except OSError:
            pass

    def stage(self, name: str) -> StageReporter:
        return StageReporter(name, self)

    def taken(self) -> list[str]:
        """The warnings since the last call."""
        warnings, self.warnings = self.warnings, []
        return warnings

    def skipped(self, scene: SceneFolder, stage: str, progress: StageReporter, message: str) -> None:
        """Says that a stage was done before, and again what it warned of."""
        progress.skipped(message)
        for warning in scene.facts(stage)["warnings"]:
            progress.warning(warning)
        self.taken()


def latest_log(scene: Path) -> Path | None:
    """The log of the last run on a scene; None where there is none."""
    return max((scene / LOGS).glob("*.log"), default=None)

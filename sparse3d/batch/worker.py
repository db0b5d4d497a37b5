"""The process that makes one scene: `python -m sparse3d.batch.worker`, a job on stdin, events as JSON lines on stdout.

A process for each scene, so that one that crashes or is killed takes no other along, and all memory is given back.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from sparse3d.batch.job import Job
from sparse3d.batch.remote import fetched, is_url, store
from sparse3d.errors import UserError
from sparse3d.io._lock import InUse
from sparse3d.progress import Event, Reporter

_WAIT_S = 60.0
_EVERY_S = 0.5  # between two steps of a stage that are told


def make_scene(job: Job, report: Reporter) -> dict[str, Any]:
    """Makes the scene of a job, or goes on with it; one photo is lifted.

    Returns:
        What the table of the batch says of it.

    Raises:
        UserError: as of `recon` and `hallucinate`, or a URL cannot be used.
    """
    from sparse3d.config import load_config
    from sparse3d.io.photos import find_photos
    from sparse3d.io.video import VIDEO_SUFFIXES
    from sparse3d.pipeline import hallucinate, recon

    with tempfile.TemporaryDirectory(prefix="sparse3d-batch-") as temporary:
        inputs = [
            fetched(given, Path(temporary) / f"in{i}") if is_url(given) else Path(given)
            for i, given in enumerate(job.inputs)
        ]
        poses = fetched(job.poses, Path(temporary) / "poses") if is_url(job.poses) else Path(job.poses)
        output = Path(temporary) / "scene" if is_url(job.output) else Path(job.output)
        config = load_config(job.preset, job.settings)
        video = len(inputs) == 1 and inputs[0].suffix.lower() in VIDEO_SUFFIXES
        photos = [] if video else find_photos(inputs)
        facts: dict[str, Any]
        if len(photos) == 1:
            made = hallucinate(photos[0], output, config, report=report)
            facts = {"photos": 1, "registered": 1, "gaussians": made["gaussians"], "scores": None}
        else:
            result = recon(
                inputs, output, config, poses=poses if job.poses else None, holdout=job.holdout, report=report
            )
            facts = {"photos": result.photos, "registered": result.registered, "gaussians": result.gaussians}
            facts |= {"scores": result.scores, "warnings": list(result.warnings), "stages": result.seconds}
        if is_url(job.output):
            store(output, job.output)
    return facts


def main() -> None:
    """Reads a job, makes its scene, tells how it goes; ends with the exit code of the command."""
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print belongs to stderr
    job = Job.of(json.loads(sys.stdin.readline()))
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_watch_parent, daemon=True).start()
    if cores := os.environ.get("SPARSE3D_CORES"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    try:
        facts = _when_free(job, _teller(stdout))
        _say(stdout, {"event": "result", "facts": facts | {"peak_mb": _peak_mb()}})
    except UserError as error:
        _say(stdout, {"event": "error", "message": str(error)})
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)
    except Exception as error:
        _say(stdout, {"event": "error", "message": f"{type(error).__name__}: {error}"})
        raise


def _when_free(job: Job, report: Reporter) -> dict[str, Any]:
    """As `make_scene`; waits a while for another process in the scene, which may be the one that this one takes the place of."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            return make_scene(job, report)
        except InUse:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def _teller(stdout: TextIO) -> Reporter:
    last = 0.0

    def tell(event: Event) -> None:
        nonlocal last
        now = time.monotonic()
        if event.kind == "step" and now - last < _EVERY_S and event.current != event.total:
            return
        last = now
        said = {"stage": event.stage, "kind": event.kind, "message": event.message}
        _say(stdout, {"event": "progress", **said, "current": event.current, "total": event.total})

    return tell


def _say(stdout: TextIO, values: dict[str, Any]) -> None:
    stdout.write(json.dumps(values, default=str) + "\n")


def _watch_parent() -> None:
    """Stops when the process that started this one is gone: its end of the pipe closes."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _stop(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _peak_mb() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(size / (1e6 if sys.platform == "darwin" else 1e6 / 1024), 0)


if __name__ == "__main__":
    main()

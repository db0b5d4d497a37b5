"""One scene in a process of its own, watched from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sparse3d.batch.job import Job, Outcome

Tell = Callable[[str, Mapping[str, Any]], None]  # a scene's name, and what its process says
_GRACE_S = 15.0  # to put things in order after SIGTERM


def run_job(
    job: Job,
    tell: Tell,
    *,
    environment: Mapping[str, str],
    timeout_s: float | None = None,
    retries: int = 1,
    stop: threading.Event,
) -> Outcome:
    """Makes a scene in a new process; one that the system killed is tried again.

    Args:
        job: The scene.
        tell: Told its progress.
        environment: Variables on top of this process' own: threads, memory, cores, GPU.
        timeout_s: After so long it is stopped, which counts as failed.
        retries: How often after a crash. Errors that are said are not tried again.
        stop: Ends it from another thread.

    Returns:
        How it ended; errors of any kind are an outcome.
    """
    began = time.monotonic()
    for attempt in range(1, retries + 2):
        outcome = replace(_attempt(job, tell, environment, timeout_s, stop), attempts=attempt)
        if outcome.code >= 0 or outcome.state != "failed":
            break
    return replace(outcome, seconds=round(time.monotonic() - began, 2))


def _attempt(
    job: Job, tell: Tell, environment: Mapping[str, str], timeout_s: float | None, stop: threading.Event
) -> Outcome:
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [sys.executable, "-m", "sparse3d.batch.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", **environment},
            start_new_session=True,  # Ctrl-C comes to us, and we stop it
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        late = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process, stop, timeout_s, late), daemon=True)
        watcher.start()
        last: dict[str, Any] = {}
        try:
            process.stdin.write(json.dumps(job.as_dict()).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:  # it died at once; its exit code tells
            pass
        for line in process.stdout:
            try:
                said = json.loads(line)
            except ValueError:  # cut off by its end
                continue
            if said.get("event") == "progress":
                tell(job.name, said)
            else:
                last = said
        code = process.wait()
        watcher.join()
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - 4000))
        words = errors.read().decode(errors="replace").strip().splitlines()
    if code == 0 and last.get("event") == "result":
        return Outcome("done", facts=last["facts"])
    if stop.is_set():
        return Outcome("stopped", error="stopped; the same command goes on", code=code)
    if late.is_set():
        return Outcome("failed", error=f"took longer than {timeout_s:g} s; finished stages are kept", code=124)
    if code < 0:
        name = signal.Signals(-code).name
        why = "; the machine may have run out of memory, try fewer --workers" if name == "SIGKILL" else ""
        return Outcome("failed", error=f"its process was ended by {name}{why}", code=code)
    return Outcome("failed", error=last.get("message") or (words[-1] if words else "no reason given"), code=code)


def _watch(
    process: subprocess.Popen[bytes], stop: threading.Event, timeout_s: float | None, late: threading.Event
) -> None:
    """Ends the process when it is told to stop or takes too long."""
    began = time.monotonic()
    while process.poll() is None:
        if timeout_s is not None and time.monotonic() - began > timeout_s:
            late.set()
        if stop.wait(0.1) or late.is_set():
            process.terminate()
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
            return

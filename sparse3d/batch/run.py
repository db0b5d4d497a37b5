"""A batch: which scenes are left to do, done by an engine, recorded one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparse3d.batch.engine import Engine, LocalEngine, slots, usable_cores, visible_gpus
from sparse3d.batch.job import Job, Outcome
from sparse3d.batch.process import Tell
from sparse3d.batch.record import Record
from sparse3d.batch.remote import is_url
from sparse3d.config import load_config
from sparse3d.errors import UserError
from sparse3d.io._disk import telling
from sparse3d.io._lock import file_lock
from sparse3d.io.folders import output_folder
from sparse3d.io.images import image_size
from sparse3d.io.photos import find_photos
from sparse3d.io.scene import MANIFEST, SceneFolder
from sparse3d.pipeline.budget import memory_limit, memory_need

_LOOKED_AT = 8  # scenes whose photos say how much memory one takes
_CORES_EACH = 2  # fewer make a scene slower than they make room for others


@dataclass(frozen=True)
class Todo:
    """The scenes of a batch, sorted by what is to be done with them."""

    record: Record
    run: dict[str, tuple[Job, str]]  # by name, with its key
    done: tuple[str, ...]  # names
    failed: tuple[str, ...]  # in an earlier run, not to be tried again

    @property
    def names(self) -> list[str]:
        return [*self.run, *self.done, *self.failed]


def todo(
    jobs: Sequence[Job], state: Path, *, resume: bool = True, retry_failed: bool = False, limit: int | None = None
) -> Todo:
    """Sorts scenes by what an earlier run left.

    Args:
        jobs: All of them.
        state: The batch.json.
        resume: Leave out what is done. Otherwise all are run again, and each still skips the stages that are up to date.
        retry_failed: Run those again that failed in an earlier run from the same photos and settings.
        limit: Run so many at most.

    Raises:
        UserError: `state` is something else, or settings that are wrong.
    """
    for preset, settings in dict.fromkeys((job.preset, job.settings) for job in jobs):
        load_config(preset, settings)  # a wrong one should be known before the first scene
    record = Record(state)
    run: dict[str, tuple[Job, str]] = {}
    done, failed = [], []
    for job in jobs:
        key = job.key()
        before = record.earlier(job, key)
        if resume and before == "done" and (is_url(job.output) or _is_finished(Path(job.output))):
            done.append(job.name)
        elif resume and before == "failed" and not retry_failed:
            failed.append(job.name)
        elif limit is None or len(run) < limit:
            run[job.name] = (job, key)
    return Todo(record, run, tuple(done), tuple(failed))


def batch(work: Todo, engine: Engine, tell: Tell, ended: Callable[[Job, Outcome], None]) -> Mapping[str, int]:
    """Runs what is to do, and writes batch.json after each scene.

    Args:
        work: As of `todo`.
        engine: Who runs it.
        tell: Told the progress of scenes, from other threads.
        ended: Told each scene that ends.

    Returns:
        How many scenes of `work` are in which state, those of earlier runs with them.

    Raises:
        UserError: another batch writes to the same folder, or it cannot be written.
    """
    record = work.record
    folder = output_folder(record.path.parent)
    lock = file_lock(folder / f".{record.path.stem}.lock", f"{folder}. Wait for it, or give each run a --shard")
    with telling(folder, "scenes that are done are kept", "choose another folder with -o"), lock:
        record.queue(work.run)
        running = engine.run([job for job, _ in work.run.values()], tell)
        with contextlib.closing(running):  # type: ignore[type-var]  # a generator
            for job, outcome in running:
                record.finish(job, outcome)
                ended(job, outcome)
    return record.counts(work.names)


def local_engine(jobs: Sequence[Job], workers: int | None, timeout_s: float | None = None) -> LocalEngine:
    """A pool for these scenes: with a GPU one worker for each, else one for two cores, as far as the memory goes.

    Args:
        jobs: To be run; some are looked at for their size.
        workers: Their number; chosen when None.
        timeout_s: For each scene.

    Raises:
        UserError: SPARSE3D_MEMORY is not a size.
    """
    cores, gpus, memory = usable_cores(), visible_gpus(), memory_limit()
    if workers is None:
        by_memory = max(1, int(memory / peak_memory(jobs, _CORES_EACH))) if memory != float("inf") else len(cores)
        workers = min(len(gpus) or max(1, len(cores) // _CORES_EACH), by_memory, max(1, len(jobs)))
    return LocalEngine(tuple(slots(workers, cores, memory, gpus)), timeout_s)


def peak_memory(jobs: Sequence[Job], threads: int) -> float:
    """Bytes that one of these scenes takes, the largest of the first few. At least 1 GB, where nothing is known of the photos."""
    peaks = [1e9]
    for job in jobs[:_LOOKED_AT]:
        if any(is_url(given) for given in job.inputs):
            continue
        try:
            photos = find_photos([Path(given) for given in job.inputs])
        except UserError:  # a video; or nothing, and its own process will say so
            continue
        sizes = [size for photo in photos if (size := image_size(photo)) is not None]
        peaks.append(memory_need(load_config(job.preset, job.settings), sizes, threads).peak)
    return max(peaks)


def _is_finished(path: Path) -> bool:
    """Whether a scene folder is there and published."""
    if not (path / MANIFEST).is_file():
        return False
    try:
        scene = SceneFolder.open(path)
    except UserError:
        return False
    return bool(scene.keys()) and scene.manifest().get("published") == scene.keys()

"""Scenes as tasks of a Ray cluster, each in a process of its own on the node that takes it."""

from __future__ import annotations

import io
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sparse3d.batch.job import Job, Outcome
from sparse3d.batch.process import Tell, run_job
from sparse3d.batch.remote import is_url
from sparse3d.batch.run import peak_memory
from sparse3d.errors import UserError, require
from sparse3d.io.photos import find_photos
from sparse3d.io.video import VIDEO_SUFFIXES

_LOST = 3  # times that a scene is begun again when its node dies
_POLL_S = 0.3


@dataclass(frozen=True)
class RayEngine:
    """A cluster that is there already (`ray start`), or one of this machine alone (address "local")."""

    address: str = "auto"
    cpus: int = 2  # that each scene asks for
    gpus: float = 0.0
    ship: bool = (
        False  # photos go to the node with the task and the scene comes back; else both are on a shared disk, or URLs
    )
    timeout_s: float | None = None

    def run(self, jobs: Sequence[Job], tell: Tell) -> Iterator[tuple[Job, Outcome]]:
        """As of `Engine.run`. A scene whose node dies is begun again on another one, from its last stage where the disk is shared.

        Raises:
            UserError: no Ray, no cluster, or --ship with URLs.
        """
        ray = require("ray", extra="ray", purpose="running a batch on a cluster")
        if self.ship and any(is_url(text) for job in jobs for text in (*job.inputs, job.output)):
            raise UserError(
                "--ship sends local photos along; with URLs the nodes read and write them themselves. Leave it out"
            )
        ours = not ray.is_initialized()
        if ours:
            try:
                ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise UserError(
                    f"no Ray cluster at {self.address}: {error}. Start one with: ray start --head; or use --address local"
                ) from error
        try:
            yield from self._run(ray, jobs, tell)
        finally:
            if ours:
                ray.shutdown()

    def _run(self, ray: Any, jobs: Sequence[Job], tell: Tell) -> Iterator[tuple[Job, Outcome]]:
        from ray.util.queue import Empty, Queue

        said = Queue(actor_options={"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}})
        memory = int(peak_memory(jobs, self.cpus))
        task = ray.remote(_task).options(
            num_cpus=self.cpus, num_gpus=self.gpus, memory=memory, max_retries=_LOST, retry_exceptions=False
        )
        waiting = {}
        for job in jobs:
            files = _packed(job) if self.ship else None
            waiting[task.remote(job.as_dict(), files, self.cpus, memory, self.timeout_s, said)] = job
        try:
            while waiting:
                done, _ = ray.wait(list(waiting), timeout=_POLL_S)
                try:
                    while True:
                        name, words = said.get_nowait()
                        tell(name, words)
                except Empty:
                    pass
                for reference in done:
                    job = waiting.pop(reference)
                    yield job, self._outcome(ray, reference, job)
        finally:
            for reference in waiting:
                ray.cancel(reference, force=False)
            said.shutdown()

    def _outcome(self, ray: Any, reference: Any, job: Job) -> Outcome:
        try:
            values, scene = ray.get(reference)
        except ray.exceptions.RayError as error:
            return Outcome("failed", error=f"its node was lost {_LOST + 1} times: {str(error).splitlines()[0]}", code=1)
        if scene is not None:
            try:
                unpack(scene, Path(job.output))
            except UserError as error:
                return Outcome("failed", error=str(error), code=2)
        return Outcome(**values)


def _task(
    values: dict[str, Any], files: bytes | None, cpus: int, memory: int, timeout_s: float | None, said: Any
) -> tuple[dict[str, Any], bytes | None]:
    """Makes a scene on the node that this runs on. Returns the outcome, and the scene where its photos came along."""
    import ray

    job, stop = Job.of(values), threading.Event()
    node = ray.util.get_node_ip_address()

    def tell(name: str, words: Any) -> None:
        said.put_nowait((name, {**words, "node": node}))

    environment = {"OMP_NUM_THREADS": str(cpus), "SPARSE3D_MEMORY": str(memory)}
    try:
        if files is None:
            return asdict(_made(job, tell, environment, timeout_s, stop, node)), None
        with tempfile.TemporaryDirectory(prefix="sparse3d-ray-") as temporary:
            folder = Path(temporary)
            unpack(files, folder / "in")
            poses = str(folder / "in" / job.poses) if job.poses else ""
            names = sorted((folder / "in" / "photos").iterdir())
            here = replace(job, inputs=tuple(map(str, names)), output=str(folder / "scene"), poses=poses)
            outcome = _made(here, tell, environment, timeout_s, stop, node)
            return asdict(outcome), packed(folder / "scene") if outcome.state == "done" else None
    finally:
        stop.set()


def _made(
    job: Job, tell: Tell, environment: dict[str, str], timeout_s: float | None, stop: threading.Event, node: str
) -> Outcome:
    began = time.monotonic()
    tell(job.name, {"event": "progress", "stage": "start", "kind": "start"})
    outcome = run_job(job, tell, environment=environment, timeout_s=timeout_s, stop=stop)
    seconds = round(time.monotonic() - began, 2)
    return replace(outcome, seconds=seconds, facts={**outcome.facts, "node": node})


def _packed(job: Job) -> bytes:
    """The files of a job: its photos, and the file of its cameras under the name that `poses` says."""
    buffer = io.BytesIO()
    paths = [Path(given) for given in job.inputs]
    video = len(paths) == 1 and paths[0].suffix.lower() in VIDEO_SUFFIXES
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for photo in paths if video else find_photos(paths):
            archive.add(photo.resolve(), f"photos/{photo.name}")
        if job.poses:
            archive.add(Path(job.poses).resolve(), job.poses.strip("/"))
    return buffer.getvalue()


def packed(folder: Path) -> bytes:
    """All files of a folder in one piece."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as archive:  # no hard links: each file whole
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                archive.add(file, file.relative_to(folder).as_posix())
    return buffer.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    """Writes the files of `packed` to a folder; links, devices and names that lead out of it are refused.

    Raises:
        UserError: there is such a name.
    """
    inside = folder.resolve()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            target = (inside / member.name).resolve()
            if not member.isfile() or not target.is_relative_to(inside) or target == inside:
                raise UserError(
                    f"what came back for {folder} holds {member.name!r}, which is no file within it; it is left out"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            source = archive.extractfile(member)
            assert source is not None
            target.write_bytes(source.read())

"""Who runs the scenes: processes of this machine, or a Ray cluster."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from sparse3d.batch.job import Job, Outcome
from sparse3d.batch.process import Tell, run_job


class Engine(Protocol):
    """Runs jobs side by side. A closed iterator stops what still runs."""

    def run(self, jobs: Sequence[Job], tell: Tell) -> Iterator[tuple[Job, Outcome]]:
        """Each job with its outcome as it ends; `tell` is called from other threads."""
        ...


@dataclass(frozen=True)
class Slot:
    """What one process of the pool may use."""

    threads: int
    memory: float  # bytes
    cores: tuple[int, ...] = ()  # which ones; empty: any
    gpu: str = ""  # as CUDA_VISIBLE_DEVICES has it

    def environment(self) -> dict[str, str]:
        """Variables for its processes."""
        values = {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}
        if self.memory != float("inf"):
            values["SPARSE3D_MEMORY"] = str(int(self.memory))
        if self.cores:
            values["SPARSE3D_CORES"] = ",".join(map(str, self.cores))
        if self.gpu:
            values["CUDA_VISIBLE_DEVICES"] = self.gpu
        return values


def slots(workers: int, cores: Sequence[int], memory: float, gpus: Sequence[str]) -> list[Slot]:
    """The machine divided among `workers` processes: cores and memory evenly, GPUs in turn.

    Args:
        workers: At least 1.
        cores: Numbers of the cores that may be used. With more workers than cores, each core is shared.
        memory: Bytes of all together.
        gpus: As CUDA_VISIBLE_DEVICES names them.
    """
    threads = max(1, len(cores) // workers)
    made = []
    for i in range(workers):
        own = tuple(cores[i * threads : (i + 1) * threads]) if 1 < workers <= len(cores) else ()
        own = own if hasattr(os, "sched_setaffinity") else ()
        made.append(Slot(threads, memory / workers, own, gpus[i % len(gpus)] if gpus else ""))
    return made


def usable_cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if named else [str(i) for i in range(count)]


@dataclass(frozen=True)
class LocalEngine:
    """A pool of processes on this machine, a new one for each scene."""

    slots: tuple[Slot, ...]
    timeout_s: float | None = None

    def run(self, jobs: Sequence[Job], tell: Tell) -> Iterator[tuple[Job, Outcome]]:
        free: queue.Queue[Slot] = queue.Queue()
        for slot in self.slots:
            free.put(slot)
        stop = threading.Event()

        def work(job: Job) -> Outcome:
            if stop.is_set():
                return Outcome("stopped", error="stopped before it began")
            slot = free.get()
            try:
                tell(job.name, {"event": "progress", "stage": "start", "kind": "start"})
                return run_job(job, tell, environment=slot.environment(), timeout_s=self.timeout_s, stop=stop)
            finally:
                free.put(slot)

        with ThreadPoolExecutor(len(self.slots)) as pool:
            waiting: dict[Future[Outcome], Job] = {pool.submit(work, job): job for job in jobs}
            try:
                while waiting:
                    # a time limit, for without one a Ctrl-C is not heard on every system
                    done, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield waiting.pop(future), future.result()
            finally:
                stop.set()

"""Procedural scenes as training data: photos of random scenes by random cameras, with exact cameras and depth."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sparse3d.io.folders import output_folder
from sparse3d.progress import StageReporter
from sparse3d.train.caster import cast
from sparse3d.train.rigs import random_cameras
from sparse3d.train.scenes import random_scene
from sparse3d.train.sensor import Sensor
from sparse3d.train.shards import facts_of, write_shard
from sparse3d.types import View

_ATTEMPTS = 20  # scenes that are thrown away, for want of places to stand, before something must be wrong


@dataclass(frozen=True)
class DataPlan:
    """What data to make."""

    scenes: int = 500
    views: int = 8  # photos of each
    height: int = 240  # pixels
    width: int = 320  # pixels
    shard: int = 16  # scenes in a file
    seed: int = 0


def photographed(seed: int, plan: DataPlan, kind: str | None = None) -> dict[str, Tensor]:
    """Photos of one random scene.

    Args:
        seed: Of the scene, its cameras and their noise.
        plan: Views and size.
        kind: Of `scenes.NAMES`; a random one when left out.

    Returns:
        images (V, 3, H, W) uint8 sRGB; depth (V, H, W) float16 metres, 0 in the sky; c2w (V, 4, 4) and K (V, 3, 3) float32.
    """
    for attempt in range(_ATTEMPTS):
        generator = torch.Generator().manual_seed(seed + 500_000_000 * attempt)
        scene = random_scene(generator, kind)
        cameras = random_cameras(scene, plan.views, plan.height, plan.width, generator)
        if cameras is not None:
            break
    else:
        raise RuntimeError(f"no cameras found in {_ATTEMPTS} scenes from seed {seed}")
    drawn = [cast(scene, camera) for camera in cameras]
    sensor = Sensor(generator, float(drawn[0][0].mean()))
    return {
        "images": torch.stack([sensor.photograph(light) for light, _ in drawn]),
        "depth": torch.stack([depth for _, depth in drawn]).half(),
        "c2w": torch.stack([camera.c2w for camera in cameras]),
        "K": torch.stack([camera.K for camera in cameras]),
    }


def views_of(sample: dict[str, Tensor]) -> list[View]:
    """The photos of one sample as views."""
    cameras = zip(sample["images"], sample["K"], sample["c2w"], strict=True)
    return [View(f"{index:02d}", image.float() / 255, K, c2w) for index, (image, K, c2w) in enumerate(cameras)]


def make_scenes(plan: DataPlan, folder: Path, workers: int, progress: StageReporter) -> int:
    """Writes shards of scenes, leaving out those that are there already.

    Args:
        plan: What to make; the same plan makes the same scenes whatever the number of workers.
        folder: Made when missing.
        workers: Processes; 1 works in this one.
        progress: Told each shard.

    Returns:
        Shards that were made.

    Raises:
        UserError: the folder cannot be written to.
    """
    jobs = []
    for first in range(0, plan.scenes, plan.shard):
        count = min(plan.shard, plan.scenes - first)
        facts = {"seed": plan.seed, "first": first, "count": count, "size": [plan.views, plan.height, plan.width]}
        path = output_folder(folder) / f"scenes-{plan.seed}-{first:06d}.safetensors"
        if facts_of(path) != facts:
            jobs.append((path, plan, first, count, facts))
    in_parallel(_write, jobs, workers, progress, "scenes")
    return len(jobs)


def _write(path: Path, plan: DataPlan, first: int, count: int, facts: dict[str, object]) -> None:
    base = 1_000_000 * plan.seed
    parts = [photographed(base + number, plan) for number in range(first, first + count)]
    write_shard(path, "scenes", {name: torch.stack([part[name] for part in parts]) for name in parts[0]}, facts)


def in_parallel(
    work: Callable[..., None], jobs: list[tuple[object, ...]], workers: int, progress: StageReporter, what: str
) -> None:
    """Calls `work` with each of the jobs in so many processes of one thread each."""
    progress.start(what, total=len(jobs))
    for done, _ in enumerate(_finished(work, jobs, workers), start=1):
        progress.step(done, len(jobs), f"shards of {what}")
    progress.done()


def _finished(work: Callable[..., None], jobs: list[tuple[object, ...]], workers: int) -> Iterator[None]:
    if workers <= 1:
        for job in jobs:
            yield work(*job)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures: list[Future[None]] = [pool.submit(work, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise

"""What a run will take of memory and disk, known before it starts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sparse3d.config import Config
from sparse3d.errors import UserError
from sparse3d.geometry import fitted_size
from sparse3d.io.images import image_size
from sparse3d.io.scene import SceneFolder
from sparse3d.pipeline.log import Log

# Bytes, fitted to peak resident sizes on the bundled photos (docs/robustness.md)
_FIXED = 500e6  # Python, torch, pycolmap
_DECODE = 30  # a pixel of the largest file while it is turned into floats and reduced
_IMAGE = 36  # a pixel of a working image: itself, its undistorted copy, its place in the loss
_POSE = 250e6  # matching and mapping
_SIFT = 200  # a pixel of the image that a thread finds features in
_SMALL_PX = 900  # shorter photos are doubled for that
_SWEEP = 20  # a pixel and depth plane of the view that is swept
_GAUSSIAN = 1200  # parameters, gradients, Adam's moments, what the renderer keeps of each
_LEAST_PERCENT = 40  # working sizes are not lowered below this share of what was asked for


@dataclass(frozen=True)
class Need:
    """The peak of each stage, bytes. Stages run one after the other."""

    photos: float
    pose: float
    init: float
    optimize: float

    @property
    def peak(self) -> float:
        return max(self.photos, self.pose, self.init, self.optimize)


def memory_need(config: Config, sizes: Sequence[tuple[int, int]], threads: int) -> Need:
    """An estimate of the memory that the stages take on the CPU.

    Args:
        config: Working sizes, planes, Gaussians.
        sizes: Height and width of each photo's file.
        threads: That find features at the same time.
    """
    if not sizes:
        return Need(*[_FIXED] * 4)
    held = _FIXED + _IMAGE * sum(_pixels(size, config.photos.max_size) for size in sizes)
    small = min(min(max(size), config.pose.max_size) for size in sizes) < _SMALL_PX
    features = sum(sorted((_pixels(size, config.pose.max_size) for size in sizes), reverse=True)[:threads])
    swept = max(_pixels(size, config.init.max_size) for size in sizes)
    largest = max(height * width for height, width in sizes)
    return Need(
        held + _DECODE * largest,
        held + _POSE + _SIFT * (4 if small else 1) * features,
        held + _SWEEP * config.init.planes * swept,
        held + _GAUSSIAN * config.init.max_gaussians,
    )


def affordable(scene: SceneFolder, paths: Sequence[Path], config: Config, log: Log) -> Config:
    """The settings, with smaller working sizes where the photos would not fit into the memory.

    Args:
        scene: Where the results go.
        paths: Of the photos; what is not an image, as a video, counts nothing.
        config: What was asked for.
        log: Warned of what is lowered.

    Raises:
        UserError: the disk has too little space for the scene, or the memory for two fifths of the working sizes; says what is needed.
    """
    sizes = [size for path in paths if (size := image_size(path)) is not None]
    if not scene.keys():
        scene.check_space(disk_need(config, sizes))
    return within_memory(config, sizes, torch.get_num_threads(), memory_limit(), log.stage("memory").warning)


def within_memory(
    config: Config, sizes: Sequence[tuple[int, int]], threads: int, available: float, warn: Callable[[str], None]
) -> Config:
    """The settings, or smaller working sizes that fit into `available` bytes; other arguments as of `memory_need`.

    Raises:
        UserError: two fifths of the sizes do not fit either.
    """
    need = memory_need(config, sizes, threads).peak
    if need <= available:
        return config
    for percent in range(95, _LEAST_PERCENT - 1, -5):
        lowered = _scaled(config, percent / 100)
        least = memory_need(lowered, sizes, threads).peak
        if least <= available:
            warn(
                f"these {len(sizes)} photos need about {_gb(need)} of memory and {_gb(available)} may be used: working sizes are lowered "
                f"to {percent} % (photos.max_size={lowered.photos.max_size}, init.max_size={lowered.init.max_size}). "
                "SPARSE3D_MEMORY=8GB would set another limit"
            )
            return lowered
    raise UserError(
        f"these {len(sizes)} photos need about {_gb(need)} of memory, about {_gb(least)} at the smallest working sizes, and "
        f"{_gb(available)} may be used. Use fewer or smaller photos, or --preset fast; SPARSE3D_MEMORY=8GB would set another limit"
    )


def disk_need(config: Config, sizes: Sequence[tuple[int, int]]) -> int:
    """Bytes that a scene takes at most, with the checkpoint: pictures and depth at 3 and 2 bytes a pixel, Gaussians three times and a half."""
    pixels = sum(_pixels(size, config.photos.max_size) for size in sizes)
    gaussian = 4 * (14 + 3 * (config.optimize.sh_degree + 1) ** 2)
    return int(20e6 + 6 * pixels + config.init.max_gaussians * gaussian * (3 + 4))


def memory_limit() -> float:
    """Bytes that a run may use: SPARSE3D_MEMORY, else nine tenths of what the machine or the container has.

    What is free at the moment does not count, so that the same command gives the same scene.

    Raises:
        UserError: SPARSE3D_MEMORY is not a size.
    """
    chosen = os.environ.get("SPARSE3D_MEMORY")
    if chosen:
        return parse_size(chosen, "SPARSE3D_MEMORY")
    return 0.9 * total_memory()


def total_memory() -> float:
    """Bytes of the machine, or of the control group that this process is in. Infinite where the system does not say."""
    try:
        total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # Windows
        return float("inf")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, float(Path(file).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return total


def parse_size(text: str, where: str) -> float:
    """Bytes of `4GB`, `512 MB` or a plain number.

    Raises:
        UserError: something else.
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]?)i?B?\s*", text, re.IGNORECASE)
    try:
        number = float(found[1]) if found else 0.0
    except ValueError:
        number = 0.0
    if not found or not number > 0:
        raise UserError(f"{where} is {text!r}, needed a size as 4GB or 512MB")
    return number * 10.0 ** (3 * " KMGT".index(found[2].upper() or " "))


def _pixels(size: tuple[int, int], longest: int) -> int:
    height, width = fitted_size(*size, longest)
    return height * width


def _scaled(config: Config, share: float) -> Config:
    def sized(size: int, least: int) -> int:
        return max(least, round(size * share))

    return replace(
        config,
        photos=replace(config.photos, max_size=sized(config.photos.max_size, 64)),
        pose=replace(config.pose, max_size=sized(config.pose.max_size, 64)),
        init=replace(config.init, max_size=sized(config.init.max_size, 32)),
    )


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"

"""Scenes to measure on: a made-up relief of any size, and a photographed one before and after its optimization."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from harness.photo_sets import DATA, fold_of, with_given_cameras
from sparse3d.config import load_config
from sparse3d.geometry import quat_from_rotation
from sparse3d.init.initialize import initialize
from sparse3d.io.ply import read_gaussians, write_gaussians
from sparse3d.kernels.reference import SH_C0
from sparse3d.optimize.loop import optimize
from sparse3d.progress import StageReporter
from sparse3d.render import rasterizer, render
from sparse3d.types import Cameras, Gaussians, View

SIZES = ("252x189", "504x378", "1008x756")  # a quarter, a half and all of a photo of 1008 pixels
COUNTS = (20_000, 100_000, 300_000)  # Gaussians
_DISTANCE = 4.0  # from the relief's cameras to what they turn around


@dataclass(frozen=True)
class Scene:
    """Gaussians, and views that they are drawn from or fitted to."""

    name: str
    gaussians: Gaussians
    views: tuple[View, ...]


def read_size(text: str) -> tuple[int, int]:
    """Width and height of "252x189"."""
    width, height = map(int, text.split("x"))
    return width, height


def relief(count: int, width: int, height: int) -> tuple[Gaussians, Cameras]:
    """About `count` Gaussians on a wall with waves and steps, and three cameras 8.5 degrees apart that see it.

    A third of the Gaussians lies on the rays of each camera: about 0.6 sample spacings wide and flat along the ray,
    opacities 0.1 to 0.9, spherical harmonics of degree 3. So they lie in a scene that was initialized and not yet optimized.
    """
    generator = torch.Generator().manual_seed(0)
    rows = max(1, round(math.sqrt(count / 3 * height / width)))
    columns = max(1, round(count / 3 / rows))
    focal = 0.96 * width  # 55 degrees across
    c2w = torch.stack([_orbit(math.radians(angle)) for angle in (-8.5, 0.0, 8.5)])
    parts = [_seen_samples(camera, rows, columns, height / width, focal / width, generator) for camera in c2w]
    gaussians = Gaussians(*(torch.cat(values).contiguous() for values in zip(*parts, strict=True)))
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return gaussians, Cameras(c2w, K.repeat(3, 1, 1), height, width)


def _orbit(angle: float) -> Tensor:
    """A camera that was turned about a point in front of it. (4, 4) camera to world"""
    c2w = torch.eye(4)
    c2w[0, 0] = c2w[2, 2] = math.cos(angle)
    c2w[0, 2], c2w[2, 0] = math.sin(angle), -math.sin(angle)
    c2w[:3, 3] = torch.tensor([0.0, 0.0, _DISTANCE]) - _DISTANCE * c2w[:3, 2]
    return c2w


def _seen_samples(
    c2w: Tensor, rows: int, columns: int, aspect: float, focal: float, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """The fields of Gaussians on the rays of one camera whose image is 1 wide and `aspect` high."""

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    count = rows * columns
    v, u = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
    u, v = u.flatten() + 0.2 / columns * noise(count), v.flatten() + 0.2 / rows * noise(count)
    rays = torch.stack([(u - 0.5) / focal, (v - 0.5) * aspect / focal, torch.ones(count)], dim=1) @ c2w[:3, :3].T
    depth = torch.full((count,), _DISTANCE)
    for _ in range(30):  # damped, since the relief has steps
        x, y, _z = (c2w[:3, 3] + rays * depth[:, None]).unbind(1)
        surface = _DISTANCE + 0.5 * torch.sin(1.7 * x) * torch.cos(1.3 * y)
        surface = surface + 0.25 * torch.sin(4.1 * x + 1) * torch.sin(3.7 * y) + 0.6 * (torch.sin(2.2 * x + 2) > 0.6)
        depth = depth + 0.7 * ((surface - c2w[2, 3]) / rays[:, 2] - depth)
    means = c2w[:3, 3] + rays * depth[:, None] + 0.01 * noise(count, 3)
    spacing = depth * math.sqrt(aspect / count) / focal
    log_scales = (0.6 * spacing).log()[:, None] + torch.tensor([1.0, 1.0, 0.3]).log() + 0.25 * noise(count, 3)
    quats = quat_from_rotation(c2w[None, :3, :3]) + 0.25 * noise(count, 4)
    opacities = 0.1 + 0.8 * torch.rand(count, generator=generator)
    colors = 0.3 * torch.sin(means * torch.tensor([3.0, 4.0, 5.0])) + 0.08 * noise(count, 3)
    sh = torch.cat([colors[:, None] / SH_C0, 0.05 * noise(count, 15, 3)], dim=1)
    return means, quats, log_scales, opacities.logit(), sh


def with_targets(gaussians: Gaussians, cameras: Cameras) -> Scene:
    """A scene to optimize: the views show Gaussians that were moved a little and coloured otherwise."""
    generator = torch.Generator().manual_seed(5)
    sh = gaussians.sh.clone()
    sh[:, 0] += 0.5 * torch.randn(sh[:, 0].shape, generator=generator)
    means = gaussians.means + 0.004 * torch.randn(gaussians.means.shape, generator=generator)
    images = render(replace(gaussians, means=means, sh=sh), cameras).image.clamp(0, 1)
    views = tuple(View(str(k), images[k], cameras.K[k], cameras.c2w[k]) for k in range(len(cameras)))
    return Scene("relief", gaussians, views)


def photographed(cache: Path) -> tuple[Scene, Scene]:
    """LLFF "fern" from three views at 504x378, as initialized and as optimized with the balanced preset.

    Args:
        cache: Folder where both sets of Gaussians are kept for the next time.

    Raises:
        SystemExit: the photo set is not there.
    """
    config = load_config("balanced")
    training = with_given_cameras(DATA / "fern", fold_of(DATA / "fern", 3), 504, config).training
    files = (cache / "fern3-initialized.ply", cache / "fern3-trained.ply")
    if not all(file.is_file() for file in files):
        cache.mkdir(parents=True, exist_ok=True)
        start = initialize(training, config.init, StageReporter("init")).gaussians
        generator = torch.Generator().manual_seed(config.seed)
        trained = optimize(
            start,
            training.views,
            config.optimize,
            rasterizer(config.renderer),
            generator=generator,
            progress=StageReporter("optimize"),
        ).gaussians
        for file, gaussians in zip(files, (start, trained), strict=True):
            write_gaussians(file, gaussians)
    initialized, trained = (Scene(file.stem.replace("-", ", "), read_gaussians(file), training.views) for file in files)
    return initialized, trained

"""What photos of different exposure cost, and how much of that `optimize.exposure` brings back.

    python benchmarks/exposure.py                                    # fern and apartment_walk, 3 and 6 views
    python benchmarks/exposure.py fern --views 3 --spread 0.5 2 --tint 0 --set optimize.steps=800

The training photos of a set are multiplied by a gain each, drawn between the two of --spread by equal factors, and each channel by one
more within 1 +- --tint; then clipped and rounded to 8 bits. The first Gaussians are found from what that gives. Test photos stay as they
are. No exposure of the training photos is theirs, so PSNR is given twice: of the renders as they are, and after the best gain and
offset per channel, the same for all test photos of the scene.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from harness.photo_sets import DATA, PhotoSet, fold_of, folder_of, with_given_cameras
from harness.tables import Table
from torch import Tensor

from sparse3d.config import Config, load_config
from sparse3d.init.initialization import Origin, Start
from sparse3d.init.initialize import initialize
from sparse3d.metrics.image import psnr
from sparse3d.optimize.loop import look_of, optimize
from sparse3d.progress import StageReporter
from sparse3d.render import drawer, rasterizer
from sparse3d.types import View


@dataclass(frozen=True)
class Outcome:
    """Of one run."""

    psnr: float
    fitted_psnr: float  # after the best gain and offset of the whole scene
    cpu_s: float  # of the optimization


def with_gains(views: Sequence[View], spread: tuple[float, float], tint: float, seed: int) -> tuple[View, ...]:
    """The views as photos of other exposures and white balances, clipped and of 8 bits."""
    generator = torch.Generator().manual_seed(seed)
    low, high = math.log(spread[0]), math.log(spread[1])
    whole = (low + (high - low) * torch.rand(len(views), 1, generator=generator)).exp()
    gains = whole * (1 + tint * (2 * torch.rand(len(views), 3, generator=generator) - 1))
    return tuple(
        replace(view, image=((view.image * gain[:, None, None]).clamp(0, 1) * 255).round() / 255)
        for view, gain in zip(views, gains, strict=True)
    )


def fitted(renders: Sequence[Tensor], photos: Sequence[Tensor]) -> list[Tensor]:
    """The renders after the gain and offset of each channel, the same for all, that give the best mean PSNR.

    That is the least sum of log(MSE) over the photos: least squares, each photo weighed by 1 / MSE, until that stays.
    """
    changed = list(renders)
    for _ in range(10):
        weights = [1 / float((image - photo).square().mean()) for image, photo in zip(changed, photos, strict=True)]
        roots = torch.cat(
            [torch.full((photo[0].numel(),), w**0.5) for photo, w in zip(photos, weights, strict=True)]
        ).double()
        gains, offsets = torch.ones(3, 1, 1), torch.zeros(3, 1, 1)
        for channel in range(3):
            drawn = torch.cat([render[channel].flatten() for render in renders]).double()
            wanted = torch.cat([photo[channel].flatten() for photo in photos]).double()
            columns = torch.stack([drawn, torch.ones_like(drawn)], dim=1) * roots[:, None]
            gains[channel], offsets[channel] = (
                torch.linalg.lstsq(columns, wanted[:, None] * roots[:, None]).solution.flatten().float()
            )
        changed = [(gains * render + offsets).clamp(0, 1) for render in renders]
    return changed


def outcome(start: Start, views: tuple[View, ...], test: Sequence[View], config: Config) -> Outcome:
    """One scene, measured on the test photos."""
    began = time.process_time()
    fit = optimize(
        start.gaussians,
        views,
        config.optimize,
        rasterizer(config.renderer),
        generator=torch.Generator().manual_seed(config.seed),
        progress=StageReporter("optimize"),
        guessed=start.origin == int(Origin.GUESSED),
    )
    spent = time.process_time() - began
    draw = drawer(fit.gaussians, look_of(views, config.optimize), config.renderer)
    renders, photos = [draw(view.cameras).image[0].clamp(0, 1) for view in test], [view.image for view in test]

    def mean(pictures: Sequence[Tensor]) -> float:
        return math.fsum(map(psnr, pictures, photos)) / len(photos)

    return Outcome(mean(renders), mean(fitted(renders, photos)), spent)


def add_rows(table: Table, name: str, photos: PhotoSet, options: argparse.Namespace) -> None:
    """The rows of one set: photos as they are, then changed, each with the modes asked for."""
    config = load_config(options.preset, options.settings)
    changed = with_gains(photos.training.views, tuple(options.spread), options.tint, options.seed)
    for which, views in (("as they are", photos.training.views), ("changed", changed)):
        start = initialize(replace(photos.training, views=views), config.init, StageReporter("init")).start
        for mode in options.modes:
            settings = replace(config, optimize=replace(config.optimize, exposure=mode))
            found = outcome(start, views, photos.test, settings)
            scores = (f"{found.psnr:.2f}", f"{found.fitted_psnr:.2f}", f"{found.cpu_s:.0f}")
            table.row(name, str(len(views)), which, mode, *scores)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", default=["fern", "apartment_walk"], help=f"names below {DATA}, or folders")
    parser.add_argument("--views", type=int, nargs="+", default=[3, 6])
    parser.add_argument("--size", type=int, default=504, help="longer side, pixels")
    parser.add_argument("--spread", type=float, nargs=2, default=(0.7, 1.4), metavar=("LOW", "HIGH"))
    parser.add_argument("--tint", type=float, default=0.1)
    parser.add_argument("--modes", nargs="+", choices=("auto", "on", "off"), default=["off", "auto"])
    parser.add_argument("--seed", type=int, default=0, help="of the gains")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=C")
    options = parser.parse_args()
    config = load_config(options.preset, options.settings)
    table = Table(
        f"gains {options.spread[0]:g} to {options.spread[1]:g}, tint {options.tint:g}, {options.size} px, {options.preset} preset",
        ["scene", "views", "photos", "exposure", "PSNR", "PSNR fitted", "CPU s"],
    )
    for name in options.scenes:
        scene = folder_of(name)
        for count in options.views:
            photos = with_given_cameras(scene, fold_of(scene, count), options.size, config)
            add_rows(table, scene.name, photos, options)


if __name__ == "__main__":
    main()

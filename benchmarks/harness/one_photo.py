"""One photo of a set, its neighbours as truth, and the scenes that can be made of it alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.depth_truth import from_points
from harness.photo_sets import DATA, Fold, fitted, fold_of, model_points, true_views, with_given_cameras
from harness.room import exact_depths, room
from sparse3d.config import Config
from sparse3d.densify.known import completed_depth
from sparse3d.densify.weights import with_drawn, with_steps
from sparse3d.init.initialize import initialize
from sparse3d.kernels.warp import Warp
from sparse3d.lift.geometric import geometric_depth
from sparse3d.lift.grow import grow
from sparse3d.lift.layers import SHELL, layers, lifted
from sparse3d.optimize.loop import look_of, optimize
from sparse3d.pipeline.hallucinate import photo_alone
from sparse3d.priors.base import ViewPrior
from sparse3d.progress import StageReporter
from sparse3d.render import Draw, drawer, rasterizer
from sparse3d.types import Cameras, View
from sparse3d.warp import warp_views

NEIGHBOURS = 4
_SAME_WAY = 0.9  # cosine between viewing directions of photo and neighbour at least

Picture = Callable[[Cameras], Tensor]  # (3, H, W) from one camera


@dataclass(frozen=True)
class OnePhoto:
    """A photo, who looks the same way from nearest by, and its depth by who can tell."""

    photo: View
    neighbours: tuple[View, ...]
    depths: dict[str, Tensor]  # (H, W) world units, infinite for the sky, by source: true or swept, geometric

    def distances(self) -> list[float]:
        """Of the neighbours, world units."""
        return [float((view.c2w[:3, 3] - self.photo.c2w[:3, 3]).norm()) for view in self.neighbours]


def one_photo(name: str, size: int, config: Config) -> OnePhoto:
    """The middle training photo of three. `room`, whose depth is exact, or a set below DATA, whose depth a plane sweep over the three finds.

    Geometric depth is scaled by the median over exact depth, or over points of the set's own model.
    """
    if name == "room":
        training, test = room(3, size, config)
        photo, others = training.views[1], (training.views[0], training.views[2], *test)
        exact = exact_depths([photo])[0]
        true = torch.where(exact > 0, exact, torch.inf)
        geometric = geometric_depth(photo.image, photo.K).depth
        return OnePhoto(photo, _near(photo, others), {"true": true, "geometric": _scaled(geometric, true)})
    folder = DATA / name
    fold = fold_of(folder, 3)
    names = json.loads((folder / "split.json").read_text(encoding="utf-8"))
    everyone = tuple(sorted({*names["test"], *fold.training}))
    views = {view.name: view for view in fitted(list(true_views(folder, Fold(everyone, ())).values()), size)}
    photo = views[sorted(fold.training)[1]]
    others = [view for view in views.values() if view.name != photo.name]
    truth = from_points([photo], model_points(folder, size))[0]
    sparse = torch.full((photo.height, photo.width), torch.inf)
    sparse[truth.pixels[:, 1], truth.pixels[:, 0]] = truth.depths
    depths = {"geometric": _scaled(geometric_depth(photo.image, photo.K).depth, sparse)}
    swept = _swept(name, photo, size, config)
    return OnePhoto(photo, _near(photo, others), {**({} if swept is None else {"swept": swept}), **depths})


def _swept(name: str, photo: View, size: int, config: Config) -> Tensor | None:
    """Depth by the plane sweep over three photos, holes filled from around; None where it gives none for this one."""
    training = with_given_cameras(DATA / name, fold_of(DATA / name, 3), size, config).training
    first = initialize(training, config.init, StageReporter("init"), torch.Generator().manual_seed(0))
    for found in first.maps:
        if found.view.name == photo.name and bool((found.depth > 0).any()):
            known = Warp(photo.image, found.depth, (found.depth > 0).float())
            return completed_depth(known, float(found.depth.max()))
    return None


def _scaled(depth: Tensor, truth: Tensor) -> Tensor:
    both = depth.isfinite() & truth.isfinite()
    return depth * (truth[both] / depth[both]).median()


def _near(photo: View, others: Sequence[View]) -> tuple[View, ...]:
    same_way = [view for view in others if float(view.c2w[:3, 2] @ photo.c2w[:3, 2]) > _SAME_WAY]
    apart = lambda view: float((view.c2w[:3, 3] - photo.c2w[:3, 3]).norm())
    return tuple(sorted(same_way, key=apart)[:NEIGHBOURS])


def warped(photo: View, depth: Tensor) -> Picture:
    """The photo drawn by a depth map, its mean colour where it shows nothing."""
    mean = photo.image.mean((1, 2))[:, None, None]
    whole = torch.where(depth.isfinite(), depth, SHELL * depth[depth.isfinite()].max())

    def picture(camera: Cameras) -> Tensor:
        seen = warp_views([photo], [whole], camera)
        return torch.where(seen.validity > 0, seen.color, mean)

    return picture


def shown(photo: View, depth: Tensor, camera: Cameras) -> Tensor:
    """What a warp of the photo shows from a camera. (H, W) bool"""
    whole = torch.where(depth.isfinite(), depth, SHELL * depth[depth.isfinite()].max())
    return warp_views([photo], [whole], camera).validity > 0.5


@dataclass(frozen=True)
class Made:
    """The scene of one photo."""

    layers: Draw  # as lifted, before anything was drawn or optimized
    scene: Draw
    seconds: float
    gaussians: int


def scene_of(photo: View, depth: Tensor, prior: ViewPrior, radius: float, config: Config) -> Made:
    """What `sparse3d hallucinate` makes of a photo with this depth."""
    began = time.monotonic()
    finite = depth[depth.isfinite()]
    distance = float(finite.median())
    found = layers(photo, depth, radius)
    start = lifted(photo, found, config.lift.stride)
    made = grow(
        photo,
        found,
        start,
        prior,
        config,
        radius=radius,
        distance=distance,
        depth_of=None,
        progress=StageReporter("grow"),
    )
    alone = photo_alone(config.optimize, config.lift.steps)
    views = (photo, *made.densified.views)
    drawn = len(views) - 1
    fit = optimize(
        made.start.gaussians,
        views,
        with_steps(alone, drawn, config.densify.share),
        rasterizer(config.renderer),
        generator=torch.Generator().manual_seed(config.seed),
        progress=StageReporter("optimize"),
        weights=with_drawn((1.0,), drawn, config.densify.share),
    )
    look = look_of(views, alone)
    seconds = time.monotonic() - began
    return Made(
        drawer(start.gaussians, look, config.renderer),
        drawer(fit.gaussians, look, config.renderer),
        seconds,
        len(fit.gaussians),
    )

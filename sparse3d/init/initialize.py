"""The one way into initialization: posed views in, first Gaussians and depth maps out."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from sparse3d.config import InitConfig
from sparse3d.errors import UserError
from sparse3d.init.fusion import fused
from sparse3d.init.initialization import Initialization, Origin, Start
from sparse3d.init.planesweep import estimate_depths
from sparse3d.init.sfm import from_points
from sparse3d.init.support import support_of
from sparse3d.init.visibility import settled
from sparse3d.progress import StageReporter
from sparse3d.types import PosedViews
from sparse3d.valid_pixels import with_numbers


def initialize(
    views: PosedViews,
    config: InitConfig,
    progress: StageReporter,
    generator: torch.Generator | None = None,
) -> Initialization:
    """First Gaussians.

    Args:
        views: Posed views with their sparse points.
        config: `method` chooses: sfm (a Gaussian on each sparse point), planesweep (dense depth), auto (both), costvolume (as auto, by our own network), or another network.
        progress: Told each view.
        generator: Randomness of networks that draw; seed 0 when left out.

    Returns:
        The Gaussians, and the depth maps they came from (none for sfm) with how well the views support the scene.

    Raises:
        UserError: the method found nothing to start from, or a view has no pixel that is a number.
    """
    if len(views.views) < 2:
        raise UserError(
            f"initialization needs at least 2 views, found {len(views.views)}. Add photos that overlap it by half or more; a scene from a "
            "single photo is the job of `sparse3d hallucinate --single`"
        )
    views = replace(views, views=with_numbers(views.views, progress.warning))
    if config.method == "sfm":
        return _sparse(views)
    _check_apart(views)
    if config.method in ("auto", "planesweep", "costvolume"):
        return _with_support(_swept(views, config, progress), config, progress)
    from sparse3d.init.learned import by_network

    found = by_network(views, config, generator or torch.Generator().manual_seed(0), progress)
    return _with_support(found, config, progress)


def _sparse(views: PosedViews) -> Initialization:
    sparse = from_points(views.points)
    if len(sparse) == 0:
        raise UserError(
            "init.method=sfm needs sparse points, and there is none with a reprojection error below 4 px. Use init.method=planesweep"
        )
    return Initialization(Start.of(sparse, Origin.SPARSE), (), "sfm", "asked for")


def _swept(views: PosedViews, config: InitConfig, progress: StageReporter) -> Initialization:
    """Plane sweep, or depth by our own network; not for "planesweep" with the sparse points where it has holes."""
    drawn = None
    if config.method == "costvolume":
        from sparse3d.init import costvolume

        progress.start("cost volumes", total=len(views.views))
        maps, drawn = costvolume.estimate_depths(views, config, progress)
    else:
        progress.start("plane sweep", total=len(views.views))
        maps = estimate_depths(views, config, progress)
    sparse = from_points(views.points)
    if not any((found.depth > 0).any() for found in maps) and (config.method == "planesweep" or len(sparse) == 0):
        raise UserError(
            f"the {'network' if config.method == 'costvolume' else 'plane sweep'} found no depth that matches: the views may not overlap, their masks may leave nothing, or the given cameras may "
            "not belong to these photos. Add photos that overlap by half or more"
        )
    dense = fused(maps, config.stride, config.consistency, drawn)
    stride = config.stride
    while len(dense) > config.max_gaussians:
        stride = max(stride + 1, math.floor(stride * math.sqrt(len(dense) / config.max_gaussians)))
        progress.note(
            f"{len(dense)} Gaussians are more than init.max_gaussians = {config.max_gaussians}: stride {stride}"
        )
        dense = fused(maps, stride, config.consistency, drawn)
    if config.method == "planesweep":
        return Initialization(dense, maps, "planesweep", "asked for")
    method, why = "planesweep", "chosen: it needs no weights, and networks are used only when asked for"
    if config.method == "costvolume":
        method, why = "costvolume", f"asked for, with the weights {config.weights or 'that ship with sparse3d'}"
    missing = sparse[~settled(sparse.means, maps, config.consistency)]
    return Initialization(Start.joined([dense, Start.of(missing, Origin.SPARSE)]), maps, method, why)


def _with_support(found: Initialization, config: InitConfig, progress: StageReporter) -> Initialization:
    """Says how much of the scene the views see twice, and which cameras contradict the others."""
    support = support_of(found.maps, config.consistency)
    for text in support.warnings:
        progress.warning(text)
    progress.note(support.sentence())
    return replace(found, support=support)


def _check_apart(views: PosedViews) -> None:
    """Depth comes from cameras that stand apart.

    Raises:
        UserError: all of them are at one place.
    """
    centres = torch.stack([view.c2w[:3, 3] for view in views.views]).double()
    spread = float((centres - centres[0]).norm(dim=1).max())
    if spread <= 1e-6 * max(1e-6, float(centres.norm(dim=1).max())):
        raise UserError(
            f"all {len(centres)} cameras stand at one place, and depth can only be seen from two. Take photos from different places, "
            "not by turning on the spot; or check the poses that were given"
        )

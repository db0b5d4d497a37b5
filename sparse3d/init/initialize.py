"""The one way into initialization: posed views in, first Gaussians and depth maps out."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from sparse3d.config import InitConfig
from sparse3d.errors import UserError
from sparse3d.init.depthmaps import from_depth_maps
from sparse3d.init.planesweep import DepthMap, estimate_depths
from sparse3d.init.sfm import from_points
from sparse3d.progress import StageReporter
from sparse3d.types import Gaussians, PosedViews


def initialize(
    views: PosedViews, config: InitConfig, progress: StageReporter
) -> tuple[Gaussians, tuple[DepthMap, ...]]:
    """First Gaussians.

    Args:
        views: Posed views with their sparse points.
        config: `method` chooses: sfm (a Gaussian on each sparse point), planesweep (dense depth), or auto: both.
        progress: Told each view.

    Returns:
        Gaussians of SH degree 0, and the depth maps they came from (none for sfm).

    Raises:
        UserError: the method found nothing to start from.
    """
    sparse = from_points(views.points)
    if config.method == "sfm":
        if len(sparse) == 0:
            raise UserError(
                "init.method=sfm needs sparse points, and there is none with a reprojection error below 4 px. Use init.method=planesweep"
            )
        return sparse, ()
    progress.start("plane sweep", total=len(views.views))
    maps = estimate_depths(views, config, progress)
    dense = from_depth_maps(maps, config)
    if len(dense) > config.max_gaussians:
        stride = math.ceil(config.stride * math.sqrt(len(dense) / config.max_gaussians))
        progress.note(
            f"{len(dense)} Gaussians are more than init.max_gaussians = {config.max_gaussians}: stride {stride}"
        )
        dense = from_depth_maps(maps, replace(config, stride=stride))
    if len(dense) == 0 and (config.method == "planesweep" or len(sparse) == 0):
        raise UserError(
            "the plane sweep found no depth that matches: the views may not overlap, or the given cameras may not belong to these "
            "photos. Add photos that overlap by half or more"
        )
    return (dense if config.method == "planesweep" else _joined(dense, sparse)), maps


def _joined(dense: Gaussians, sparse: Gaussians) -> Gaussians:
    """Both sets, for the sparse points reach where the sweep has holes."""
    names = ("means", "quats", "log_scales", "logit_opacities", "sh")
    return Gaussians(*(torch.cat([getattr(dense, name), getattr(sparse, name)]) for name in names))

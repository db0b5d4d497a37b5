"""First Gaussians by a network, with the depth maps behind them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparse3d.config import InitConfig
from sparse3d.init import depthsplat, mvsplat, pixelsplat
from sparse3d.init.consistency import agreement
from sparse3d.init.depth_map import DepthMap
from sparse3d.init.initialization import Initialization, Origin, Start
from sparse3d.init.neighbours import surroundings
from sparse3d.init.networks.prediction import Prediction
from sparse3d.init.networks.weights import find_weights
from sparse3d.progress import StageReporter
from sparse3d.types import PosedViews, View

_MULTIPLE = 32  # of the sides of what a network is fed: every one of them takes it
_OTHER = "depthsplat-small-re10k"  # whose training is taken for weights of DepthSplat that are not in the registry


def by_network(
    views: PosedViews, config: InitConfig, generator: torch.Generator, progress: StageReporter
) -> Initialization:
    """What MVSplat, pixelSplat or DepthSplat makes of posed views.

    Args:
        views: At least two, with their sparse points.
        config: `method`, `weights`, `network_size`, and how sources and depth ranges are chosen.
        generator: Draws pixelSplat's depths.
        progress: Told each group of views.

    Raises:
        UserError: weights that are missing or do not fit, or views that the network cannot take.
    """
    sources, ranges = surroundings(views, config)
    weights, name = find_weights(config.method, config.weights, config.accept_license)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    arguments = (views.views, weights, sources, ranges, progress)
    size = None if config.network_size is None else _shaped(views.views[0], config.network_size)
    if config.method == "mvsplat":
        found = mvsplat.predict(*arguments, size=size or mvsplat.TRAINED_SIZE, device=device)
    elif config.method == "pixelsplat":
        found = pixelsplat.predict(*arguments, size=size or pixelsplat.TRAINED_SIZE, device=device, generator=generator)
    else:
        training = depthsplat.TRAININGS[name or _OTHER]
        found = depthsplat.predict(*arguments, training=training, size=size, device=device)
    return Initialization(
        Start.of(found.gaussians, Origin.PREDICTED),
        _maps(found, ranges, config.consistency),
        config.method,
        f"asked for, with the weights {config.weights or name} on {device}",
        found.notes,
    )


def _shaped(view: View, shorter: int) -> tuple[int, int]:
    """Height and width like a view's, the shorter side given, in whole steps of 32 pixels."""
    scale = shorter / min(view.height, view.width)
    height, width = (max(_MULTIPLE, round(side * scale / _MULTIPLE) * _MULTIPLE) for side in (view.height, view.width))
    return height, width


def _maps(found: Prediction, ranges: Sequence[tuple[float, float]], tolerance: float) -> tuple[DepthMap, ...]:
    depths = list(found.depths)
    return tuple(
        DepthMap(
            view,
            depth,
            found.confidences[index],
            agreement(index, found.views, depths, tolerance).support,
            torch.zeros_like(depth, dtype=torch.bool),
            ranges[index][1],
        )
        for index, (view, depth) in enumerate(zip(found.views, depths, strict=True))
    )

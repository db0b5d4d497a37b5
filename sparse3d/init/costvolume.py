"""Dense depth for every view by our own cost-volume network, which `sparse3d train costvolume` makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.config import InitConfig
from sparse3d.geometry import fitted_size, project
from sparse3d.init.consistency import agreement
from sparse3d.init.depth_map import DepthMap
from sparse3d.init.fusion import flat_gaussians
from sparse3d.init.neighbours import surroundings
from sparse3d.init.networks.costvolume import FORMAT, GAUSSIAN, MULTIPLE, STRIDE, CostVolume, Sizes, places
from sparse3d.init.networks.weights import find_weights
from sparse3d.init.planes import sweep_depths
from sparse3d.init.planesweep import masked, tidied
from sparse3d.init.surfels import Surfels
from sparse3d.kernels import plane_sweep
from sparse3d.kernels.reference import SH_C0
from sparse3d.models.own import fill_own, own_sizes
from sparse3d.progress import StageReporter
from sparse3d.types import Gaussians, PosedViews, View

_OPACITY, _SIZE, _COLOR = 2.0, 0.7, 0.15  # what a look may change at most: logit, log, and colour


class Prediction(NamedTuple):
    """What the network says of one view."""

    depth: Tensor  # (H, W) world units
    confidence: Tensor  # (H, W) probability of being right within 3 %
    looks: Tensor  # (6, H / 2, W / 2), see `as_gaussians`


def depth_of(inverse: Tensor, near: Tensor | float, far: Tensor | float) -> Tensor:
    """Depth of what the network answers, 0 at the far plane and 1 at the near one, even in 1/depth."""
    return 1 / (1 / far + inverse.clamp(0, 1) * (1 / near - 1 / far))


def load(weights: Path, device: torch.device | str = "cpu") -> CostVolume:
    """The network in a file, ready to predict.

    Raises:
        UserError: no such file, or not one of this network in this version.
    """
    network = CostVolume(own_sizes(weights, FORMAT, Sizes))
    fill_own(weights, FORMAT, network)
    return network.eval().to(device)


def estimate_depths(
    views: PosedViews, config: InitConfig, progress: StageReporter
) -> tuple[tuple[DepthMap, ...], Callable[[int, Surfels], Gaussians]]:
    """Depth of every view, and how their surfels become Gaussians, for `fusion.fused`.

    Args:
        views: At least two.
        config: `weights`, `sources`, `max_size`, `min_confidence`, `consistency`, and how depth ranges are chosen.
        progress: Told each view.

    Raises:
        UserError: weights that are missing or do not fit.
    """
    weights, _ = find_weights("costvolume", config.weights, config.accept_license)
    network = load(weights, "cuda" if torch.cuda.is_available() else "cpu")
    small = tuple(view.resized(*fed_size(view, config.max_size)) for view in views.views)
    sources, ranges = surroundings(views, config)
    found = predict(network, small, sources, ranges, progress)
    depths = [
        masked(view, [small[j] for j in chosen], one.depth)
        for view, chosen, one in zip(small, sources, found, strict=True)
    ]
    maps = []
    for index, (view, one) in enumerate(zip(small, found, strict=True)):
        support = agreement(index, small, depths, config.consistency).support
        trust = torch.where(depths[index] > 0, one.confidence, 0.0)
        maps.append(tidied(view, depths[index], trust, support, ranges[index][1], config))
    return tuple(maps), lambda index, seen: as_gaussians(seen, found[index].looks, small[index])


def fed_size(view: View, max_size: int) -> tuple[int, int]:
    """Height and width that the network is fed: about `max_size` on the longer side, in steps of 32 pixels."""
    sides = fitted_size(view.height, view.width, max_size)
    height, width = (max(MULTIPLE, MULTIPLE * round(side / MULTIPLE)) for side in sides)
    return height, width


@torch.no_grad()
def predict(
    network: CostVolume,
    views: Sequence[View],
    sources: Sequence[Sequence[int]],
    ranges: Sequence[tuple[float, float]],
    progress: StageReporter,
) -> list[Prediction]:
    """What the network says of each view.

    Args:
        network: On its device.
        views: Sides are multiples of 32.
        sources: For each view the others to look at.
        ranges: For each view nearest and farthest depth, world units.
        progress: Told each view.

    Returns:
        On the CPU; a view without sources has depth 0.
    """
    device = next(network.parameters()).device
    encoded = [network.encoder(view.image[None].to(device)) for view in views]
    found = []
    for index, view in enumerate(views):
        if sources[index]:
            found.append(_predicted(network, index, views, sources[index], ranges[index], encoded))
        else:
            progress.warning(f"{view.name}: no other view looks the same way, so it gets no depth")
            nothing = torch.zeros(view.height, view.width)
            found.append(Prediction(nothing, nothing, torch.zeros(GAUSSIAN, view.height // 2, view.width // 2)))
        progress.step(index + 1, len(views), f"depth of {view.name}")
    return found


def _predicted(
    network: CostVolume,
    index: int,
    views: Sequence[View],
    chosen: Sequence[int],
    near_far: tuple[float, float],
    encoded: Sequence[tuple[Tensor, Tensor]],
) -> Prediction:
    """One view by the compiled sweep: the same numbers as `networks.costvolume.correlations`."""
    view, groups, planes = views[index], network.sizes.groups, network.sizes.planes
    features, matching = encoded[index]
    device = features.device
    depths = sweep_depths(*near_far, planes).to(device)
    scale = torch.tensor([STRIDE, STRIDE, 1.0], device=device)[:, None]
    K = view.K.to(device) / scale
    ours = matching[0].unflatten(0, (groups, -1))
    cosines, seen = [], []
    for j in chosen:
        theirs = encoded[j][1]
        source_K = views[j].K.to(device) / scale
        transform = (views[j].cameras.w2c[0] @ view.c2w).to(device)
        parts = [
            plane_sweep.feature_sweep(mine, K, other[None], source_K[None], transform[None], depths)
            for mine, other in zip(ours, theirs[0].unflatten(0, (groups, -1)), strict=True)
        ]
        cosines.append(torch.stack(parts) * ours.shape[1] ** 0.5)  # the sweep divides by it
        grid = places(ours.shape[2:], K[None], theirs.shape[2:], source_K[None], transform[None], depths[None])
        seen.append((grid.abs() <= 1).all(-1).reshape(planes, *ours.shape[2:]).float())
    image = view.image[None].to(device)
    answer = network.estimate(image, features, torch.stack(cosines)[None], torch.stack(seen)[None])
    return Prediction(
        depth_of(answer.inverse[0].cpu(), *near_far), answer.certain[0].sigmoid().cpu(), answer.looks[0].cpu()
    )


def as_gaussians(seen: Surfels, looks: Tensor, view: View) -> Gaussians:
    """The flat Gaussians of surfels, changed in opacity, size and colour by what the network says there.

    Args:
        seen: M of one view.
        looks: (6, h, w) of the view: opacity, size along x and y, colour.
        view: The view.
    """
    flat = flat_gaussians(seen)
    pixels, _ = project(seen.centres, view.cameras.w2c[0], view.K)
    grid = 2 * pixels / torch.tensor([view.width, view.height]) - 1
    here = F.grid_sample(looks[None], grid[None, None], mode="nearest", align_corners=False)[0, :, 0].T.tanh()
    return Gaussians(
        flat.means,
        flat.quats,
        torch.cat([flat.log_scales[:, :2] + _SIZE * here[:, 1:3], flat.log_scales[:, 2:]], 1),
        flat.logit_opacities + _OPACITY * here[:, 0],
        flat.sh + (_COLOR / SH_C0) * here[:, None, 3:],
    )

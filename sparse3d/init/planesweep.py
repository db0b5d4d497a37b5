"""Dense depth for every view by plane sweep. No weights, no GPU.

Multi-view plane sweep (Collins 1996; Gallup et al. 2007) with ZNCC and census, semi-global smoothing and a check of each
depth against those of the other views.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse3d.config import InitConfig
from sparse3d.geometry import fitted_size
from sparse3d.init.consistency import agreement, confidence
from sparse3d.init.depth_map import DepthMap, sampled, world_points
from sparse3d.init.features import DenseXFeat, FeatureMap, similarity
from sparse3d.init.holes import fill_small, without_specks
from sparse3d.init.matching import Match, grey, match
from sparse3d.init.neighbours import surroundings
from sparse3d.init.planes import plane_count, sweep_depths
from sparse3d.init.sfm import MAX_ERROR_PX
from sparse3d.progress import StageReporter
from sparse3d.types import Points, PosedViews, View

_FILLED = 0.5  # what a filled pixel keeps of the confidence around it


def estimate_depths(views: PosedViews, config: InitConfig, progress: StageReporter) -> tuple[DepthMap, ...]:
    """Depth of every view that has another to compare with.

    Args:
        views: At least two views.
        config: Planes, window, sources, size, what to keep.
        progress: Told each view.

    Returns:
        One map for each view; a view with no usable source has depth 0 everywhere, and a warning says so.
    """
    small = tuple(view.resized(*fitted_size(view.height, view.width, config.max_size)) for view in views.views)
    points = views.points.within(MAX_ERROR_PX)
    sources, ranges = surroundings(views, config)
    features = _features(small, config)
    matches: list[Match] = []
    for index, view in enumerate(small):
        if sources[index]:
            matches.append(_matched(index, small, sources[index], ranges[index], features, points, config))
        else:
            progress.warning(f"{view.name}: no other view looks the same way, so it gets no depth")
            nothing = torch.zeros(view.height, view.width)
            matches.append(Match(nothing, nothing - 1, nothing))
        progress.step(index + 1, len(small), f"depth of {view.name}")
    depths = [found.depth for found in matches]
    return tuple(_kept(index, small, found, depths, ranges[index][1], config) for index, found in enumerate(matches))


def _features(views: Sequence[View], config: InitConfig) -> list[FeatureMap]:
    """Of all views, when they are asked for."""
    if config.feature_weight == 0:
        return []
    describe = DenseXFeat()
    return [describe(view) for view in views]


def _matched(
    index: int,
    views: Sequence[View],
    chosen: Sequence[int],
    near_far: tuple[float, float],
    features: Sequence[FeatureMap],
    points: Points,
    config: InitConfig,
) -> Match:
    """Depth of one view against the chosen ones, 0 where its mask or theirs let nothing through."""
    view, sources = views[index], [views[j] for j in chosen]
    depths = sweep_depths(*near_far, plane_count(view, sources, *near_far, config.plane_step, config.planes))
    similar = None
    if features:
        similar = similarity(view, features[index], sources, [features[j] for j in chosen], depths)
    seen = torch.tensor([view.name in track for track in points.tracks], dtype=torch.bool)
    found = match(view, sources, depths, config.window, points.xyz[seen], similar, config.feature_weight)
    depth = masked(view, sources, found.depth)
    return Match(depth, found.score, found.margin)


def masked(view: View, sources: Sequence[View], depth: Tensor) -> Tensor:
    """The depth of a view, 0 where its mask or those of all its sources let nothing through. (H, W)"""
    if view.mask is not None:
        depth = torch.where(view.mask, depth, torch.zeros_like(depth))
    if any(source.mask is not None for source in sources):
        depth = torch.where(_seen_unmasked(world_points(view, depth), sources), depth, torch.zeros_like(depth))
    return depth


def _kept(
    index: int, views: tuple[View, ...], found: Match, depths: list[Tensor], far: float, config: InitConfig
) -> DepthMap:
    """A depth map of what is trusted, small holes filled."""
    agreed = agreement(index, views, depths, config.consistency)
    trust = torch.where(found.depth > 0, confidence(found.score, found.margin, agreed), torch.zeros_like(found.depth))
    return tidied(views[index], found.depth, trust, agreed.support, far, config)


def tidied(view: View, found: Tensor, trust: Tensor, support: Tensor, far: float, config: InitConfig) -> DepthMap:
    """A depth map of what is trusted at least `config.min_confidence`, without specks, small holes filled.

    Args:
        view: Of the size of the depth.
        found: (H, W) depth, world units, 0 where unknown.
        trust: (H, W) in [0, 1].
        support: (H, W) int, how many other views agree.
        far: Depth of what is farther than anything that was looked for.
    """
    depth = torch.where(trust >= config.min_confidence, found, torch.zeros_like(found))
    depth, filled = fill_small(without_specks(depth), trust, grey(view.image))
    if view.mask is not None:
        depth, filled = depth * view.mask, filled & view.mask
    certain = torch.where(filled, _FILLED * trust.clamp(min=config.min_confidence), trust)
    return DepthMap(view, depth, torch.where(depth > 0, certain, 0.0), support * (depth > 0), filled, far)


def _seen_unmasked(points: Tensor, sources: Sequence[View]) -> Tensor:
    """Which points a source sees where its mask lets it: the others matched background. (H, W, 3) -> (H, W) bool"""
    seen = torch.zeros(points.shape[:2], dtype=torch.bool)
    for source in sources:
        mask = torch.ones(source.height, source.width) if source.mask is None else source.mask.float()
        seen |= (sampled(mask, source, points.reshape(-1, 3))[0] > 0).reshape(seen.shape)
    return seen

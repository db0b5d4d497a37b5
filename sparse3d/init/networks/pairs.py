"""Networks made for a few views, on any number of them: each view with those that suit it best, all Gaussians together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.init.networks.adapter import Published, published_gaussians, to_gaussians
from sparse3d.init.networks.crops import cropped, normalized_K
from sparse3d.init.networks.prediction import Prediction
from sparse3d.progress import StageReporter
from sparse3d.types import Gaussians, View


class Answer(NamedTuple):
    """What a network says of V views together, two for most, on the CPU: S Gaussians for each pixel, see `published_gaussians`."""

    raw: Tensor  # (V, H, W, 9 + 3 (L + 1)^2)
    distances: Tensor  # (V, H, W, S) along the ray, network units
    opacities: Tensor  # (V, H, W, S) in [0, 1]
    confidences: Tensor  # (V, H, W) in [0, 1]
    unit: float  # world units in a unit of the network


# asked with images (V, 3, H, W), poses (V, 4, 4) float64 in world units, normalized K (V, 3, 3), near and far in world units
PairNetwork = Callable[[Tensor, Tensor, Tensor, float, float], Answer]
# asked with an answer's raw, distances and opacities, poses (V, 4, 4) and normalized K (V, 3, 3)
Publisher = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Published]


def predict_pairs(
    views: Sequence[View],
    sources: Sequence[Sequence[int]],
    depth_ranges: Sequence[tuple[float, float]],
    size: tuple[int, int],
    ask: PairNetwork,
    progress: StageReporter,
    *,
    at_once: int = 2,
    publish: Publisher = published_gaussians,
) -> Prediction:
    """Gaussians of all views, each view's from the pair that it makes with its best source, or the group with its best few.

    A pair that is the best for both of its views is run once, and so is a group. Every view's Gaussians are placed in the frame of
    its own camera and moved from there: nothing depends on how the world is turned, see `to_gaussians`. All are kept: the networks give
    every view its own Gaussians where views overlap, and their opacities are trained for all of them drawn together.

    Args:
        views: V of them, at least 2.
        sources: For each view the others to look at, best first, as `neighbours.choose_sources` returns them. A view without any
            gets no Gaussians.
        depth_ranges: For each view its nearest and farthest depth, world units.
        size: Height and width that the network is fed with, multiples of 16.
        ask: The network.
        progress: Told each pair.
        at_once: Most views in a group.
        publish: Makes Gaussians of an answer.

    Returns:
        Depth and confidence are 0 where a view has no source or its mask is False.

    Raises:
        UserError: a single view, no view with a source, or a size that the networks cannot take.
        ValueError: lists of different lengths.
    """
    if not len(views) == len(sources) == len(depth_ranges):
        raise ValueError(
            f"{len(views)} views, {len(sources)} lists of sources, {len(depth_ranges)} depth ranges: needed one each"
        )
    groups = _groups(sources, at_once)
    fed = [cropped(view, *size) for view in views]
    depths, confidences = torch.zeros(len(views), *size), torch.zeros(len(views), *size)
    gaussians: dict[int, Gaussians] = {}
    progress.start("pairs of views" if at_once == 2 else "groups of views", total=len(groups))
    for number, (group, owners) in enumerate(sorted(groups.items()), start=1):
        near = min(depth_ranges[i][0] for i in group)
        far = max(depth_ranges[i][1] for i in group)
        answer = ask(*_stacked([fed[i] for i in group]), near, far)
        for i in owners:
            place = group.index(i)
            gaussians[i], depths[i] = _placed(answer, place, fed[i], publish)
            confidences[i] = answer.confidences[place]
        progress.step(number, len(groups), " + ".join(views[i].name for i in group))
    for i, view in enumerate(fed):
        if view.mask is not None:
            depths[i] *= view.mask
            confidences[i] *= view.mask
    alone = [view.name for i, view in enumerate(views) if not sources[i]]
    notes = (f"no other view looks the same way as {', '.join(alone)}: no Gaussians from there",) if alone else ()
    return Prediction(
        Gaussians.joined([gaussians[i] for i in sorted(gaussians)]), tuple(fed), depths, confidences, notes
    )


def _groups(sources: Sequence[Sequence[int]], at_once: int) -> dict[tuple[int, ...], list[int]]:
    """Which views the network looks at together, and whose Gaussians come from there.

    Raises:
        UserError: there are no two views to look at together.
    """
    if len(sources) < 2:
        raise UserError(
            f"the network needs at least 2 views, found {len(sources)}. Add a photo that overlaps it by half or more"
        )
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, of in enumerate(sources):
        if of:
            groups.setdefault(tuple(sorted({i, *of[: at_once - 1]})), []).append(i)
    if not groups:
        raise UserError("no view has another that looks the same way. Add photos that overlap by half or more")
    return groups


def _stacked(views: Sequence[View]) -> tuple[Tensor, Tensor, Tensor]:
    """Images, poses relative to the first, and normalized K; poses in float64, for a world may be large and far from its origin."""
    c2w = torch.stack([view.c2w.double() for view in views])
    K = torch.stack([normalized_K(view) for view in views])
    return torch.stack([view.image for view in views]), torch.linalg.inv(c2w[0]) @ c2w, K


def _placed(answer: Answer, place: int, view: View, publish: Publisher) -> tuple[Gaussians, Tensor]:
    """One view's Gaussians in the world, those that its mask lets, and its depth (H, W) in world units."""
    here, of = torch.eye(4)[None], slice(place, place + 1)
    published = publish(answer.raw[of], answer.distances[of], answer.opacities[of], here, normalized_K(view)[None])
    found = to_gaussians(published, here, view.c2w, answer.unit)
    if view.mask is not None:
        found = found[view.mask.reshape(-1).repeat_interleave(answer.distances.shape[-1])]
    likeliest = answer.opacities[of].argmax(-1, keepdim=True)  # of several; their mean is a depth that nothing has
    return found, published.means[..., 2].gather(-1, likeliest)[0, ..., 0] * answer.unit

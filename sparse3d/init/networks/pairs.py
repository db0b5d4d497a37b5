"""Networks made for two views, on any number of them: each view with the one that suits it best, all Gaussians together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.init.networks.adapter import Encoded, published_gaussians, to_gaussians
from sparse3d.init.networks.crops import cropped, normalized_K
from sparse3d.init.networks.prediction import Prediction
from sparse3d.progress import StageReporter
from sparse3d.types import Gaussians, View

# images (2, 3, H, W), poses (2, 4, 4) in world units, normalized K (2, 3, 3), near and far in world units
# -> what the network says, and world units in one of its units
PairEncoder = Callable[[Tensor, Tensor, Tensor, float, float], tuple[Encoded, float]]


def predict_pairs(
    views: Sequence[View],
    sources: Sequence[Sequence[int]],
    depth_ranges: Sequence[tuple[float, float]],
    size: tuple[int, int],
    encode: PairEncoder,
    progress: StageReporter,
) -> Prediction:
    """Gaussians of all views, each view's from the pair that it makes with its best source.

    A pair that is the best for both of its views is run once. Every view's Gaussians are placed in the frame of its own camera and
    moved from there: nothing depends on how the world is turned, see `to_gaussians`. All are kept: the networks give every
    view its own Gaussians where views overlap, and their opacities are trained for all of them drawn together.

    Args:
        views: V of them, at least 2.
        sources: For each view the others to look at, best first, as `neighbours.choose_sources` returns them. A view without any
            gets no Gaussians.
        depth_ranges: For each view its nearest and farthest depth, world units.
        size: Height and width that the network is fed with, multiples of 16.
        encode: The network.
        progress: Told each pair.

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
    if len(views) < 2:
        raise UserError(
            f"the network needs at least 2 views, found {len(views)}. Add a photo that overlaps it by half or more"
        )
    fed = [cropped(view, *size) for view in views]
    pairs = sorted({(min(i, of[0]), max(i, of[0])) for i, of in enumerate(sources) if of})
    if not pairs:
        raise UserError("no view has another that looks the same way. Add photos that overlap by half or more")
    depths, confidences = torch.zeros(len(views), *size), torch.zeros(len(views), *size)
    gaussians: dict[int, Gaussians] = {}
    progress.start("pairs of views", total=len(pairs))
    for number, pair in enumerate(pairs, start=1):
        near = min(depth_ranges[i][0] for i in pair)
        far = max(depth_ranges[i][1] for i in pair)
        images, c2w, K = _stacked([fed[i] for i in pair])
        encoded, unit = encode(images, c2w, K, near, far)
        for place, i in enumerate(pair):
            if sources[i] and sources[i][0] in pair:
                own = Encoded(*(part[place : place + 1].cpu() for part in encoded))
                gaussians[i], depths[i] = _placed(own, fed[i], unit)
                confidences[i] = own.confidences[0]
        progress.step(number, len(pairs), " + ".join(views[i].name for i in pair))
    for i, view in enumerate(fed):
        if view.mask is not None:
            depths[i] *= view.mask
            confidences[i] *= view.mask
    alone = [view.name for i, view in enumerate(views) if not sources[i]]
    notes = (f"no other view looks the same way as {', '.join(alone)}: no Gaussians from there",) if alone else ()
    return Prediction(_joined([gaussians[i] for i in sorted(gaussians)]), tuple(fed), depths, confidences, notes)


def _stacked(views: Sequence[View]) -> tuple[Tensor, Tensor, Tensor]:
    """Images, poses relative to the first, and normalized K; poses in float64, for a world may be large and far from its origin."""
    c2w = torch.stack([view.c2w.double() for view in views])
    K = torch.stack([normalized_K(view) for view in views])
    return torch.stack([view.image for view in views]), torch.linalg.inv(c2w[0]) @ c2w, K


def _placed(encoded: Encoded, view: View, unit: float) -> tuple[Gaussians, Tensor]:
    """One view's Gaussians in the world, those that its mask lets, and its depth (H, W) in world units."""
    here = torch.eye(4, dtype=encoded.raw.dtype)[None]
    published = published_gaussians(encoded, here, normalized_K(view).to(here)[None])
    found = to_gaussians(published, here, view.c2w.to(here), unit)
    samples = published.opacities.shape[-1]
    if view.mask is not None:
        counts = view.mask.reshape(-1).repeat_interleave(samples)
        found = Gaussians(*(value[counts] for value in vars(found).values()))
    depth = published.means[0, ..., 2] * unit  # (H, W, S)
    return found, depth[..., 0] if samples == 1 else (depth * encoded.opacities[0]).sum(-1) / encoded.opacities[0].sum(
        -1
    )


def _joined(parts: Sequence[Gaussians]) -> Gaussians:
    names = ("means", "quats", "log_scales", "logit_opacities", "sh")
    return Gaussians(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

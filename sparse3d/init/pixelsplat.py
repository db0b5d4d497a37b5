"""First Gaussians by pixelSplat (Charatan et al., CVPR 2024, arXiv:2312.12337): attention along epipolar lines, learned on RealEstate10K."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.init.networks.pairs import Answer, predict_pairs
from sparse3d.init.networks.pixelsplat.checkpoint import load_network
from sparse3d.init.networks.pixelsplat.depth import PER_PIXEL
from sparse3d.init.networks.pixelsplat.epipolar import pair_samples
from sparse3d.init.networks.pixelsplat.frame import pair_frame
from sparse3d.init.networks.pixelsplat.network import PixelSplat
from sparse3d.init.networks.prediction import Prediction
from sparse3d.progress import StageReporter
from sparse3d.types import View

TRAINED_SIZE = (256, 256)
_ROUNDING = 1e-6  # of float32 coordinates: centres nearer than this, relative to their size, are one


def predict(
    views: Sequence[View],
    weights: Path,
    sources: Sequence[Sequence[int]],
    depth_ranges: Sequence[tuple[float, float]],
    progress: StageReporter,
    *,
    generator: torch.Generator | None = None,
    size: tuple[int, int] = TRAINED_SIZE,
    device: str = "cpu",
) -> Prediction:
    """Gaussians of two or more posed views by pixelSplat, pair by pair.

    Scale: the network knows no other unit than the distance between its two cameras, and looks between about 0.3 and 450 of them,
    whatever the scene's range is.

    Args:
        views: At least 2.
        weights: A published checkpoint, see `checkpoint.load_network`.
        sources: For each view the others to look at, best first, as `neighbours.choose_sources` returns them.
        depth_ranges: For each view its nearest and farthest depth, world units. The network cannot be told; a note says where
            it cannot reach them.
        progress: Told each pair.
        generator: Draws three depths for each pixel from what the network holds possible, as the published results do. None
            takes the most likely one: one Gaussian a pixel, the same whenever it is run.
        size: Height and width that photos are resized and cropped to, multiples of 16.
        device: Where the network runs.

    Returns:
        Gaussians of every view that has a source, SH degree 3, on the CPU. Confidences are the probabilities of the likeliest
        depth bucket.

    Raises:
        UserError: weights that do not fit, a single view, two views from one place, or a size that the network cannot take.
    """
    return predict_with(load_network(weights).to(device), views, sources, depth_ranges, progress, generator, size)


def predict_with(
    network: PixelSplat,
    views: Sequence[View],
    sources: Sequence[Sequence[int]],
    depth_ranges: Sequence[tuple[float, float]],
    progress: StageReporter,
    generator: torch.Generator | None = None,
    size: tuple[int, int] = TRAINED_SIZE,
) -> Prediction:
    """`predict` with a network in memory, on the device where it is."""
    for view, best in zip(views, sources, strict=True):
        if best:
            _check_apart(view, views[best[0]])
    device = next(network.parameters()).device
    notes: list[str] = []

    def ask(images: Tensor, c2w: Tensor, K: Tensor, near: float, far: float) -> Answer:
        height, width = images.shape[-2:]
        frame = pair_frame(c2w.double(), K.double(), height, width)
        reach = frame.near * frame.baseline, frame.far * frame.baseline
        if near < reach[0] or far > reach[1]:
            notes.append(
                f"two views {frame.baseline:.3g} apart let pixelSplat place things between {reach[0]:.3g} and {reach[1]:.3g}; "
                f"the scene reaches from {near:.3g} to {far:.3g}, and what lies outside is placed inside"
            )
        block = network.epipolar_transformer.block
        samples = pair_samples(frame.c2w, frame.K, frame.near, frame.far, height // block, width // block)
        uniform = None
        if generator is not None:
            numbers = torch.rand(2, height * width, PER_PIXEL, generator=generator, device=generator.device)
            uniform = numbers.to(device)
        # convolutions in TF32, CUDA's default, would be off by a thousandth
        with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
            encoded = network(images.to(device), samples).encoded(height, frame.near, frame.far, uniform)
        raw, distances, opacities, confidences = (part.cpu() for part in encoded)
        return Answer(raw, distances, opacities, confidences, frame.baseline)

    prediction = predict_pairs(views, sources, depth_ranges, size, ask, progress)
    return replace(prediction, notes=(*prediction.notes, *notes))


def _check_apart(first: View, second: View) -> None:
    centres = torch.stack([view.c2w[:3, 3].double() for view in (first, second)])
    if (centres[1] - centres[0]).norm() <= _ROUNDING * centres.norm(dim=1).max():
        raise UserError(
            f"{first.name} and {second.name} were taken from the same place, so nothing tells how far things are. pixelSplat "
            "needs two views from different places: leave one of them out, or check the poses"
        )

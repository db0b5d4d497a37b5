"""First Gaussians by DepthSplat (Xu et al., CVPR 2025, arXiv:2410.13862): matching between views, with a monocular prior beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sparse3d.init.networks.checkpoints import filled, read_state
from sparse3d.init.networks.crops import check_size
from sparse3d.init.networks.depthsplat.gaussians import LARGEST, published_gaussians
from sparse3d.init.networks.depthsplat.layout import layout_of
from sparse3d.init.networks.depthsplat.network import DepthSplat
from sparse3d.init.networks.pairs import predict_pairs
from sparse3d.init.networks.prediction import Prediction
from sparse3d.init.networks.scale import FixedRange
from sparse3d.progress import StageReporter
from sparse3d.types import View

NEAREST = 1.0  # where the nearest depth of a world is put, units of the network
_NEAR = 0.5  # of the depth planes in training


@dataclass(frozen=True)
class Training:
    """What a checkpoint was trained with and its file does not tell."""

    size: tuple[int, int] = (256, 256)  # height and width, pixels
    views: int = 2  # most at once
    far: float = 100.0  # end of the depth planes, units of the network
    largest: float = (
        LARGEST  # standard deviation of a Gaussian, units of the network; as the published commands have it
    )


TRAININGS = {  # by name in the registry
    "depthsplat-small-re10k": Training(),
    "depthsplat-base-re10k": Training(),
    "depthsplat-large-re10k": Training(),
    "depthsplat-base-re10k-448": Training(size=(256, 448)),
    "depthsplat-base-dl3dv-448": Training(size=(256, 448), views=6, far=200.0),
    "depthsplat-small-re10kdl3dv-768": Training(size=(448, 768), views=10, far=200.0, largest=0.1),
    "depthsplat-base-re10kdl3dv-768": Training(size=(448, 768), views=6, far=200.0, largest=0.1),
}


def predict(
    views: Sequence[View],
    weights: Path,
    sources: Sequence[Sequence[int]],
    depth_ranges: Sequence[tuple[float, float]],
    progress: StageReporter,
    *,
    training: Training = TRAININGS["depthsplat-small-re10k"],
    size: tuple[int, int] | None = None,
    device: str = "cpu",
) -> Prediction:
    """Gaussians of two or more posed views by DepthSplat, in groups of as many views as it was trained with.

    Scale: the network is told depths and answers with sizes in the units of the poses, so it must be fed in those of its training: the
    world is divided until the nearest depth of a group lies at 1, and what comes out is multiplied again. Planes reach from 0.5 to 100
    for every clip of RealEstate10K, whose scale its makers set so that few points are nearer than about 1 (Zhou et al. 2018,
    arXiv:1805.09817); they are even in inverse depth, so half of them lie nearer than 1, and are room for what was missed.
    The range is not fitted to the scene: what each of its planes means is learned.

    Args:
        views: At least 2.
        weights: A published checkpoint of Gaussians, of any size: its layout is told from its tensors. The files of March 2025 and
            before had another meaning of scale and cannot be told apart; those of the registry are right.
        sources: For each view the others to look at, best first, as `neighbours.choose_sources` returns them.
        depth_ranges: For each view its nearest and farthest depth, world units.
        progress: Told each group.
        training: Of the checkpoint.
        size: Height and width that photos are resized and cropped to, multiples of 16, or of 32 for the checkpoints of 448 and 768 pixels;
            None: those of training.
        device: Where the network runs.

    Returns:
        One Gaussian a pixel of every view that has a source, SH degree 2, on the CPU. Confidences are the probabilities of the
        likeliest candidate depth.

    Raises:
        UserError: weights that do not fit, a single view, or a size that the network cannot take.
    """
    what = "of DepthSplat"
    state = read_state(weights, optional=True)
    layout = layout_of(state, what)
    size = training.size if size is None else size
    check_size(*size, layout.multiple)
    network = filled(DepthSplat(layout), state, what).to(device)
    ask = FixedRange(network, _NEAR, training.far, device, nearest=NEAREST)
    publish = partial(published_gaussians, largest=training.largest)
    prediction = predict_pairs(
        views, sources, depth_ranges, size, ask, progress, at_once=training.views, publish=publish
    )
    return ask.noted(prediction)

"""First Gaussians by MVSplat (Chen et al., ECCV 2024, arXiv:2403.14627): cost volumes between views, learned on RealEstate10K."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparse3d.init.networks.checkpoints import with_weights
from sparse3d.init.networks.mvsplat.encoder import Encoder
from sparse3d.init.networks.pairs import predict_pairs
from sparse3d.init.networks.prediction import Prediction
from sparse3d.init.networks.scale import FixedRange
from sparse3d.progress import StageReporter
from sparse3d.types import View

NEAR, FAR = 1.0, 100.0  # of the depth planes in training, units of the network
TRAINED_SIZE = (256, 256)


def predict(
    views: Sequence[View],
    weights: Path,
    sources: Sequence[Sequence[int]],
    depth_ranges: Sequence[tuple[float, float]],
    progress: StageReporter,
    *,
    size: tuple[int, int] = TRAINED_SIZE,
    device: str = "cpu",
) -> Prediction:
    """Gaussians of two or more posed views by MVSplat, pair by pair.

    Scale: the world is divided by a pair's nearest depth, so that it lies at 1, and planes reach from 1 to 100 whatever the farthest
    depth is. What each of the 128 planes means is learned, and disparities in these units go into the network. It was trained with 1 and 100
    for all clips of RealEstate10K, whose scale its makers set so that in a tenth of a clip's frames at least 5 % of the points are nearer
    than 1.25 (Zhou et al. 2018, arXiv:1805.09817). Planes are even in disparity: of a scene that ends at 5, a fifth goes unused.

    Args:
        views: At least 2.
        weights: A published checkpoint, see `checkpoints.with_weights`.
        sources: For each view the others to look at, best first, as `neighbours.choose_sources` returns them.
        depth_ranges: For each view its nearest and farthest depth, world units.
        progress: Told each pair.
        size: Height and width that photos are resized and cropped to, multiples of 16.
        device: Where the network runs.

    Returns:
        One Gaussian a pixel of every view that has a source, SH degree 3, on the CPU. Confidences are the probabilities of the
        likeliest depth plane.

    Raises:
        UserError: weights that do not fit, a single view, or a size that the network cannot take.
    """
    network = with_weights(Encoder(), weights, what="of MVSplat").to(device)
    ask = FixedRange(network, NEAR, FAR, device)
    return ask.noted(predict_pairs(views, sources, depth_ranges, size, ask, progress))

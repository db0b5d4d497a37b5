"""Depth as a distribution over buckets of disparity, and one depth of it for each Gaussian (pixelSplat, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparse3d.init.networks.pixelsplat.epipolar import depth_of
from sparse3d.shapes import check_shapes

PER_PIXEL = 3  # Gaussians drawn, each with a third of the opacity; the network was trained so
_PROBABILITY_EPS = 2.0**-23


@dataclass(frozen=True)
class DepthBuckets:
    """For P pixels of V views: how likely each of D buckets is, and where in the bucket the depth is."""

    probabilities: Tensor  # (V, P, D), sum 1 over D; bucket 0 is nearest
    offsets: Tensor  # (V, P, D) in [0, 1], fraction of the bucket

    def __post_init__(self) -> None:
        check_shapes(probabilities=(self.probabilities, "V P D"), offsets=(self.offsets, "V P D"))

    def most_likely(self, near: float, far: float) -> tuple[Tensor, Tensor]:
        """The depth of the most likely bucket, and its probability.

        Args:
            near, far: Range of the buckets, world units.

        Returns:
            Distances along the rays (V, P, 1), and probabilities (V, P, 1).
        """
        return self._chosen(self.probabilities.argmax(-1, keepdim=True), near, far)

    def drawn(self, uniform: Tensor, near: float, far: float) -> tuple[Tensor, Tensor]:
        """Depths of buckets drawn by their probabilities, as the published results have them.

        Args:
            uniform: (V, P, S) numbers in [0, 1), one for each depth to draw.
            near, far: Range of the buckets, world units.

        Returns:
            Distances along the rays (V, P, S), and probabilities (V, P, S).
        """
        cumulative = self._normalized().cumsum(-1)
        buckets = torch.searchsorted(cumulative, uniform.to(cumulative), right=True)
        return self._chosen(buckets.clamp(max=cumulative.shape[-1] - 1), near, far)

    def _normalized(self) -> Tensor:
        return self.probabilities / (self.probabilities.sum(-1, keepdim=True) + _PROBABILITY_EPS)

    def _chosen(self, buckets: Tensor, near: float, far: float) -> tuple[Tensor, Tensor]:
        relative = (buckets + self.offsets.gather(-1, buckets)) / self.offsets.shape[-1]
        return depth_of(relative, near, far), self._normalized().gather(-1, buckets)


class DepthPredictor(nn.Module):
    """Reads depth buckets from the features of each pixel."""

    def __init__(self, width: int = 128, buckets: int = 32) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.ReLU(), nn.Linear(width, 2 * buckets))

    def forward(self, features: Tensor) -> DepthBuckets:
        """(V, P, width) -> buckets of each pixel"""
        logits, offsets = self.projection(features).unflatten(-1, (-1, 2)).unbind(-1)
        return DepthBuckets(logits.softmax(-1), offsets.sigmoid())

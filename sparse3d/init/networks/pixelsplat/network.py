"""The whole network, its parts named as in the published weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparse3d.init.networks.pixelsplat.backbone import Backbone
from sparse3d.init.networks.pixelsplat.depth import PER_PIXEL, DepthBuckets, DepthPredictor
from sparse3d.init.networks.pixelsplat.epipolar import EpipolarSamples
from sparse3d.init.networks.pixelsplat.resnet import ResNetFeatures
from sparse3d.init.networks.pixelsplat.transformer import EpipolarTransformer
from sparse3d.init.networks.pixelsplat.vit import VisionTransformer

SURFACE = 2 + 3 + 4 + 75  # offset in the pixel, scales, quaternion, spherical harmonics of degree 4 in three colours


class Encoded(NamedTuple):
    """S Gaussians for each pixel of V views, as `published_gaussians` takes them."""

    raw: Tensor  # (V, H, W, 84)
    distances: Tensor  # (V, H, W, S) along the ray, units of the poses
    opacities: Tensor  # (V, H, W, S) in [0, 1]
    confidences: Tensor  # (V, H, W) probability of the likeliest depth bucket


@dataclass(frozen=True)
class Predicted:
    """What the network says of every pixel of V views, row by row."""

    buckets: DepthBuckets
    raw: Tensor  # (V, P, 84) the Gaussians before their activations, see `SURFACE`

    def encoded(self, height: int, near: float, far: float, uniform: Tensor | None) -> Encoded:
        """A depth and an opacity for each Gaussian.

        Args:
            height: Of the views, pixels.
            near, far: Range of the depth buckets, along rays.
            uniform: (V, P, S) numbers in [0, 1) that draw S depths a pixel; None takes the most likely one.
        """
        confidences = self.buckets.probabilities.amax(-1)
        if uniform is None:
            distances, probabilities = self.buckets.most_likely(near, far)
        else:
            distances, probabilities = self.buckets.drawn(uniform, near, far)
        # a third of the opacity even where there is but one: the published network does so
        parts = (self.raw, distances, probabilities / PER_PIXEL, confidences)
        return Encoded(*(part.unflatten(1, (height, -1)) for part in parts))


class PixelSplat(nn.Module):
    """The encoder of pixelSplat for two views of 256 x 256 pixels.

    Args:
        backbone, epipolar_transformer: Of other sizes than published, if not None.
        features: Channels that the backbone gives.
        width: Channels of everything after it.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        epipolar_transformer: EpipolarTransformer | None = None,
        features: int = 512,
        width: int = 128,
    ) -> None:
        super().__init__()
        self.backbone = backbone or Backbone(VisionTransformer(), ResNetFeatures())
        self.backbone_projection = nn.Sequential(nn.ReLU(), nn.Linear(features, width))
        self.epipolar_transformer = epipolar_transformer or EpipolarTransformer()
        self.high_resolution_skip = nn.Sequential(nn.Conv2d(3, width, 7, padding=3), nn.ReLU())
        self.depth_predictor = DepthPredictor(width)
        self.to_gaussians = nn.Sequential(nn.ReLU(), nn.Linear(width, SURFACE))

    def features(self, images: Tensor) -> Tensor:
        """What each image shows, view by view: 512 full-size channels are 134 MB a view.

        Args:
            images: (V, 3, H, W) in [0, 1]

        Returns:
            (V, width, H, W)
        """
        return torch.cat(
            [self.backbone_projection(self.backbone(image[None]).movedim(1, -1)).movedim(-1, 1) for image in images]
        )

    def gaussians(self, images: Tensor, features: Tensor, samples: EpipolarSamples) -> Predicted:
        """What both views of a pair say together.

        Args:
            images: (2, 3, H, W)
            features: (2, width, H, W) of `features`.
            samples: Of the pair's epipolar lines.
        """
        known = self.epipolar_transformer(features, samples) + self.high_resolution_skip(images)
        pixels = known.flatten(2).transpose(1, 2)
        return Predicted(self.depth_predictor(pixels), self.to_gaussians(pixels))

    def forward(self, images: Tensor, samples: EpipolarSamples) -> Predicted:
        """Both in one."""
        return self.gaussians(images, self.features(images), samples)

"""The epipolar transformer (pixelSplat, section 4.1): tells each pixel which places on its epipolar line look like it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse3d.init.networks.pixelsplat.attention import EpipolarAttention, ImageBlock, PreNorm
from sparse3d.init.networks.pixelsplat.epipolar import EpipolarSamples
from sparse3d.init.networks.pixelsplat.position_code import PositionCode


class Layers(nn.Module):
    """Attention to epipolar lines and attention within the image, in turns."""

    def __init__(self, width: int, heads: int, head_width: int, depth: int, convolutions: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PreNorm(width, EpipolarAttention(width, heads, head_width)),
                    PreNorm(width, ImageBlock(width, heads, head_width, convolutions)),
                ]
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor, samples: Tensor, rows: int) -> Tensor:
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            across, within = layer
            x = x + across(x, samples)
            x = x + within(x, rows)
        return x


class EpipolarTransformer(nn.Module):
    """Features of each view that know the other view, and depth.

    Args:
        width, heads, head_width, depth: Of the transformer.
        block: Pixels along the side of a cell, in which it works.
        convolutions: As in the weights of the first release.
    """

    def __init__(
        self,
        width: int = 128,
        heads: int = 4,
        head_width: int = 128,
        depth: int = 2,
        block: int = 4,
        octaves: int = 10,
        convolutions: bool = False,
    ) -> None:
        super().__init__()
        self.block = block
        self.depth_encoding = nn.Sequential(PositionCode(octaves), nn.Linear(2 * octaves, width))
        self.transformer = Layers(width, heads, head_width, depth, convolutions)
        self.downscaler = nn.Conv2d(width, width, block, stride=block)
        self.upscaler = nn.ConvTranspose2d(width, width, block, stride=block)
        self.upscale_refinement = nn.Sequential(
            nn.Conv2d(width, 2 * width, 7, padding=3), nn.GELU(), nn.Conv2d(2 * width, width, 7, padding=3)
        )

    def forward(self, features: Tensor, samples: EpipolarSamples) -> Tensor:
        """Features of two views, each with the other as its partner.

        Args:
            features: (2, width, H, W)
            samples: Of the (H / block) x (W / block) cells of both views.

        Returns:
            (2, width, H, W)
        """
        small = self.downscaler(features)
        rows, columns = small.shape[-2:]
        seen = sampled_features(small, samples)
        seen = seen + self.depth_encoding(samples.disparity.to(seen)[..., None])
        cells = self.transformer(small.flatten(2).transpose(1, 2), seen, rows)
        large = self.upscaler(cells.transpose(1, 2).unflatten(2, (rows, columns)))
        return torch.cat([view[None] + self.upscale_refinement(view[None]) for view in large])


def sampled_features(features: Tensor, samples: EpipolarSamples) -> Tensor:
    """The partners' features at the samples, 0 where a partner sees nothing of a ray.

    Args:
        features: (2, C, h, w)

    Returns:
        (2, cells, S, C)
    """
    grid = 2 * samples.xy.to(features) - 1
    found = F.grid_sample(features.flip(0), grid, align_corners=False).permute(0, 2, 3, 1)
    return found * samples.valid.to(found)[:, :, None, None]

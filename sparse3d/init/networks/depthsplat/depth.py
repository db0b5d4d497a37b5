"""Posed views to depth: features, then matching at each scale, then a dense head that refines at full size (section 3.1 and 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparse3d.init.networks.depthsplat.dense import DenseHead, Features, resized
from sparse3d.init.networks.depthsplat.layout import CANDIDATES, CNN, MATCHING, Layout
from sparse3d.init.networks.depthsplat.matching import candidates_around, match_pixels, neighbours, uniform_candidates
from sparse3d.init.networks.depthsplat.vit import PATCH, VisionTransformer
from sparse3d.init.networks.mvsplat.cnn import Cnn, standardized
from sparse3d.init.networks.mvsplat.encoder import cost_volume
from sparse3d.init.networks.mvsplat.transformer import Transformer
from sparse3d.init.networks.mvsplat.unet import UNet

_WIDTH = 128  # channels of the network that refines the cost volume; half of them at the next scale
_PRIOR = 8  # pixels of the image in one of the prior's features, as they are handed on


class Depths(NamedTuple):
    """Depth of V views."""

    disparities: Tensor  # (V, 1, H, W) inverse depth
    likely: Tensor  # (V, D, H / f, W / f) probabilities of the finest candidates, f of Layout.finest
    features: Features


class DepthPredictor(nn.Module):
    """The part that DepthSplat's depth models have too."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        prior = layout.prior
        self.backbone = Cnn(MATCHING, strides=(1, 1, 2) if layout.coarsest == 4 else (1, 2, 2))
        self.transformer = Transformer(MATCHING)
        self.pretrained = VisionTransformer(prior.channels, prior.depth, prior.taken)
        if layout.scales > 1:
            self.mv_pyramid = Pyramid(MATCHING)
            self.mono_pyramid = Pyramid(prior.channels)
        self.regressor = nn.ModuleList()
        self.regressor_residual = nn.ModuleList()
        self.depth_head = nn.ModuleList()
        for scale in range(layout.scales):
            count, width = CANDIDATES >> 2 * scale, _WIDTH >> scale
            inputs = count + CNN[-1 - scale] + (MATCHING >> scale) + (prior.channels >> scale)
            self.regressor.append(
                nn.Sequential(
                    nn.Conv2d(inputs, width, 3, padding=1),
                    nn.GroupNorm(8, width),
                    nn.GELU(),
                    UNet(width, levels=3 + scale, norm_first=True),
                    nn.Conv2d(width, width, 3, padding=1),
                )
            )
            self.regressor_residual.append(nn.Conv2d(inputs, width, 1))
            self.depth_head.append(
                nn.Sequential(
                    nn.Conv2d(width, 2 * width, 3, padding=1, padding_mode="replicate"),
                    nn.GELU(),
                    nn.Conv2d(2 * width, count, 3, padding=1, padding_mode="replicate"),
                )
            )
        self.upsampler = DenseHead(layout, prior.disparity_features, refines=True)

    def forward(self, images: Tensor, c2w: Tensor, K: Tensor, near: float, far: float) -> Depths:
        """See `network.DepthSplat.forward`."""
        pairs = neighbours(c2w)
        convolved = self.backbone.levels(images)
        matched = self._scales("mv_pyramid", self.transformer(convolved[-1], pairs))
        prior = self._prior(images)
        last = prior[-1] if self.layout.coarsest == _PRIOR else resized(prior[-1], convolved[-1].shape[-2:])
        monocular = self._scales("mono_pyramid", last)
        features = Features(prior, convolved, matched)

        disparity, likely = images.new_zeros(0), images.new_zeros(0)
        for scale in range(self.layout.scales):
            count = CANDIDATES >> 2 * scale
            if scale == 0:
                planes = uniform_candidates(near, far, count, images)
                candidates = planes[:, None, None]
                costs = cost_volume(matched[0], c2w, K, 1 / planes, pairs)
            else:
                finer = resized(disparity, matched[scale].shape[-2:])
                step = (1 / near - 1 / far) / (CANDIDATES - 1) / 2**scale
                candidates = candidates_around(finer, near, far, step, count)
                costs = match_pixels(matched[scale], c2w, K, pairs, candidates)
            joined = torch.cat([costs, convolved[-1 - scale], matched[scale], monocular[scale]], dim=1)
            refined = self.regressor[scale](joined) + self.regressor_residual[scale](joined)
            likely = self.depth_head[scale](refined).softmax(dim=1)
            disparity = (likely * candidates).sum(dim=1, keepdim=True)

        change = self.upsampler(features, disparity)
        full = resized(disparity, images.shape[-2:]) + change
        return Depths(full.clamp(1 / far, 1 / near), likely, features)

    def _scales(self, pyramid: str, features: Tensor) -> list[Tensor]:
        """Features at each scale that is matched, coarse to fine."""
        found: list[Tensor] = self.get_submodule(pyramid)(features) if self.layout.scales > 1 else [features]
        return found

    def _prior(self, images: Tensor) -> list[Tensor]:
        """Features of each view alone, of an image cut down to whole patches. 4 of (V, C, H / 8, W / 8)"""
        height, width = images.shape[-2:]
        fitting = resized(standardized(images), (height // PATCH * PATCH, width // PATCH * PATCH))
        return [resized(m, (height // _PRIOR, width // _PRIOR)) for m in self.pretrained(fitting)]


class Pyramid(nn.Module):
    """Features as they are, and of twice the size with half the channels (ViTDet, Li et al., arXiv:2203.16527)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        finer = nn.Sequential(nn.ConvTranspose2d(channels, half, 2, 2), nn.GELU(), nn.Conv2d(half, half, 3, padding=1))
        self.stages = nn.ModuleList([nn.Identity(), finer])

    def forward(self, features: Tensor) -> list[Tensor]:
        """(V, C, H, W) -> [(V, C, H, W), (V, C / 2, 2 H, 2 W)]"""
        return [stage(features) for stage in self.stages]

"""Posed views to depth, opacity and the raw channels of Gaussians: MVSplat's encoder from end to end (arXiv:2403.14627, fig. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse3d.init.networks.mvsplat.cnn import Cnn
from sparse3d.init.networks.mvsplat.transformer import Transformer, everyone
from sparse3d.init.networks.mvsplat.unet import UNet
from sparse3d.kernels.plane_sweep import feature_sweep
from sparse3d.shapes import check_shapes

PLANES = 128
_CHANNELS = 128  # of the features
_REFINED = 32  # of the refinement at full size
_REDUCTION = 4  # pixels of the image in one of the features
_RAW = 84  # channels of a pixel's Gaussian, see adapter.py: 2 + 3 + 4 + 3 * 25


class Encoded(NamedTuple):
    """What the encoder says of V views: one Gaussian for each pixel, as `published_gaussians` takes them. DepthSplat's says the same."""

    raw: Tensor  # (V, H, W, 84); DepthSplat (V, H, W, 36)
    distances: Tensor  # (V, H, W) along the ray, units of the poses; DepthSplat: z
    opacities: Tensor  # (V, H, W) in [0, 1]
    confidences: Tensor  # (V, H, W) largest probability of a depth plane, in blocks of 4 x 4 pixels


class Features(nn.Module):
    """Features of each view, alone and in the light of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Cnn(_CHANNELS)
        self.transformer = Transformer(_CHANNELS)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(V, 3, H, W) in [0, 1] -> (V, 128, H / 4, W / 4) of the transformer, and of the CNN alone"""
        alone = self.backbone(images)
        return self.transformer(alone), alone


class DepthPredictor(nn.Module):
    """Cost volume, its refinement, depth at a quarter of the size, refinement at full size, Gaussians."""

    def __init__(self) -> None:
        super().__init__()
        both = PLANES + _CHANNELS
        self.corr_refine_net = nn.Sequential(
            nn.Conv2d(both, _CHANNELS, 3, padding=1),
            nn.GroupNorm(8, _CHANNELS),
            nn.GELU(),
            UNet(_CHANNELS, levels=3),
            nn.Conv2d(_CHANNELS, PLANES, 3, padding=1),
        )
        self.regressor_residual = nn.Conv2d(both, PLANES, 1)
        self.depth_head_lowres = _head(PLANES, 2 * PLANES, PLANES)
        self.upsampler = nn.Sequential(
            nn.Conv2d(2 * _CHANNELS, _CHANNELS, 3, padding=1),
            nn.Upsample(scale_factor=_REDUCTION, mode="bilinear", align_corners=True),
            nn.GELU(),
        )
        self.proj_feature = nn.Conv2d(_CHANNELS, _REFINED, 3, padding=1)
        self.refine_unet = nn.Sequential(
            nn.Conv2d(3 + _REFINED + 2, _REFINED, 3, padding=1),
            nn.GroupNorm(4, _REFINED),
            nn.GELU(),
            UNet(_REFINED, levels=5),
        )
        self.to_disparity = _head(_REFINED, 2 * _REFINED, 2)
        self.to_gaussians = _head(_REFINED + 3 + _CHANNELS, 2 * _RAW, _RAW)

    def forward(
        self, features: Tensor, alone: Tensor, images: Tensor, c2w: Tensor, K: Tensor, near: float, far: float
    ) -> Encoded:
        """See `Encoder.forward`; `features` and `alone` as `Features` returns them."""
        disparities = 1 / far + torch.linspace(0, 1, PLANES, dtype=torch.float64) * (1 / near - 1 / far)
        costs = cost_volume(features, c2w, K, 1 / disparities)
        costs = torch.cat([costs, features], dim=1)
        costs = self.corr_refine_net(costs) + self.regressor_residual(costs)
        likely = self.depth_head_lowres(costs).softmax(dim=1)
        coarse = (likely * disparities.to(likely)[:, None, None]).sum(dim=1, keepdim=True)
        coarse = F.interpolate(coarse, scale_factor=_REDUCTION, mode="bilinear", align_corners=True)
        sure = F.interpolate(likely.amax(dim=1, keepdim=True), scale_factor=_REDUCTION, mode="nearest")

        wide = self.upsampler(torch.cat([features, alone], dim=1))
        refined = self.refine_unet(torch.cat([images, self.proj_feature(wide), coarse, sure], dim=1))
        change, density = self.to_disparity(refined).unbind(dim=1)
        # the planes were of z; from here on the published code takes it for a distance along the ray, and so it was trained
        distances = 1 / (coarse[:, 0] + change).clamp(1 / far, 1 / near)
        raw = self.to_gaussians(torch.cat([refined, images, wide], dim=1))
        return Encoded(raw.movedim(1, -1), distances, density.sigmoid(), sure[:, 0])


class Encoder(nn.Module):
    """The whole encoder. Its parameters have the names that the published checkpoints give them, but for the prefix `encoder.`"""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Features()
        self.depth_predictor = DepthPredictor()

    def forward(self, images: Tensor, c2w: Tensor, K: Tensor, near: float, far: float) -> Encoded:
        """Depth, opacity and raw Gaussians of V views that see the same; trained on two of 256 x 256 pixels, near 1, far 100.

        Args:
            images: (V, 3, H, W) sRGB in [0, 1], V at least 2, H and W multiples of 16.
            c2w: (V, 4, 4)
            K: (V, 3, 3) normalized: the first row divided by the width, the second by the height.
            near, far: Depth range in units of the poses.

        Raises:
            ValueError: shapes that do not belong together, or a single view.
        """
        sizes = check_shapes(images=(images, "V 3 H W"), c2w=(c2w, "V 4 4"), K=(K, "V 3 3"))
        if sizes["V"] < 2 or sizes["H"] % 16 or sizes["W"] % 16:
            raise ValueError(
                f"images has shape {tuple(images.shape)}, needed at least 2 views and sides that are multiples of 16"
            )
        features, alone = self.backbone(images)
        encoded: Encoded = self.depth_predictor(features, alone, images, c2w, K, near, far)
        return encoded


def cost_volume(
    features: Tensor, c2w: Tensor, K: Tensor, depths: Tensor, pairs: Sequence[Sequence[int]] | None = None
) -> Tensor:
    """How well each view's features match those of the others at every depth (eq. 2 and 3), averaged over the others.

    The published code differs in three ways. It counts a feature's centre at 0 with K scaled to the map; adding 0.5 to the principal
    point makes up for that. It divides by a depth of at least 1e-3 also behind a camera, where ours counts 0: it samples something
    there only if depth times pixel is within a thousandth of the map, which no point of the stored results is. And it
    projects with the reference's K, which is the source's too wherever it was trained and tested; photos may differ, so here it is the source's.

    Args:
        features: (V, C, H, W)
        c2w: (V, 4, 4)
        K: (V, 3, 3) normalized.
        depths: (D,) units of the poses.
        pairs: For each view the views that it is matched with; None: all others.

    Returns:
        (V, D, H, W)
    """
    Ks = feature_Ks(K, features)
    to_world, dtype = c2w.double(), features.dtype
    volumes = []
    for i, chosen in enumerate(everyone(len(features)) if pairs is None else pairs):
        others = list(chosen)
        transforms = torch.linalg.inv(to_world[others]) @ to_world[i]
        volumes.append(
            feature_sweep(
                features[i].contiguous(), Ks[i], features[others], Ks[others], transforms.to(dtype), depths.to(features)
            )
        )
    return torch.stack(volumes)


def feature_Ks(K: Tensor, features: Tensor) -> Tensor:
    """Normalized intrinsics (V, 3, 3) in pixels of features (V, C, H, W), whose centres are at +0.5 as everywhere here."""
    height, width = features.shape[-2:]
    Ks = K * K.new_tensor([width, height, 1.0])[:, None]
    Ks[:, :2, 2] += 0.5
    return Ks


def _head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    layers = nn.Conv2d(inputs, hidden, 3, padding=1), nn.GELU(), nn.Conv2d(hidden, outputs, 3, padding=1)
    return nn.Sequential(*layers)

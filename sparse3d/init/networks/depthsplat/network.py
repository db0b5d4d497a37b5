"""Posed views to depth and the raw channels of Gaussians: DepthSplat's encoder from end to end (arXiv:2410.13862, fig. 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse3d.init.networks.depthsplat.dense import DenseHead
from sparse3d.init.networks.depthsplat.depth import DepthPredictor
from sparse3d.init.networks.depthsplat.layout import Layout
from sparse3d.init.networks.mvsplat.encoder import Encoded
from sparse3d.shapes import check_shapes

_RAW = 37  # channels of a pixel's Gaussian: opacity 1, offset 2, scale 3, quaternion 4, harmonics 3 * 9
_REGRESSED = 64
_Y00 = 0.28209479177387814


class DepthSplat(nn.Module):
    """The whole encoder. Its parameters have the names that the published checkpoints give them, but for the prefix `encoder.`"""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        width = layout.prior.gaussian_features
        self.depth_predictor = DepthPredictor(layout)
        self.feature_upsampler = DenseHead(layout, width, refines=False)
        self.gaussian_regressor = nn.Sequential(
            nn.Conv2d(3 + 1 + 1 + width, _REGRESSED, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(_REGRESSED, _REGRESSED, 3, padding=1),
        )
        self.gaussian_head = nn.Sequential(
            nn.Conv2d(_REGRESSED + 3 + width + 1, _RAW, 3, padding=1, padding_mode="replicate"),
            nn.GELU(),
            nn.Conv2d(_RAW, _RAW, 3, padding=1, padding_mode="replicate"),
        )

    def forward(self, images: Tensor, c2w: Tensor, K: Tensor, near: float, far: float) -> Encoded:
        """Depth and raw Gaussians of V views that see the same.

        Trained with near 0.5 and far 100 (RealEstate10K) or 200 (DL3DV) in units of the poses. The network is told depths and
        answers with sizes in these units: poses in others must be brought to them first.

        Args:
            images: (V, 3, H, W) sRGB in [0, 1], V at least 2, H and W multiples of `layout.multiple`.
            c2w: (V, 4, 4)
            K: (V, 3, 3) normalized: the first row divided by the width, the second by the height.
            near, far: Depth range in units of the poses.

        Returns:
            One Gaussian a pixel, with depth z in place of distances, and raw channels for `gaussians.published_gaussians`.
            Confidences are the largest probability of a candidate depth, in blocks as large as a feature.

        Raises:
            ValueError: shapes that do not belong together, or a single view.
        """
        sizes = check_shapes(images=(images, "V 3 H W"), c2w=(c2w, "V 4 4"), K=(K, "V 3 3"))
        multiple = self.layout.multiple
        if sizes["V"] < 2 or sizes["H"] % multiple or sizes["W"] % multiple:
            raise ValueError(
                f"images has shape {tuple(images.shape)}, needed at least 2 views and sides that are multiples of {multiple}"
            )
        disparities, likely, features = self.depth_predictor(images, c2w, K, near, far)
        depths = 1 / disparities
        sure = F.interpolate(likely.amax(dim=1, keepdim=True), size=images.shape[-2:], mode="nearest")
        described = self.feature_upsampler(features)
        regressed = self.gaussian_regressor(torch.cat([images, depths, sure, described], dim=1))
        head = self.gaussian_head(torch.cat([regressed, images, described, sure], dim=1)).movedim(1, -1)
        raw = head[..., 1:].clone()
        # degree 0 of each colour: the network says what is to be added to the pixel's
        raw[..., 9::9] += (images.movedim(1, -1) - 0.5) / _Y00
        return Encoded(raw, depths[:, 0], head[..., 0].sigmoid(), sure[:, 0])

"""Raw outputs of DepthSplat's Gaussian head to Gaussians, in the conventions of the published encoder."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sparse3d.init.networks.adapter import Published, assembled, unit_rays
from sparse3d.shapes import check_shapes

LARGEST = 3.0  # standard deviation, units of the poses
_SMALLEST = 1e-10
_SHIFT = 4.0  # of the scale before the softplus, so that training starts with small Gaussians


def published_gaussians(
    raw: Tensor, depths: Tensor, opacities: Tensor, c2w: Tensor, K: Tensor, largest: float = LARGEST
) -> Published:
    """One Gaussian for each pixel.

    The channels are those of pixelSplat and MVSplat, see `adapter.published_gaussians`. But depth is z, not along the ray, and
    scales are in units of the poses, whatever the depth.

    Args:
        raw: (V, H, W, 9 + 3 (L + 1)^2)
        depths: (V, H, W, 1) z in camera axes, units of the poses.
        opacities: (V, H, W, 1) in [0, 1].
        c2w: (V, 4, 4)
        K: (V, 3, 3) normalized.
        largest: Standard deviations are cut there, units of the poses.

    Raises:
        ValueError: shapes that do not belong together.
    """
    sizes = check_shapes(
        raw=(raw, "V H W C"), depths=(depths, "V H W 1"), opacities=(opacities, "V H W 1"), c2w=(c2w, "V 4 4"),
        K=(K, "V 3 3"),
    )  # fmt: skip
    offset, scale, quaternion, harmonics = raw.split([2, 3, 4, sizes["C"] - 9], dim=-1)
    rays = unit_rays(offset.sigmoid() - 0.5, K)
    seen = (rays / rays[..., 2:] * depths).flatten(1, 2)
    means = (seen @ c2w[:, :3, :3].transpose(-1, -2) + c2w[:, None, :3, 3]).reshape(rays.shape)
    scales = F.softplus(scale - _SHIFT).clamp(_SMALLEST, largest)
    return assembled(means[..., None, :], scales[..., None, :], quaternion, harmonics, opacities, c2w)

"""Raw outputs of a Gaussian head to Gaussians, as pixelSplat (arXiv:2312.12337, appendix) does it and MVSplat after it.

`published_gaussians` returns what the published encoders return, in their conventions; `to_gaussians` turns that into ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse3d.geometry import quat_from_rotation
from sparse3d.init.networks.harmonics import drawn_sh, turn_published, turn_sh
from sparse3d.shapes import check_shapes
from sparse3d.types import Gaussians

SCALES_PX = (0.5, 15.0)  # least and largest, in `pixel_size`
_OPACITY_MARGIN = 1e-6  # of 0 and 1, whose logits are infinite
_EPS = 1e-8


@dataclass(frozen=True)
class Published:
    """What a published encoder returns: S Gaussians for each pixel of V views, in the frame of the poses it was given.

    All are (V, H, W, S, ...), but for scales, rotations and harmonics where all samples of a pixel share one (S = 1).
    """

    means: Tensor  # (V, H, W, S, 3)
    covariances: Tensor  # (V, H, W, S, 3, 3)
    scales: Tensor  # (V, H, W, S, 3) standard deviations
    rotations: Tensor  # (V, H, W, 1, 4) xyzw, in camera axes
    harmonics: Tensor  # (V, H, W, 1, 3, (L + 1)^2) turned into the frame, in the published rasterizer's basis
    opacities: Tensor  # (V, H, W, S) in [0, 1]


def published_gaussians(
    raw: Tensor,
    distances: Tensor,
    opacities: Tensor,
    c2w: Tensor,
    K: Tensor,
    scales_px: tuple[float, float] = SCALES_PX,
) -> Published:
    """One Gaussian for each pixel and sample, from the channels of a Gaussian head.

    Channels: offset of the pixel (2), scale (3), quaternion xyzw (4), harmonics (3 (L + 1)^2, colour after colour).

    Args:
        raw: (V, H, W, 9 + 3 (L + 1)^2)
        distances: (V, H, W, S) along the ray, in units of the poses.
        opacities: (V, H, W, S) in [0, 1].
        c2w: (V, 4, 4)
        K: (V, 3, 3) normalized: the first row divided by the width, the second by the height.
        scales_px: Least and largest standard deviation, in pixels at the Gaussian's distance, as `pixel_size` has them.

    Raises:
        ValueError: shapes that do not belong together.
    """
    sizes = check_shapes(
        raw=(raw, "V H W C"), distances=(distances, "V H W S"), opacities=(opacities, "V H W S"), c2w=(c2w, "V 4 4"),
        K=(K, "V 3 3"),
    )  # fmt: skip
    height, width = sizes["H"], sizes["W"]
    offset, scale, quaternion, harmonics = raw.split([2, 3, 4, sizes["C"] - 9], dim=-1)

    rays = unit_rays(offset.sigmoid() - 0.5, K).flatten(1, 2) @ c2w[:, :3, :3].transpose(-1, -2)
    means = c2w[:, None, None, None, :3, 3] + distances[..., None] * rays.reshape(-1, height, width, 1, 3)

    low, high = scales_px
    pixels = (low + (high - low) * scale.sigmoid())[..., None, :]
    scales = pixels * distances[..., None] * pixel_size(K, height, width)[:, None, None, None, None]
    return assembled(means, scales, quaternion, harmonics, opacities, c2w)


def assembled(
    means: Tensor, scales: Tensor, quaternion: Tensor, harmonics: Tensor, opacities: Tensor, c2w: Tensor
) -> Published:
    """Gaussians from a head's channels for their axes and colours, which are in the camera's frame.

    Args:
        means: (V, H, W, S, 3) in the frame of the poses.
        scales: (V, H, W, S, 3)
        quaternion: (V, H, W, 4) xyzw, of any length.
        harmonics: (V, H, W, 3 (L + 1)^2) colour after colour, higher degrees not yet scaled down.
        opacities: (V, H, W, S) in [0, 1].
        c2w: (V, 4, 4)
    """
    quaternion = (quaternion / (quaternion.norm(dim=-1, keepdim=True) + _EPS))[..., None, :]
    axes = c2w[:, None, None, None, :3, :3] @ _rotation_xyzw(quaternion) * scales[..., None, :]  # c2w R S

    coefficients = harmonics.unflatten(-1, (3, -1)) * harmonics_mask(harmonics.shape[-1] // 3).to(harmonics)
    turned = turn_published(coefficients.flatten(1, 3), c2w[:, :3, :3]).reshape(coefficients.shape)[..., None, :, :]
    return Published(means, axes @ axes.transpose(-1, -2), scales, quaternion, turned, opacities)


def unit_rays(offset_px: Tensor, K: Tensor) -> Tensor:
    """Directions of unit length through the pixel centres, each moved by an offset, in camera axes.

    Args:
        offset_px: (V, H, W, 2) x and y, pixels.
        K: (V, 3, 3) normalized.

    Returns:
        (V, H, W, 3)
    """
    height, width = offset_px.shape[1:3]
    v, u = (torch.arange(n, dtype=K.dtype, device=K.device) + 0.5 for n in (height, width))
    grid = torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1) + offset_px
    homogeneous = torch.nn.functional.pad(grid / grid.new_tensor([width, height]), (0, 1), value=1.0)
    rays = (homogeneous.flatten(1, 2) @ torch.linalg.inv(K).transpose(-1, -2)).reshape(homogeneous.shape)
    return rays / rays.norm(dim=-1, keepdim=True)


def pixel_size(K: Tensor, height: int, width: int) -> Tensor:
    """A tenth of a pixel's width plus height at distance 1, the unit of the published scales. (V, 3, 3) -> (V,)"""
    inverse = torch.linalg.inv(K[:, :2, :2])
    return 0.1 * (inverse @ K.new_tensor([1 / width, 1 / height])).sum(dim=-1)


def harmonics_mask(count: int) -> Tensor:
    """Factors on (L + 1)^2 coefficients: 1 for degree 0, then 0.1 * 0.25^l, so that training starts near one colour.

    The published constants are float32, and stay so in float64. (count,) float32
    """
    factors = torch.ones(count)
    for degree in range(1, round(count**0.5)):
        factors[degree**2 : (degree + 1) ** 2] = 0.1 * 0.25**degree
    return factors


def to_gaussians(published: Published, c2w: Tensor, frame: Tensor, unit: float = 1.0) -> Gaussians:
    """Published Gaussians as ours, in the world.

    The harmonics are turned from the frame into the world exactly. The published code's own turn, from camera to frame, is not exact
    (`turn_published`), so its colours depend on how the frame lies to the cameras. Give each view the frame of its own camera: that turn
    is then the identity, and nothing depends on how the world is turned. With the frame of the published run, pictures are the published ones.

    Args:
        published: V views.
        c2w: (V, 4, 4) poses in the frame, as `published_gaussians` had them.
        frame: (4, 4) rigid, frame to world; its shift in world units.
        unit: World units in a unit of the frame.

    Returns:
        V * H * W * S Gaussians of SH degree 3 (or the network's, if less), float32, in order view, row, column, sample.
    """
    views, height, width, samples = published.opacities.shape
    turn = (frame[:3, :3] @ c2w[:, :3, :3])[:, None, None, None]
    quats = quat_from_rotation(turn @ _rotation_xyzw(published.rotations)).expand(-1, -1, -1, samples, -1)
    sh = turn_sh(drawn_sh(published.harmonics), frame[:3, :3]).transpose(-1, -2).expand(-1, -1, -1, samples, -1, -1)
    count = views * height * width * samples
    means = published.means @ frame[:3, :3].T * unit + frame[:3, 3]
    opacities = published.opacities.clamp(_OPACITY_MARGIN, 1 - _OPACITY_MARGIN)
    return Gaussians(
        means.reshape(count, 3).float(),
        quats.reshape(count, 4).float(),
        (published.scales * unit).log().reshape(count, 3).float(),
        opacities.logit().reshape(count).float(),
        sh.reshape(count, -1, 3).float(),
    )


def _rotation_xyzw(quaternion: Tensor) -> Tensor:
    """R = I + 2 / (|q|^2 + 1e-8) (w [v] + [v]^2), as published: a rotation but for the 1e-8. (..., 4) -> (..., 3, 3)"""
    x, y, z, w = quaternion.unbind(-1)
    o = torch.zeros_like(x)
    skew = torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3))
    factor = 2 / (quaternion.square().sum(-1) + _EPS)
    turn = w[..., None, None] * skew + skew @ skew
    return torch.eye(3, dtype=x.dtype, device=x.device) + factor[..., None, None] * turn

"""Rigid transforms, rotations, projection and resizing: the few formulas that every stage shares."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.kernels.reference import rotation_matrices


def invert_rigid(transforms: Tensor) -> Tensor:
    """Inverse of rigid 4x4 transforms, exact for rotations: (R, t) -> (R^T, -R^T t).

    Args:
        transforms: (..., 4, 4) with an orthonormal upper-left block.

    Returns:
        (..., 4, 4)
    """
    rotation = transforms[..., :3, :3].transpose(-1, -2)
    inverse = torch.zeros_like(transforms)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -(rotation @ transforms[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1.0
    return inverse


def se3_exp(twists: Tensor) -> Tensor:
    """Rigid transforms of twists: the exponential map of SE(3) (Barfoot 2017, eq. 7.86), with a slope at zero too.

    Args:
        twists: (..., 6) the rotation vector in radians, then the translation before V mixes it.

    Returns:
        (..., 4, 4)
    """
    omega, rho = twists[..., :3], twists[..., 3:]
    square = (omega * omega).sum(-1)[..., None, None]
    small = square < 1e-4  # there the closed forms cancel; the series is right to 1e-13 of its value
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    a = torch.where(small, 1 - square / 6 + square**2 / 120, angle.sin() / angle)
    b = torch.where(small, 0.5 - square / 24 + square**2 / 720, (1 - angle.cos()) / safe)
    c = torch.where(small, 1 / 6 - square / 120 + square**2 / 5040, (angle - angle.sin()) / (safe * angle))
    x, y, z = omega.unbind(-1)
    o = torch.zeros_like(x)
    skew = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*omega.shape[:-1], 3, 3)
    twice, identity = skew @ skew, torch.eye(3, dtype=twists.dtype, device=twists.device)
    rotation = identity + a * skew + b * twice
    translation = (identity + b * skew + c * twice) @ rho[..., None]
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=twists.dtype, device=twists.device)
    return torch.cat([torch.cat([rotation, translation], -1), last.expand(*omega.shape[:-1], 1, 4)], -2)


def rotation_from_quat(quats: Tensor) -> Tensor:
    """Rotation matrices of quaternions, which need not be normalized.

    Args:
        quats: (..., 4) wxyz.

    Returns:
        (..., 3, 3)
    """
    return rotation_matrices(quats.reshape(-1, 4)).reshape(*quats.shape[:-1], 3, 3)


def quat_from_rotation(rotations: Tensor) -> Tensor:
    """Quaternions of rotation matrices, w >= 0 (Shepperd's method: divides by the largest component).

    Args:
        rotations: (..., 3, 3), orthonormal with determinant 1.

    Returns:
        (..., 4) wxyz, normalized.
    """
    m = rotations
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    # row k is 4 q_k (w, x, y, z): all four are the quaternion up to a factor, the longest is the stable one
    candidates = torch.stack(
        [
            torch.stack([1 + trace, m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1),
            torch.stack([m[..., 2, 1] - m[..., 1, 2], 1 + 2 * m[..., 0, 0] - trace, m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0]], -1),
            torch.stack([m[..., 0, 2] - m[..., 2, 0], m[..., 0, 1] + m[..., 1, 0], 1 + 2 * m[..., 1, 1] - trace, m[..., 1, 2] + m[..., 2, 1]], -1),
            torch.stack([m[..., 1, 0] - m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1], 1 + 2 * m[..., 2, 2] - trace], -1),
        ],
        dim=-2,
    )  # fmt: skip
    best = candidates.norm(dim=-1).argmax(dim=-1)
    chosen = torch.gather(candidates, -2, best[..., None, None].expand(*best.shape, 1, 4))[..., 0, :]
    quats = F.normalize(chosen, dim=-1)
    return torch.where(quats[..., :1] < 0, -quats, quats)


def pixel_rays(K: Tensor, height: int, width: int) -> Tensor:
    """Directions through the pixel centres in camera axes, scaled to depth 1.

    Args:
        K: (3, 3) pixels.

    Returns:
        (H, W, 3); multiply by a depth to get the point.
    """
    v, u = torch.meshgrid(
        torch.arange(height, dtype=K.dtype, device=K.device) + 0.5,
        torch.arange(width, dtype=K.dtype, device=K.device) + 0.5,
        indexing="ij",
    )
    return torch.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], torch.ones_like(u)], dim=-1)


def project(points: Tensor, w2c: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels and depths of world points in one camera; a depth <= 0 is behind it.

    Args:
        points: (P, 3) world units.
        w2c: (4, 4)
        K: (3, 3) pixels.

    Returns:
        (P, 2) pixels (pixel centres at +0.5) and (P,) depths.
    """
    camera = points @ w2c[:3, :3].T + w2c[:3, 3]
    depth = camera[:, 2]
    safe = torch.where(depth.abs() < 1e-12, torch.full_like(depth, 1e-12), depth)
    pixels = camera[:, :2] / safe[:, None] * torch.stack([K[0, 0], K[1, 1]]) + K[:2, 2]
    return pixels, depth


def fitted_size(height: int, width: int, max_size: int) -> tuple[int, int]:
    """Height and width with the longer side at most `max_size`, shape kept; never enlarged."""
    longest = max(height, width)
    if longest <= max_size:
        return height, width
    return max(1, round(height * max_size / longest)), max(1, round(width * max_size / longest))


def resize_image(image: Tensor, K: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """An image at another size and the `K` that goes with it; area averaging when it shrinks.

    Args:
        image: (C, H, W)
        K: (3, 3) pixels of `image`.

    Returns:
        (C, height, width) and (3, 3).
    """
    scale = torch.tensor([width / image.shape[2], height / image.shape[1], 1.0], dtype=K.dtype, device=K.device)
    if (height, width) == tuple(image.shape[1:]):
        return image, K
    resized = F.interpolate(image[None], (height, width), mode="bilinear", antialias=True, align_corners=False)[0]
    return resized, K * scale[:, None]


def resize_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask at another size; a pixel counts when at least half of it did. (H, W) bool -> (height, width) bool"""
    if (height, width) == tuple(mask.shape):
        return mask
    return resize_map(mask.float(), height, width) >= 0.5


def resize_map(values: Tensor, height: int, width: int) -> Tensor:
    """Values of pixels at another size; area averaging when it shrinks. (H, W) -> (height, width)"""
    if (height, width) == tuple(values.shape):
        return values
    return F.interpolate(values[None, None], (height, width), mode="bilinear", antialias=True)[0, 0]


def scene_extent(c2w: Tensor) -> float:
    """Size of a camera rig as 3DGS measures it: 1.1 times the largest distance to the mean camera centre.

    Args:
        c2w: (V, 4, 4)

    Returns:
        World units; never 0, so that a single camera has a step size too.
    """
    centres = c2w[:, :3, 3]
    radius = (centres - centres.mean(dim=0)).norm(dim=1).max().item()
    return max(1.1 * radius, 1e-6)


def near_plane(c2w: Tensor) -> float:
    """Distance below which nothing is drawn: a hundredth of the rig's extent, so that it follows the scene's units; 0.01 for a single camera.

    Args:
        c2w: (V, 4, 4)

    Returns:
        World units, above 0.
    """
    return 0.01 * scene_extent(c2w) if len(c2w) > 1 else 0.01

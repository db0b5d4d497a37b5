"""How ZeroNVS is told where to look from (Sargent et al. 2024, arXiv:2310.17994, section 3.2)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Mode = Literal["7dof_quantile_scale", "7dof_unscaled", "7dof_stereomag_scale", "3dof"]

QUANTILE = 0.2  # of the photo's depth: what counts as 1
_LEAST_SCALE = 0.01
_REACH = 10.0  # translations are squashed at about this; half of it is what they are at most
_CLIP = 20.0
_GL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))  # OpenCV's camera axes to OpenGL's


def pose_vector(photo: Tensor, targets: Tensor, scale: float, fov: float, mode: Mode = "7dof_quantile_scale") -> Tensor:
    """The numbers that stand for cameras relative to the photo's.

    The published model has `7dof_quantile_scale`: the target in the photo's axes, its translation over the scale, each component t as
    5 tanh(t / 10), so that small ones are halved; the matrix row by row, then fov, its sine and its cosine.

    Args:
        photo: (4, 4) camera to world.
        targets: (n, 4, 4) camera to world.
        scale: World units that count as 1: the 0.2 quantile of the photo's depth.
        fov: Horizontal angle of the square pictures, radians.
        mode: As the model was trained; `3dof` is Zero-1-to-3's (arXiv:2303.11328).

    Returns:
        (n, 19), or (n, 4) of 3dof: difference of polar angles, sine and cosine of that of azimuths, difference of distances to the origin.

    Raises:
        ValueError: no such mode.
    """
    if mode == "3dof":
        return _spherical(photo, targets)
    axes = _GL.to(photo)
    relative = axes @ torch.linalg.inv(photo) @ targets @ axes
    moved = relative[:, :3, 3]
    if mode == "7dof_quantile_scale":
        moved = 0.5 * _REACH * torch.tanh(moved / max(scale, _LEAST_SCALE) / _REACH)
        moved = moved.nan_to_num()
    elif mode == "7dof_stereomag_scale":
        moved = (moved / max(scale, _LEAST_SCALE)).clamp(-_CLIP, _CLIP)
    elif mode == "7dof_unscaled":
        moved = moved.clamp(-_CLIP, _CLIP)
    else:
        raise ValueError(f"unknown mode {mode!r} of pose conditioning")
    relative = relative.clone()
    relative[:, :3, 3] = moved
    angle = torch.tensor([fov, math.sin(fov), math.cos(fov)], dtype=relative.dtype, device=relative.device)
    return torch.cat([relative.flatten(1), angle.expand(len(relative), 3)], dim=1)


def depth_scale(depth: Tensor) -> float:
    """World units that count as 1, by the depth of the photo: its 0.2 quantile where it is known. (...) -> a number above 0"""
    known = depth[(depth > 0) & depth.isfinite()]
    return max(float(known[:: max(1, len(known) // 1_000_000)].quantile(QUANTILE)), 1e-12) if len(known) else 1.0


def _spherical(photo: Tensor, targets: Tensor) -> Tensor:
    positions = torch.cat([photo[None], targets])[:, :3, 3]
    distance = positions.norm(dim=1)
    polar = torch.atan2(positions[:, :2].norm(dim=1), positions[:, 2])
    azimuth = torch.atan2(positions[:, 1], positions[:, 0])
    turned = azimuth[1:] - azimuth[0]
    return torch.stack([polar[1:] - polar[0], turned.sin(), turned.cos(), distance[1:] - distance[0]], dim=1)

"""A camera path through keyframes: smooth, passing through each at its time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sparse3d.geometry import quat_from_rotation, rotation_from_quat
from sparse3d.io.nerfstudio import CameraPath, Keyframe
from sparse3d.types import Cameras


def path_through(keyframes: Sequence[Keyframe], height: int, width: int, fps: float, loop: bool = False) -> CameraPath:
    """The cameras of a film along keyframes: cubic Hermite curves with the slopes of Catmull and Rom, over time.

    Position, rotation (as a quaternion, normalized again) and field of view are treated alike. A path that is no loop starts
    and ends at rest.

    Args:
        keyframes: At least two; the last one's seconds count in a loop only.
        height, width: Of the pictures, pixels.
        fps: Frames in a second, above 0.
        loop: Goes on from the last keyframe to the first.

    Raises:
        ValueError: fewer than two keyframes, or one that takes no time.
    """
    if len(keyframes) < 2:
        raise ValueError(f"a path needs 2 keyframes or more, there are {len(keyframes)}")
    used = list(keyframes) + ([keyframes[0]] if loop else [])
    lengths = torch.tensor([key.seconds for key in used[:-1]], dtype=torch.float64)
    if not (lengths > 0).all():
        raise ValueError("a keyframe's seconds to the next must be above 0")
    knots = torch.cat([torch.zeros(1, dtype=torch.float64), lengths.cumsum(0)])
    values = torch.stack([_as_vector(key) for key in used])
    for index in range(1, len(values)):  # of the two quaternions of a rotation, the one nearer to the one before
        if values[index, 3:7] @ values[index - 1, 3:7] < 0:
            values[index, 3:7] *= -1
    slopes = _slopes(values, lengths, loop)
    count = max(2, round(float(knots[-1]) * fps))
    # a loop's last frame is the one before its first; another path ends in its last keyframe
    times = torch.linspace(0, 1, count + 1 if loop else count, dtype=torch.float64)[:count] * knots[-1]
    part = (torch.searchsorted(knots, times, right=True) - 1).clamp(0, len(lengths) - 1)
    step = lengths[part][:, None]
    t = ((times - knots[part]) / lengths[part])[:, None]
    smooth = (
        (1 + 2 * t) * (1 - t) ** 2 * values[part]
        + t * (1 - t) ** 2 * step * slopes[part]
        + t**2 * (3 - 2 * t) * values[part + 1]
        + t**2 * (t - 1) * step * slopes[part + 1]
    )
    c2w = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    c2w[:, :3, :3] = rotation_from_quat(smooth[:, 3:7])
    c2w[:, :3, 3] = smooth[:, :3]
    focal = height / 2 / torch.tan(torch.deg2rad(smooth[:, 7].clamp(1, 170)) / 2)
    K = torch.zeros(count, 3, 3, dtype=torch.float64)
    K[:, 0, 0] = K[:, 1, 1] = focal
    K[:, 0, 2], K[:, 1, 2], K[:, 2, 2] = width / 2, height / 2, 1
    return CameraPath(Cameras(c2w.float(), K.float(), height, width), fps)


def _as_vector(key: Keyframe) -> Tensor:
    """Position, quaternion and field of view. (8,) float64"""
    c2w = key.c2w.double()
    return torch.cat([c2w[:3, 3], quat_from_rotation(c2w[:3, :3]), torch.tensor([key.fov_deg], dtype=torch.float64)])


def _slopes(values: Tensor, lengths: Tensor, loop: bool) -> Tensor:
    """Change in a second at each keyframe: that from the one before to the one after, none at the ends."""
    slopes = torch.zeros_like(values)
    slopes[1:-1] = (values[2:] - values[:-2]) / (lengths[1:] + lengths[:-1])[:, None]
    if loop:
        after = values[1].clone()
        before = values[-2].clone()
        if values[-1, 3:7] @ values[0, 3:7] < 0:  # the way around has changed the quaternion's sign
            before[3:7] *= -1
            slopes[0] = (after - before) / (lengths[0] + lengths[-1])
            slopes[-1] = slopes[0] * torch.tensor([1, 1, 1, -1, -1, -1, -1, 1], dtype=values.dtype)
        else:
            slopes[0] = slopes[-1] = (after - before) / (lengths[0] + lengths[-1])
    return slopes


def duration_s(keyframes: Sequence[Keyframe], loop: bool) -> float:
    """How long the path takes."""
    return math.fsum(key.seconds for key in (keyframes if loop else keyframes[:-1]))

"""Camera paths through the part of a scene that was photographed."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def focus_point(c2w: Tensor) -> Tensor:
    """The point nearest to all optical axes in least squares. (V, 4, 4) -> (3,)

    For parallel axes, where there is none, a point as far ahead of the mean camera as the rig is wide.
    """
    centres, axes = c2w[:, :3, 3].double(), c2w[:, :3, 2].double()
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None, :]
    total = across.sum(dim=0)
    mean, ahead = centres.mean(0), F.normalize(axes.mean(0), dim=0)
    width = max(float((centres - mean).norm(dim=1).max()), 1e-6)
    if torch.linalg.eigvalsh(total)[0] > 1e-4 * len(c2w):
        point = torch.linalg.solve(total, (across @ centres[:, :, None]).sum(dim=0))[:, 0]
        if float((point - mean) @ ahead) > 0.1 * width:
            return point.to(c2w.dtype)
    return (mean + 2 * width * ahead).to(c2w.dtype)


def look_at(position: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """Camera to world of a camera at `position` that looks at `target`, `up` (3,) upwards in its image. (4, 4)"""
    forward = F.normalize(target - position, dim=0)
    right = F.normalize(torch.linalg.cross(forward, up), dim=0)
    down = torch.linalg.cross(forward, right)
    c2w = torch.eye(4, dtype=position.dtype)
    c2w[:3, 0], c2w[:3, 1], c2w[:3, 2], c2w[:3, 3] = right, down, forward, position
    return c2w


def orbit(c2w: Tensor, frames: int) -> Tensor:
    """A closed loop that looks at the photographed focus.

    Cameras that surround the focus give a full circle through their mean height and distance; cameras on one side give an
    ellipse as wide and high as their spread, so that the path stays where the scene was seen.

    Args:
        c2w: (V, 4, 4) cameras of the scene, two or more of them in different places.
        frames: Number of cameras on the loop.

    Returns:
        (frames, 4, 4) camera to world.
    """
    centres, focus = c2w[:, :3, 3], focus_point(c2w)
    up = F.normalize(-c2w[:, :3, 1].mean(dim=0), dim=0)
    offsets = centres - focus
    flat = offsets - (offsets @ up)[:, None] * up
    mean_flat = flat.mean(dim=0)
    surrounded = float(mean_flat.norm()) < 0.35 * float(flat.norm(dim=1).mean())
    angles = torch.arange(frames, dtype=c2w.dtype) * (2 * math.pi / frames)
    if surrounded:
        radius, height = flat.norm(dim=1).mean(), (offsets @ up).mean()
        right = F.normalize(flat[0], dim=0)
        ahead = torch.linalg.cross(up, right)
        positions = focus + height * up + radius * (angles.cos()[:, None] * right + angles.sin()[:, None] * ahead)
    else:
        centre = centres.mean(dim=0)
        right = F.normalize(torch.linalg.cross(focus - centre, up), dim=0)
        wide = 0.7 * ((centres - centre) @ right).abs().max()
        high = torch.maximum(0.7 * ((centres - centre) @ up).abs().max(), 0.15 * wide)
        positions = centre + angles.cos()[:, None] * wide * right + angles.sin()[:, None] * high * up
    return torch.stack([look_at(position, focus, up) for position in positions])

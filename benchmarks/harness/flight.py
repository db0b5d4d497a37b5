"""A flight to both sides of where a scene was photographed: its cameras and its video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.errors import require
from sparse3d.geometry import se3_exp
from sparse3d.paths import focus_point
from sparse3d.types import Cameras, View

_FRAMES_PER_S = 24


def swing(views: Sequence[View], angles_deg: Sequence[float]) -> list[Cameras]:
    """Cameras that turn around the point the views look at, about their mean upward axis.

    At 0 degrees stands the view that is nearest to the middle of all, so every flight passes through a photo; from there the
    rig of camera and axis turns as one, which keeps the point at its place in the picture.

    Args:
        views: At least one.
        angles_deg: Positive to the right of the middle view.

    Returns:
        One camera for each angle, with the middle view's intrinsics.
    """
    c2w = torch.stack([view.c2w for view in views])
    centres = c2w[:, :3, 3]
    middle = views[int((centres - centres.mean(dim=0)).norm(dim=1).argmin())]
    focus, down = focus_point(c2w), F.normalize(c2w[:, :3, 1].mean(dim=0), dim=0)
    return [_moved(middle.cameras, _turn_about(focus, down, -angle)) for angle in angles_deg]


def _turn_about(point: Tensor, axis: Tensor, angle_deg: float) -> Tensor:
    """Rotation about a line through a point. (4, 4)"""
    turn = se3_exp(torch.cat([axis.double() * math.radians(angle_deg), torch.zeros(3, dtype=torch.float64)]))
    turn[:3, 3] = point.double() - turn[:3, :3] @ point.double()
    return turn


def _moved(cameras: Cameras, transform: Tensor) -> Cameras:
    c2w = (transform @ cameras.c2w.double()).to(cameras.c2w.dtype)
    return Cameras(c2w, cameras.K, cameras.height, cameras.width)


def write_flight(path: Path, frames: Sequence[Tensor]) -> None:
    """An MP4 (H.264) of frames (3, H, W) in [0, 1], there and back so that it can be looped.

    Raises:
        UserError: imageio-ffmpeg is missing.
    """
    ffmpeg = require("imageio_ffmpeg", extra="video", purpose="writing a video")
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = (size - size % 2 for size in frames[0].shape[1:])  # H.264 halves both for its colours
    # ffmpeg may write nothing to the terminal: it would get into the table
    video = ffmpeg.write_frames(
        str(path), (width, height), fps=_FRAMES_PER_S, quality=8, macro_block_size=2, ffmpeg_log_level="error"
    )
    video.send(None)
    for frame in [*frames, *frames[-2:0:-1]]:
        pixels = (frame[:, :height, :width].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous()
        video.send(pixels.numpy().tobytes())
    video.close()

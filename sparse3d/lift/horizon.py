"""How a photo was held: the horizon and the focal length from vanishing points."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

DEFAULT_FOV = (
    55.0  # degrees, horizontal, of a photo that tells nothing: a phone's main camera is at 65, a cropped one below
)
_LEAST = 0.04  # length of a line segment that counts, over the longer side
_SEGMENTS = 300  # longest ones that are asked
_NEAR = math.radians(2.0)  # between a segment and the direction to a vanishing point
_TRIALS = 600
_FOCALS = (0.45, 3.0)  # focal length over the longer side: 96 to 19 degrees
_AGREE = 0.12  # share of the segments' length that a direction must explain
_TILT = math.radians(35)  # largest pitch and roll that are believed


@dataclass(frozen=True)
class Held:
    """How the camera was held."""

    up: Tensor  # (3,) unit vector in the camera's frame (x right, y down, z ahead): (0, -1, 0) when held level
    found: bool  # False: no vanishing point told it, and level is supposed

    def horizon(self, K: Tensor, height: int, width: int) -> Tensor:
        """How far each pixel's ray points below the horizon, as a slope: the ground at depth z along the axis is z * slope below the camera. (H, W)"""
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        rays = torch.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], torch.ones_like(x)], dim=-1)
        return -(rays @ self.up)


LEVEL = Held(torch.tensor([0.0, -1.0, 0.0]), False)


def segments(image: Tensor) -> np.ndarray:
    """Line segments of a photo (3, H, W), longest first: (N, 4) of x0, y0, x1, y1 (LSD, von Gioi et al. 2010)."""
    from sparse3d.io._pycolmap import cv2

    grey = (image.mean(0) * 255).to(torch.uint8).numpy()
    lines = cv2().createLineSegmentDetector().detect(grey)[0]
    if lines is None:
        return np.zeros((0, 4))
    found = lines.reshape(-1, 4).astype(float)
    length = np.hypot(found[:, 2] - found[:, 0], found[:, 3] - found[:, 1])
    keep = length >= _LEAST * max(grey.shape)
    return found[keep][np.argsort(-length[keep])][:_SEGMENTS]


def upright(lines: np.ndarray, K: Tensor) -> Held:
    """Up from segments that are vertical in the world: the direction near the picture's own up that most of their length points to.

    Each pair of segments proposes the direction in which they meet; that with most length within 2 degrees wins and is refined on these.

    Args:
        lines: (N, 4), of `segments`.
        K: (3, 3), pixels.
    """
    normals, lengths = _planes(lines, K)
    steep = (
        np.abs(lines[:, 3] - lines[:, 1]) > np.abs(lines[:, 2] - lines[:, 0]) / math.tan(_TILT) if len(lines) else []
    )
    normals, lengths = normals[steep], lengths[steep]
    if len(normals) < 3:
        return LEVEL
    best = _direction(normals, lengths, np.random.default_rng(0), lambda d: np.abs(d[:, 1]) > math.cos(_TILT))
    if best is None or best[1] < _AGREE * lengths.sum() or best[2] < 3:
        return LEVEL
    up = best[0] * (-1 if best[0][1] > 0 else 1)
    return Held(torch.from_numpy(up).float(), True)


def focal_of(lines: np.ndarray, height: int, width: int) -> float | None:
    """Focal length from two orthogonal vanishing points (Caprile and Torre 1990: (u - c) . (v - c) = -f^2), pixels; None when they do not tell.

    Args:
        lines: (N, 4), of `segments`.
        height, width: Of the photo; its centre is the principal point.
    """
    if len(lines) < 12:
        return None
    unit = float(max(height, width))
    K = torch.tensor([[unit, 0, width / 2], [0, unit, height / 2], [0, 0, 1.0]])
    normals, lengths = _planes(lines, K)
    generator, total, points = np.random.default_rng(0), lengths.sum(), []
    for _ in range(3):
        best = _direction(normals, lengths, generator, lambda d: np.abs(d[:, 2]) > 0.05)
        if best is None or best[1] < _AGREE * total or best[2] < 5:
            break
        points.append(best[0][:2] / best[0][2])
        rest = np.abs(normals @ best[0]) > math.sin(_NEAR)
        normals, lengths = normals[rest], lengths[rest]
    squares = [-float(a @ b) for i, a in enumerate(points) for b in points[:i]]
    ratios = [math.sqrt(s) for s in squares if s > 0 and _FOCALS[0] < math.sqrt(s) < _FOCALS[1]]
    return unit * float(np.median(ratios)) if ratios else None


def _planes(lines: np.ndarray, K: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (N, 3) of the planes through the camera and each segment, and the segments' lengths."""
    if not len(lines):
        return np.zeros((0, 3)), np.zeros(0)
    inverse = np.linalg.inv(K.double().numpy())
    ends = [np.concatenate([lines[:, k : k + 2], np.ones((len(lines), 1))], 1) @ inverse.T for k in (0, 2)]
    normals = np.cross(ends[0], ends[1])
    return normals / np.linalg.norm(normals, axis=1, keepdims=True), np.hypot(*(lines[:, 2:] - lines[:, :2]).T)


def _direction(
    normals: np.ndarray,
    lengths: np.ndarray,
    generator: np.random.Generator,
    allowed: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, float, int] | None:
    """The direction that most length points to, that length, and how many segments; None when none is allowed."""
    if len(normals) < 2:
        return None
    pairs = generator.choice(len(normals), (_TRIALS, 2), p=lengths / lengths.sum())
    proposed = np.cross(normals[pairs[:, 0]], normals[pairs[:, 1]])
    size = np.linalg.norm(proposed, axis=1)
    proposed = proposed[size > 1e-3] / size[size > 1e-3, None]
    proposed = proposed[allowed(proposed)]
    if not len(proposed):
        return None
    near = np.abs(proposed @ normals.T) < math.sin(_NEAR)
    best = near[np.argmax(near @ lengths)]
    weighted = normals[best] * lengths[best, None]
    direction = np.linalg.svd(weighted)[2][2]
    if not bool(allowed(direction[None])[0]):
        return None
    return direction, float(lengths[best].sum()), int(best.sum())

"""Posed views of nothing in particular, by integers and exact fractions: the same bits on every machine."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def noise_views(views: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """A textured square before a textured wall, moving left from view to view, and cameras that move right and turn.

    Pictures and cameras do not belong to one scene; they are alike enough for matching to mean something.

    Returns:
        images (V, 3, H, W) in [0, 1], c2w (V, 4, 4), normalized K (V, 3, 3), all float32.
    """
    pictures = np.stack([_picture(view, height, width) for view in range(views)])
    c2w = np.tile(np.eye(4), (views, 1, 1))
    for view in range(views):
        (cos_y, sin_y), (cos_x, sin_x) = _turn(view / 64), _turn((view + 1) / 32)
        c2w[view, :3, :3] = [
            [cos_y, sin_y * sin_x, sin_y * cos_x],
            [0, cos_x, -sin_x],
            [-sin_y, cos_y * sin_x, cos_y * cos_x],
        ]
        c2w[view, :3, 3] = [0.375 * view, 0.0625 * view * view, -0.03125 * view]
    K = np.tile([[0.875 * height / width, 0, 0.5], [0, 0.875, 0.5], [0, 0, 1]], (views, 1, 1))
    images = pictures.astype(np.float32) / np.float32(255)
    return torch.from_numpy(images), torch.from_numpy(c2w).float(), torch.from_numpy(K).float()


def _turn(half_tangent: float) -> tuple[float, float]:
    """Cosine and sine of an angle by the tangent of its half."""
    square = half_tangent * half_tangent
    return (1 - square) / (1 + square), 2 * half_tangent / (1 + square)


def _picture(view: int, height: int, width: int) -> np.ndarray:
    """(3, H, W) uint8"""
    picture = _texture(height, width, 3 * view, seed=1)
    rows = slice(height // 4, 3 * height // 4)
    columns = slice(width // 3 - 10 * view, 2 * width // 3 - 10 * view)
    picture[:, rows, columns] = _texture(height, width, 10 * view, seed=2)[:, rows, columns]
    return picture.astype(np.uint8)


def _texture(height: int, width: int, left: int, seed: int) -> np.ndarray:
    """Value noise on two lattices, moved to the left. (3, H, W) int64 in 0 to 255"""
    total = np.zeros((3, height, width), dtype=np.int64)
    for side, weight in ((32, 3), (8, 1)):
        row, below = np.divmod(np.arange(height)[:, None], side)
        column, right = np.divmod(np.arange(width)[None] + left, side)
        for colour in range(3):
            offset = colour * 1299709 + side * 15485863 + seed * 32452843
            corners = [[_hash(r, c, offset) for c in (column, column + 1)] for r in (row, row + 1)]
            top, bottom = ((side - right) * a + right * b for a, b in corners)
            total[colour] += weight * (((side - below) * top + below * bottom) // (side * side))
    return total // 4


def _hash(row: np.ndarray, column: np.ndarray, offset: int) -> np.ndarray:
    """0 to 255"""
    mixed = (row * 7919 + column * 104729 + offset) % 65521
    scattered: np.ndarray = (mixed * mixed % 65521) * 251 % 256
    return scattered

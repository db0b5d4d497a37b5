"""Photos as networks look at them, smaller and turned, and the way back for what is found there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparse3d.geometry import fitted_size, resize_image
from sparse3d.types import Photo


@dataclass(frozen=True)
class Picture:
    """A photo made smaller and then turned by quarters."""

    photo: Photo
    pixels: Tensor  # (3, h, w) float32, sRGB in [0, 1]
    turn: int  # quarters counterclockwise, 0 to 3

    @property
    def scale(self) -> np.ndarray:
        """Pixels of the photo per pixel of the picture before it was turned, along x and y. (2,)"""
        height, width = self.pixels.shape[1:] if self.turn % 2 == 0 else self.pixels.shape[:0:-1]
        return np.array([self.photo.image.shape[2] / width, self.photo.image.shape[1] / height])

    def in_photo(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions in the photo, of positions in the picture.

        Args:
            positions: (N, 2) x, y, pixels of the picture, pixel centres at +0.5.

        Returns:
            (N, 2) float64, pixels of the photo, pixel centres at +0.5; and which of them count: they lie in the photo and
            its mask does not leave them out. (N,) bool
        """
        height, width = self.pixels.shape[1:] if self.turn % 2 == 0 else self.pixels.shape[:0:-1]
        found = turned_back(positions.astype(np.float64), self.turn, width, height) * self.scale
        rows, columns = self.photo.image.shape[1:]
        counts = (found >= 0).all(axis=1) & (found[:, 0] <= columns) & (found[:, 1] <= rows)
        if self.photo.mask is not None:
            column = np.clip(found[:, 0].astype(int), 0, columns - 1)
            row = np.clip(found[:, 1].astype(int), 0, rows - 1)
            counts &= self.photo.mask.numpy()[row, column]
        return found, counts


def picture_of(photo: Photo, max_size: int, turn: int = 0) -> Picture:
    """A photo with its longer side at most `max_size` pixels, turned by so many quarters counterclockwise."""
    height, width = photo.image.shape[1:]
    small, _ = resize_image(photo.image, photo.K, *fitted_size(height, width, max_size))
    return Picture(photo, torch.rot90(small, turn % 4, (1, 2)).contiguous(), turn % 4)


def turned_back(positions: np.ndarray, turn: int, width: int, height: int) -> np.ndarray:
    """Positions in a width x height picture, of positions in the same picture turned by quarters as torch.rot90 does.

    Args:
        positions: (N, 2) x, y, pixel centres at +0.5.
        turn: Quarters counterclockwise, 0 to 3.
        width, height: Of the picture before turning.
    """
    x, y = positions[:, 0], positions[:, 1]
    back = {0: (x, y), 1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}[turn]
    return np.stack(back, axis=1)

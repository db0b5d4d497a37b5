"""Where a photo lies in the picture that a network sees: resized, cropped, padded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Placement:
    """A photo inside a network's picture.

    A point (x, y) of the photo lies at (scale_x x + left, scale_y y + top) of the picture, both measured in pixels from
    the upper left corner, pixel centres at +0.5: a resize is then a pure scaling, and a crop or a pad a pure shift.
    """

    photo: tuple[int, int]  # height and width, pixels
    picture: tuple[int, int]  # height and width, pixels
    scale_x: float
    scale_y: float
    left: float  # pixels of the picture; negative where the photo is cropped
    top: float

    @property
    def matrix(self) -> Tensor:
        """(3, 3) float64, takes homogeneous points of the photo to the picture."""
        rows = [[self.scale_x, 0, self.left], [0, self.scale_y, self.top], [0, 0, 1]]
        return torch.tensor(rows, dtype=torch.float64)

    @property
    def inside(self) -> Tensor:
        """(h, w) bool, True at the pixels of the picture whose centre lies in the photo."""
        (height, width), (photo_height, photo_width) = self.picture, self.photo
        y = (torch.arange(height) + 0.5 - self.top) / self.scale_y
        x = (torch.arange(width) + 0.5 - self.left) / self.scale_x
        return ((y >= 0) & (y <= photo_height))[:, None] & ((x >= 0) & (x <= photo_width))[None, :]

    def centred_in(self, height: int, width: int) -> Placement:
        """The same photo in the middle of a larger (or, cropped, smaller) picture; odd pixels go right and below."""
        old_height, old_width = self.picture
        return Placement(
            self.photo,
            (height, width),
            self.scale_x,
            self.scale_y,
            self.left + _shift(width, old_width),
            self.top + _shift(height, old_height),
        )


def _shift(new: int, old: int) -> int:
    """Pixels added before the old picture, negative when it is cropped."""
    return (new - old) // 2 if new >= old else -((old - new) // 2)


def resized(photo: tuple[int, int], picture: tuple[int, int]) -> Placement:
    """A photo resized to a picture, both (height, width)."""
    return Placement(photo, picture, picture[1] / photo[1], picture[0] / photo[0], 0.0, 0.0)


def to_photos(K: Tensor, placements: list[Placement]) -> Tensor:
    """Intrinsics in pixels of the photos, from those in pixels of the pictures. (V, 3, 3) -> (V, 3, 3) float64"""
    return torch.stack([torch.linalg.inv(p.matrix) @ k for p, k in zip(placements, K.double(), strict=True)])


def to_pictures(K: Tensor, placements: list[Placement]) -> Tensor:
    """Intrinsics in pixels of the pictures, from those in pixels of the photos. (V, 3, 3) -> (V, 3, 3) float64"""
    return torch.stack([p.matrix @ k for p, k in zip(placements, K.double(), strict=True)])

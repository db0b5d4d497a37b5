"""Intrinsics that the user gives for all photos: fx,fy,cx,cy in pixels of the photo files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.types import Photo


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without lens distortion."""

    fx: float  # pixels
    fy: float
    center: tuple[float, float] | None  # principal point, pixels; None: the centre of the photo

    def K(self, height: int, width: int) -> Tensor:
        """For a photo of the size that the numbers were given for. (3, 3)"""
        cx, cy = self.center or (width / 2, height / 2)
        return torch.tensor([[self.fx, 0.0, cx], [0.0, self.fy, cy], [0.0, 0.0, 1.0]])


def parse_intrinsics(text: str) -> Intrinsics:
    """Intrinsics of `fx`, `fx,cx,cy` or `fx,fy,cx,cy`.

    Raises:
        UserError: another count, something that is no number, or a focal length that is not positive.
    """
    parts = text.replace(" ", "").strip("[]()").split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3, 4) or not all(map(math.isfinite, numbers)):
        raise UserError(
            f"--intrinsics {text}: needed are 1, 3 or 4 numbers with commas between: fx, or fx,cx,cy, or fx,fy,cx,cy, in "
            "pixels of the photo files"
        )
    fx, fy = numbers[0], numbers[1] if len(numbers) == 4 else numbers[0]
    if fx <= 0 or fy <= 0:
        raise UserError(f"--intrinsics {text}: the focal length is {min(fx, fy):g} pixels, needed more than 0")
    return Intrinsics(fx, fy, (numbers[-2], numbers[-1]) if len(numbers) > 1 else None)


def with_intrinsics(photos: Sequence[Photo], given: Intrinsics) -> tuple[Photo, ...]:
    """The photos with these intrinsics.

    The numbers hold for the size that most photo files have (of equals, the larger one); photos of the same shape in
    another size get them scaled.

    Raises:
        UserError: photos of another shape, or a principal point outside the photos.
    """
    counts = Counter(photo.full_size for photo in photos)
    height, width = max(counts, key=lambda size: (counts[size], size))
    others = [photo for photo in photos if not _same_shape(photo.full_size, (height, width))]
    if others:
        listed = ", ".join(f"{p.name} ({p.full_size[1]} x {p.full_size[0]})" for p in others[:6])
        more = f" and {len(others) - 6} more" if len(others) > 6 else ""
        raise UserError(
            f"--intrinsics is for photos of one shape: most are {width} x {height}, but not {listed}{more}. Leave these "
            "photos out or turn them as the others are, or give cameras of each photo with --poses"
        )
    if given.center is not None and not (0 < given.center[0] < width and 0 < given.center[1] < height):
        cx, cy = given.center
        raise UserError(
            f"--intrinsics: the principal point {cx:g},{cy:g} lies outside the photos, which are {width} x {height}. Give "
            "the numbers in pixels of these files: where they were found on photos of another size, scale them"
        )
    K = given.K(height, width)
    scaled = []
    for photo in photos:
        rows = torch.tensor([photo.image.shape[2] / width, photo.image.shape[1] / height, 1.0])
        scaled.append(replace(photo, K=K * rows[:, None], intrinsics="given"))
    return tuple(scaled)


def _same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one is the other at another scale; a pixel of rounding, or a hundredth, is no difference."""
    expected = size[1] * other[0] / other[1]
    return abs(size[0] - expected) <= max(1.0, 0.01 * size[0])

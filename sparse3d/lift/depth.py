"""What is known of one photo's depth, and who says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.shapes import check_shapes

RANGE = 10.0  # farthest over nearest, where a network tells no more than an order of depths


@dataclass(frozen=True)
class PhotoDepth:
    """Depth along the optical axis of every pixel. Sky and whatever has no depth is infinite."""

    depth: Tensor  # (H, W) > 0; metres if metric, else of median 1
    metric: bool
    source: str  # who says so, in words
    licence: str
    focal: float | None = None  # pixels, where the source knows it
    approximate: bool = False  # from the picture's geometry alone

    def __post_init__(self) -> None:
        check_shapes(depth=(self.depth, "H W"))
        if not bool((self.depth > 0).all()):
            raise ValueError("depth has values that are not above 0; say inf where there is none")


class DepthModel(Protocol):
    """Something that tells depth from one photo."""

    def __call__(self, image: Tensor, focal: float | None) -> PhotoDepth:
        """Depth of a photo.

        Args:
            image: (3, H, W) sRGB in [0, 1].
            focal: Pixels, where known.
        """
        ...


def unit_median(depth: Tensor) -> Tensor:
    """Depth scaled so that the median of what is finite is 1. (H, W)"""
    finite = depth[depth.isfinite()]
    return depth / finite.median() if len(finite) else depth


def from_disparity(disparity: Tensor) -> Tensor:
    """Depth of disparity that is known up to an unknown gain and offset, as relative networks tell it.

    Neither can be had from one picture: the nearest is taken for 1 and the farthest for 10, the range of most photos of places, linear in
    inverse depth between, as it was predicted; what the network calls infinitely far (0 and below) is infinite. Median 1.

    Args:
        disparity: (H, W), larger is nearer.

    Raises:
        ValueError: nothing in it is above 0.
    """
    known = disparity > 0
    if not known.any():
        raise ValueError("the disparity is 0 all over: nothing of the picture has a depth")
    low, high = torch.quantile(
        disparity[known].flatten()[:: max(1, int(known.sum()) // 1_000_000)], torch.tensor([0.01, 0.99])
    )
    share = ((disparity - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    depth = 1 / (1 / RANGE + (1 - 1 / RANGE) * share)
    return unit_median(torch.where(known, depth, torch.inf))


def resized(depth: Tensor, height: int, width: int) -> Tensor:
    """A depth map at another size: bilinear in inverse depth, so that infinity stays what it is. (H, W)"""
    inverse = torch.where(depth.isfinite(), 1 / depth, 0.0)[None, None]
    scaled = F.interpolate(inverse, (height, width), mode="bilinear", antialias=True)[0, 0]
    return torch.where(scaled > 1e-6 * inverse.max(), 1 / scaled.clamp(min=1e-12), torch.inf)

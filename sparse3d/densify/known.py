"""What the photos show of a view that nobody took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.geometry import fitted_size
from sparse3d.kernels.warp import Warp
from sparse3d.push_pull import push_pull
from sparse3d.shapes import check_shapes
from sparse3d.types import Cameras, View
from sparse3d.warp import warp_views


@dataclass(frozen=True)
class Known:
    """Photos with their depth."""

    views: tuple[View, ...]  # photographed; each of the size of its depth
    depths: tuple[Tensor, ...]  # (H, W) world units, 0 where unknown
    far: float  # depth of what is farther than anything that was looked for, world units

    def __post_init__(self) -> None:
        if not self.views or len(self.views) != len(self.depths):
            raise ValueError(
                f"{len(self.depths)} depth maps for {len(self.views)} views; give one for each, at least one"
            )
        for view, depth in zip(self.views, self.depths, strict=True):
            check_shapes(**{f"image of {view.name}": (view.image, "3 H W"), "depth": (depth, "H W")})

    @classmethod
    def of(cls, views: Sequence[View], depths: Sequence[Tensor]) -> Known:
        """Views of any size with depth maps of any size, which the views are resized to.

        Raises:
            ValueError: no depth anywhere.
        """
        small = tuple(view.resized(*depth.shape) for view, depth in zip(views, depths, strict=True))
        known = torch.cat([depth[depth > 0] for depth in depths])
        if len(known) == 0:
            raise ValueError("no view has a depth anywhere, so nothing is known of other views")
        return cls(small, tuple(depths), 1.33 * float(known.quantile(0.99) if len(known) < 1 << 24 else known.max()))

    def at(self, max_size: int) -> Known:
        """The same with pictures and depth of at most so many pixels on the longer side, by leaving pixels out of the depth."""
        views, depths = [], []
        for view, depth in zip(self.views, self.depths, strict=True):
            size = fitted_size(view.height, view.width, max_size)
            views.append(view.resized(*size))
            depths.append(F.interpolate(depth[None, None], size, mode="nearest-exact")[0, 0])
        return Known(tuple(views), tuple(depths), self.far)

    @property
    def cameras(self) -> Tensor:
        """Where the photos were taken. (V, 4, 4) camera to world"""
        return torch.stack([view.c2w for view in self.views])

    @property
    def distance(self) -> float:
        """Median depth of what the photos show, world units."""
        return float(torch.cat([depth[depth > 0] for depth in self.depths]).median())

    def seen_from(self, camera: Cameras) -> Warp:
        """The picture that one camera would take, as far as the photos show it."""
        return warp_views(self.views, self.depths, camera)


def completed_depth(seen: Warp, far: float) -> Tensor:
    """Depth at every pixel: the known one where there is one, elsewhere that of what lies around. (H, W) world units"""
    known = (seen.validity > 0).float()
    if not known.any():
        return torch.full_like(seen.depth, far)
    inverse = torch.where(known > 0, 1 / seen.depth.clamp(min=1e-12), 0.0)
    return 1 / push_pull(inverse[None], known)[0].clamp(min=1 / far)

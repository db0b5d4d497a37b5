"""Depth of one view, and how to go from it to points in the world and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.geometry import pixel_rays, project
from sparse3d.shapes import check_shapes
from sparse3d.types import View


@dataclass(frozen=True)
class DepthMap:
    """Depth of one view at the size it was looked for."""

    view: View  # resized to the size of `depth`
    depth: Tensor  # (H, W) world units, 0 where unknown
    confidence: Tensor  # (H, W) in [0, 1]: of the sweep how likely the depth is right within 3 %, of a network its own; 0 where unknown
    support: Tensor  # (H, W) int, how many other views' depth agrees
    filled: Tensor  # (H, W) bool, not matched but taken over from around
    far: float  # depth of what is farther than anything that was looked for, world units

    def __post_init__(self) -> None:
        check_shapes(
            depth=(self.depth, "H W"),
            confidence=(self.confidence, "H W"),
            support=(self.support, "H W"),
            filled=(self.filled, "H W"),
        )


def sampled(values: Tensor, view: View, points: Tensor) -> tuple[Tensor, Tensor]:
    """What a view's (H, W) `values` hold where the view sees P points, 0 where it does not; and the points' depths.

    Args:
        values: (H, W) float32.
        view: Of that size.
        points: (P, 3) in the world.

    Returns:
        (P,) values and (P,) depths.
    """
    pixels, z = project(points, view.cameras.w2c[0], view.K)
    size = torch.tensor([view.width, view.height], dtype=torch.float32)
    grid = (2 * pixels / size - 1)[None, None]
    # the nearest pixel, not a blend: a blend across an edge is a depth that nothing has
    found = F.grid_sample(values[None, None], grid, mode="nearest", align_corners=False)[0, 0, 0]
    return torch.where(z > 0, found, torch.zeros_like(found)), z


def world_points(view: View, depth: Tensor, stride: int = 1) -> Tensor:
    """Points of a depth map in the world.

    Args:
        view: Its camera.
        depth: (H, W), one for each stride x stride pixels of the view, on the ray through the middle of that block.
        stride: Pixels.

    Returns:
        (H, W, 3)
    """
    K = view.K / torch.tensor([stride, stride, 1.0])[:, None]
    camera = pixel_rays(K, *depth.shape) * depth[..., None]
    return camera @ view.c2w[:3, :3].T + view.c2w[:3, 3]


def block_size(view: View, stride: int) -> float:
    """Side of what a block of stride x stride pixels shows of a surface at depth 1 that faces the camera."""
    return stride / float(view.K[0, 0] * view.K[1, 1]) ** 0.5

"""Small scenes with known cameras and depth, made by formulas."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse3d.geometry import pixel_rays
from sparse3d.types import Points, PosedViews, View

SLOPE, OFFSET = 0.4, 4.0  # the plane z = OFFSET + SLOPE x


def plane_texture(points: Tensor) -> Tensor:
    """A colour for every point of the world: sums of sines, band-limited so that a pixel does not alias. (..., 3)"""
    generator = torch.Generator().manual_seed(5)
    color = torch.full((*points.shape[:-1], 3), 0.5)
    for _ in range(12):
        direction = torch.randn(3, generator=generator) * 7
        phase, weight = torch.rand(3, generator=generator) * 6.28, torch.rand(3, generator=generator) * 0.12
        color += weight * torch.sin((points @ direction)[..., None] + phase)
    return color.clamp(0, 1)


def textured_plane(height: int = 72, width: int = 96, views: int = 3) -> tuple[PosedViews, list[Tensor]]:
    """Views side by side of a slanted, textured plane, without sparse points, and their true depth."""
    K = torch.tensor([[100.0, 0, width / 2], [0, 100.0, height / 2], [0, 0, 1]])
    made, depths = [], []
    for index in range(views):
        c2w = torch.eye(4)
        c2w[0, 3] = 0.35 * (index - (views - 1) / 2)
        c2w[1, 3] = 0.05 * index
        rays, centre = pixel_rays(K, height, width), c2w[:3, 3]
        depth = (OFFSET + SLOPE * centre[0] - centre[2]) / (rays[..., 2] - SLOPE * rays[..., 0])
        made.append(View(str(index), plane_texture(centre + rays * depth[..., None]).permute(2, 0, 1), K, c2w))
        depths.append(depth)
    return PosedViews(tuple(made), Points.none()), depths

"""Small scenes with known cameras and depth, made by formulas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse3d.geometry import pixel_rays
from sparse3d.types import Points, PosedViews, View

SLOPE, OFFSET = 0.4, 4.0  # the plane z = OFFSET + SLOPE x


@dataclass(frozen=True)
class Plane:
    """Points with normal . point = offset; where a box is given, only those inside it."""

    normal: tuple[float, float, float]  # of any length
    offset: float
    low: tuple[float, float, float] = (-torch.inf, -torch.inf, -torch.inf)
    high: tuple[float, float, float] = (torch.inf, torch.inf, torch.inf)

    def depth(self, centre: Tensor, rays: Tensor) -> Tensor:
        """How far along each ray (..., 3) the plane is, in units of the ray; infinite where it is missed. (...)"""
        normal = torch.tensor(self.normal)
        found = (self.offset - normal @ centre) / (rays @ normal)
        points = centre + rays * found[..., None]
        inside = (points >= torch.tensor(self.low)).all(-1) & (points <= torch.tensor(self.high)).all(-1)
        return torch.where(inside & (found > 0), found, torch.inf)


def plane_texture(points: Tensor) -> Tensor:
    """A colour for every point of the world: sums of sines, band-limited so that a pixel does not alias. (..., 3)"""
    generator = torch.Generator().manual_seed(5)
    color = torch.full((*points.shape[:-1], 3), 0.5)
    for _ in range(12):
        direction = torch.randn(3, generator=generator) * 7
        phase, weight = torch.rand(3, generator=generator) * 6.28, torch.rand(3, generator=generator) * 0.12
        color += weight * torch.sin((points @ direction)[..., None] + phase)
    return color.clamp(0, 1)


def pinhole(height: int, width: int, focal: float = 60.0) -> Tensor:
    """K with the principal point in the middle. (3, 3)"""
    return torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def pictured(
    name: str,
    c2w: Tensor,
    K: Tensor,
    size: tuple[int, int],
    planes: Sequence[Plane],
    texture: Callable[[Tensor], Tensor] = plane_texture,
) -> tuple[View, Tensor]:
    """A view of the nearest of some planes, and its depth (H, W); black and depth 0 where there is none.

    Args:
        texture: Colours (..., 3) of points (..., 3) in the world.
    """
    rays, centre = pixel_rays(K, *size) @ c2w[:3, :3].T, c2w[:3, 3]
    depth = torch.stack([plane.depth(centre, rays) for plane in planes]).amin(dim=0)
    depth = torch.where(depth.isinf(), 0.0, depth)
    image = texture(centre + rays * depth[..., None]) * (depth > 0)[..., None]
    return View(name, image.permute(2, 0, 1).contiguous(), K, c2w), depth


def textured_plane(height: int = 72, width: int = 96, views: int = 3) -> tuple[PosedViews, list[Tensor]]:
    """Views side by side of a slanted, textured plane, without sparse points, and their true depth."""
    plane, K = Plane((-SLOPE, 0.0, 1.0), OFFSET), pinhole(height, width, 100.0)
    made = []
    for index in range(views):
        c2w = torch.eye(4)
        c2w[0, 3] = 0.35 * (index - (views - 1) / 2)
        c2w[1, 3] = 0.05 * index
        made.append(pictured(str(index), c2w, K, (height, width), [plane]))
    return PosedViews(tuple(view for view, _ in made), Points.none()), [depth for _, depth in made]

"""Haze and floaters: what a scene shows in front of the nearest true surface, where the truth is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.depth_truth import MAX_ERROR_PX, from_points
from sparse3d.geometry import project
from sparse3d.render import Look, Rasterizer
from sparse3d.types import Cameras, Gaussians, Points, View

MARGIN = 0.1  # relative: what lies nearer to the true surface than this counts as the surface
_BIN = 1.05  # ratio of true depths that share a drawing; the margin is up to 0.043 wider for it, never narrower
# How far around itself a point hides those behind it, of the longer side. At held-out views, where tracks tell what is seen, haze is then
# 3.1, 10.0, 23.2 and 7.0 % against 2.9, 8.0, 23.4 and 7.8 % by the tracks (3 views of fern, fountain, fox, apartment_walk, balanced
# preset); with 0.03 it is 0.6, 8.5, 21.3 and 3.9 %, for surfaces near an edge, where most of the haze is, do not count.
_HIDES = 0.01
_EDGE_PX = 2  # by so much the Gaussians of a true surface reach over its edge in the picture


class Surface(NamedTuple):
    """The nearest true surface at some pixels of one camera."""

    pixels: Tensor  # (P, 2) long, column and row
    depths: Tensor  # (P,) world units


def alpha_in_front(
    gaussians: Gaussians, camera: Cameras, surface: Surface, look: Look, rasterize: Rasterizer
) -> Tensor:
    """Alpha that is accumulated in front of the true surface: 0 for a perfect scene, 1 where a floater hides it.

    The renderer sorts a Gaussian by the depth of its centre, and so does this: it draws those alone whose centre is nearer than 0.9 of
    the true depth. That limit differs from pixel to pixel; pixels are drawn together whose true depths are within 5 % of each
    other, with the limit of the nearest.

    Args:
        gaussians: The scene.
        camera: One camera.
        surface: Where the truth is known.
        look: How the scene is drawn.
        rasterize: By which renderer.

    Returns:
        (P,) in [0, 1]
    """
    found = torch.zeros(len(surface.depths))
    bins = (surface.depths.double().log() / math.log(_BIN)).floor()
    for index in bins.unique().tolist():
        limit = (1 - MARGIN) * _BIN**index
        if limit <= look.near_plane:
            continue
        chosen = bins == index
        alpha = _drawn_before(limit, gaussians, camera, look, rasterize)
        found[chosen] = alpha[surface.pixels[chosen, 1], surface.pixels[chosen, 0]]
    return found


def _drawn_before(limit: float, gaussians: Gaussians, camera: Cameras, look: Look, rasterize: Rasterizer) -> Tensor:
    """Alpha of the Gaussians nearer than a depth. (H, W)"""
    with torch.no_grad():
        _, alpha, _, _ = rasterize(
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            torch.zeros_like(gaussians.means),  # alpha has no colour
            camera.w2c,
            camera.K,
            camera.width,
            camera.height,
            near_plane=look.near_plane,
            far_plane=limit,
            antialiased=look.antialiased,
        )
    return alpha[0]


def surfaces_of(views: Sequence[View], points: Points) -> list[Surface]:
    """The surface that each of some photos sees: the points of a model whose tracks hold it, without those at an edge."""
    truths = [Surface(truth.pixels, truth.depths) for truth in from_points(views, points)]
    return [without_hidden(truth, view.cameras, _EDGE_PX) for truth, view in zip(truths, views, strict=True)]


def surface_from(camera: Cameras, points: Points) -> Surface:
    """The surface that a camera sees, from points of which no track says whether it does.

    A point counts unless another, within 1 % of the longer side of it in the picture, is nearer by more than the margin: the gaps
    between the points of a surface do not show what is behind it.

    Args:
        camera: One camera, which need not have taken a photo.
        points: Of the whole scene.
    """
    points = points.within(MAX_ERROR_PX)
    pixels, depths = project(points.xyz, camera.w2c[0], camera.K[0])
    size = torch.tensor([camera.width, camera.height])
    inside = (depths > 0) & (pixels >= 0).all(1) & (pixels < size).all(1)
    radius = round(_HIDES * max(camera.width, camera.height))
    return without_hidden(Surface(pixels[inside].long(), depths[inside]), camera, radius)


def without_hidden(surface: Surface, camera: Cameras, radius: int) -> Surface:
    """The pixels around which, up to `radius` pixels to each side, nothing is nearer by more than the margin."""
    columns, rows = surface.pixels.T
    at = rows * camera.width + columns
    inverse = torch.zeros(camera.height * camera.width).scatter_reduce(0, at, 1 / surface.depths, "amax")
    nearest = F.max_pool2d(inverse.view(1, camera.height, camera.width), 2 * radius + 1, stride=1, padding=radius)[0]
    seen = surface.depths * nearest[rows, columns] * (1 - MARGIN) <= 1
    return Surface(surface.pixels[seen], surface.depths[seen])

"""What depth maps are measured against: points of a set's full model, and exact depth where the scene was made by formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import LinearNDInterpolator
from torch import Tensor

from sparse3d.geometry import project
from sparse3d.init.depth_map import DepthMap, sampled, world_points
from sparse3d.types import Points, View

MEASURES = (
    "median %",
    "within 2 %",
    "within 3 %",
    "within 5 %",
    "points within 3 %",
    "two views within 3 %",
    "complete %",
)
MAX_ERROR_PX = 1.0  # points whose mean reprojection error is larger are no truth
_OCCLUDED = 0.05  # relative: a view sees a point unless it sees something this much nearer there


@dataclass(frozen=True)
class Truth:
    """True depths at some pixels of one view, and all pixels that some other view sees too."""

    pixels: Tensor  # (P, 2) long, column and row
    depths: Tensor  # (P,) world units
    shared: Tensor  # (P,) bool, seen by another of the views
    overlap: Tensor  # (H, W) bool, pixels that another of the views sees


def from_points(views: Sequence[View], points: Points) -> list[Truth]:
    """Truth for each view from points of a model of more views than these.

    Only a point whose track holds the view counts, so that nothing hidden does. Between the points depth is taken to be
    linear in 1/z, which is enough to say which pixels another view sees.
    """
    points = points.within(MAX_ERROR_PX)
    dense, chosen = [], []
    for view in views:
        seen = torch.tensor([view.name in track for track in points.tracks])
        pixels, z = project(points.xyz[seen], view.cameras.w2c[0], view.K)
        inside = (z > 0) & (pixels >= 0).all(1) & (pixels < torch.tensor([view.width, view.height])).all(1)
        names = {other.name for other in views} - {view.name}
        tracks = [track for track, keep in zip(points.tracks, seen.tolist(), strict=True) if keep]
        shared = torch.tensor([bool(names & set(track)) for track in tracks])
        chosen.append((pixels[inside].long(), z[inside], shared[inside]))
        dense.append(_between(pixels[inside], z[inside], view.height, view.width))
    return [Truth(*chosen[i], _seen_elsewhere(i, views, dense)) for i in range(len(views))]


def from_depths(views: Sequence[View], depths: Sequence[Tensor]) -> list[Truth]:
    """Truth for each view from its exact depth (H, W)."""
    made = []
    for index, depth in enumerate(depths):
        rows, columns = torch.nonzero(depth > 0, as_tuple=True)
        overlap = _seen_elsewhere(index, views, depths)
        made.append(Truth(torch.stack([columns, rows], 1), depth[rows, columns], overlap[rows, columns], overlap))
    return made


def scores(maps: Sequence[DepthMap], truths: Sequence[Truth]) -> dict[str, float]:
    """Over all views together. Errors are relative, |z - true| / true; a pixel without depth is in no median and in no share
    of right ones."""
    error, known, shared, complete = [], [], [], []
    for depth_map, truth in zip(maps, truths, strict=True):
        found = depth_map.depth[truth.pixels[:, 1], truth.pixels[:, 0]]
        error.append((found - truth.depths).abs() / truth.depths)
        known.append(found > 0)
        shared.append(truth.shared)
        complete.append((depth_map.depth > 0)[truth.overlap])
    errors, there, both = torch.cat(error), torch.cat(known), torch.cat(shared)
    share = lambda limit, among: 100 * float((there & (errors < limit))[among].float().mean())
    all_of_them = torch.ones_like(there)
    return {
        "median %": 100 * float(errors[there].median()),
        "within 2 %": share(0.02, there),
        "within 3 %": share(0.03, there),
        "within 5 %": share(0.05, there),
        "points within 3 %": share(0.03, all_of_them),
        "two views within 3 %": share(0.03, both),
        "complete %": 100 * float(torch.cat(complete).float().mean()),
    }


def _between(pixels: Tensor, z: Tensor, height: int, width: int) -> Tensor:
    """Depth between points, linear in 1/z over the triangles of Delaunay; 0 beyond them. (H, W)"""
    at = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    inverse = LinearNDInterpolator(pixels.double().numpy(), 1 / z.double().numpy(), fill_value=0.0)(at)
    return torch.from_numpy(np.where(inverse > 0, 1 / np.maximum(inverse, 1e-12), 0.0)).float()


def _seen_elsewhere(index: int, views: Sequence[View], depths: Sequence[Tensor]) -> Tensor:
    """Which pixels of a view another one sees: inside its picture, and not behind what it sees there. (H, W) bool"""
    depth = depths[index]
    points = world_points(views[index], depth).reshape(-1, 3)
    seen = torch.zeros(len(points), dtype=torch.bool)
    for other, view in enumerate(views):
        if other != index:
            there, z = sampled(depths[other], view, points)
            seen |= (there > 0) & (z < there * (1 + _OCCLUDED))
    return seen.reshape(depth.shape) & (depth > 0)

"""A mesh of a scene: its rendered depth fused into a truncated signed distance field, and the surface where that is zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.errors import UserError, require
from sparse3d.geometry import fitted_size, pixel_rays, project
from sparse3d.progress import StageReporter
from sparse3d.render import Draw
from sparse3d.types import Cameras, View

_SIZE = 504  # longer side of the depth maps, pixels
_TRUNCATION = 4.0  # voxels
_SOLID = 0.5  # alpha from which a pixel has a depth
_KEPT = (0.01, 0.99)  # quantiles of places along each axis within which the grid lies
_BATCH = 1 << 21  # voxels at once


@dataclass(frozen=True)
class Mesh:
    """Triangles with a colour for each vertex."""

    vertices: Tensor  # (N, 3) world units
    faces: Tensor  # (M, 3) long
    colors: Tensor  # (N, 3) in [0, 1]


def fused(views: Sequence[View], draw: Draw, resolution: int, faces: int | None, progress: StageReporter) -> Mesh:
    """Depth from the photographed cameras, fused (Curless and Levoy, SIGGRAPH 1996), cut by marching cubes, made simpler.

    Args:
        views: From where to look.
        draw: The scene.
        resolution: Voxels along the longest side of the grid.
        faces: At most so many triangles, by quadric errors (Garland and Heckbert 1997); all when None.
        progress: Told what is fused.

    Raises:
        UserError: nothing solid is seen, or a library is missing.
    """
    measure = _measure()
    maps = _depth_maps(views, draw)
    low, high = _bounds(maps)
    voxel = float((high - low).max()) / resolution
    counts = ((high - low) / voxel).ceil().long() + 1
    field, weight, color = _fused(maps, low, voxel, counts, progress)
    if not bool((weight > 0).any()):
        raise UserError("no surface was found to make a mesh of: the scene shows nothing solid from its cameras")
    known = weight > 0
    try:
        vertices, triangles, *_ = measure.marching_cubes(
            torch.where(known, field, 1.0).numpy(), 0.0, mask=known.numpy(), allow_degenerate=False
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(f"no surface was found to make a mesh of ({error})") from error
    if faces is not None and len(triangles) > faces:
        simplify = require("fast_simplification", extra="mesh", purpose="making a mesh simpler").simplify
        vertices, triangles = simplify(vertices.astype(np.float32), triangles, target_count=faces)
    at = torch.from_numpy(np.ascontiguousarray(vertices)).float()
    return Mesh(at * voxel + low, torch.from_numpy(np.ascontiguousarray(triangles)).long(), _sampled(color, at))


Map = tuple[Cameras, Tensor, Tensor]  # camera, depth (H, W) with 0 where nothing is, colours (3, H, W)


def _measure() -> Any:
    return require("skimage.measure", extra="mesh", purpose="making a mesh")


def _depth_maps(views: Sequence[View], draw: Draw) -> list[Map]:
    made = []
    for view in views:
        camera = view.cameras.scaled_to(*fitted_size(view.height, view.width, _SIZE))
        drawn = draw(camera)
        solid = (drawn.alpha[0] > _SOLID) & (drawn.median_depth[0] > 0)
        made.append((camera, torch.where(solid, drawn.median_depth[0], 0.0), drawn.image[0].clamp(0, 1)))
    return made


def _bounds(maps: Sequence[Map]) -> tuple[Tensor, Tensor]:
    places = []
    for camera, depth, _ in maps:
        rays = pixel_rays(camera.K[0], camera.height, camera.width)[::4, ::4]
        small = depth[::4, ::4]
        inside = rays[small > 0] * small[small > 0][:, None]
        places.append(inside @ camera.c2w[0, :3, :3].T + camera.c2w[0, :3, 3])
    cloud = torch.cat(places)
    if len(cloud) < 10:
        raise UserError("the scene shows nothing solid from its cameras, so there is no mesh to make")
    ends = cloud.quantile(torch.tensor(_KEPT), dim=0)
    margin = 0.02 * (ends[1] - ends[0]).max()
    return ends[0] - margin, ends[1] + margin


def _fused(
    maps: Sequence[Map], low: Tensor, voxel: float, counts: Tensor, progress: StageReporter
) -> tuple[Tensor, Tensor, Tensor]:
    """Signed distance over the truncation (X, Y, Z), weight (X, Y, Z) and colours (3, X, Y, Z)."""
    shape = tuple(counts.tolist())
    total = int(counts.prod())
    field, weight, color, colored = torch.zeros(total), torch.zeros(total), torch.zeros(3, total), torch.zeros(total)
    far = _TRUNCATION * voxel
    progress.start(f"{len(maps)} depth maps into {' x '.join(map(str, shape))} voxels", total=len(maps))
    for done, (camera, depth, image) in enumerate(maps):
        for start in range(0, total, _BATCH):
            index = torch.arange(start, min(start + _BATCH, total))
            cells = torch.stack([index // (shape[1] * shape[2]), index // shape[2] % shape[1], index % shape[2]], dim=1)
            pixels, z = project(cells * voxel + low, camera.w2c[0], camera.K[0])
            column, row = (pixels.nan_to_num(-1).clamp(-1, 1e6).floor().long()).unbind(1)
            inside = (z > 0) & (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
            index, z, column, row = index[inside], z[inside], column[inside], row[inside]
            there = depth[row, column]
            distance = (there - z) / far
            seen = (there > 0) & (distance > -1)
            index, distance, row, column = index[seen], distance[seen].clamp(max=1), row[seen], column[seen]
            field[index] += distance
            weight[index] += 1
            near = distance.abs() < 1
            color[:, index[near]] += image[:, row[near], column[near]]
            colored[index[near]] += 1
        progress.step(done + 1, len(maps))
    color = _means(color.reshape(3, *shape), colored.reshape(shape))
    return (field / weight.clamp(min=1)).reshape(shape), weight.reshape(shape), color


def _means(sums: Tensor, counts: Tensor) -> Tensor:
    """Means of colours, and where there are none those of the voxels beside, so that sampling between voxels never meets black. (3, X, Y, Z)"""
    spread = F.avg_pool3d(torch.cat([sums, counts[None]])[None], 3, 1, 1)[0]
    own = counts > 0
    total = torch.where(own, counts, spread[3]).clamp(min=1e-6)
    return torch.where(own, sums, spread[:3]) / total


def _sampled(values: Tensor, at: Tensor) -> Tensor:
    """Values (3, X, Y, Z) at places (N, 3) in cells, trilinear. (N, 3)"""
    size = torch.tensor(values.shape[1:], dtype=torch.float32)
    grid = (2 * at / (size - 1) - 1)[:, [2, 1, 0]]
    return F.grid_sample(values[None], grid[None, None, None], align_corners=True)[0, :, 0, 0].T.clamp(0, 1)

"""A scene as a triangle mesh: its rendered depth fused into a signed distance field. Fusion and simplification by Open3D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sparse3d.errors import UserError, require
from sparse3d.render import Draw
from sparse3d.types import Rendering, View

_TRUNCATION = 8.0  # reach of the distance field on both sides of a surface, in voxels
_SOLID = 0.2  # of alpha, for a pixel to have a depth at all
_SMALLEST_PART = 1e-3  # of the faces; smaller parts are floaters


@dataclass(frozen=True)
class Mesh:
    """Triangles with a colour at each corner."""

    vertices: np.ndarray  # (N, 3) float64, world units
    faces: np.ndarray  # (F, 3) int, counter-clockwise from outside
    colors: np.ndarray  # (N, 3) uint8, sRGB


def fuse(draw: Draw, views: Sequence[View], *, voxel: float | None = None, max_faces: int = 200_000) -> Mesh:
    """The surface that the views see: a truncated signed distance field of their rendered depth (Curless and Levoy 1996).

    Each view's depth is that at which half of the light is stopped; where less is, but a fifth, the expected one.

    Args:
        draw: Draws the scene.
        views: Where the depth is drawn from; their pictures are not used.
        voxel: Edge of a cell in world units; None: 1.5 pixels at the median depth.
        max_faces: The mesh is simplified to at most this many triangles (quadric error, Garland and Heckbert 1997).

    Raises:
        UserError: Open3D is missing, or nothing opaque is seen.
    """
    o3d = require("open3d", extra="mesh", purpose="making a mesh")
    drawn = [(view, draw(view.cameras)) for view in views]
    depths = [_depth(rendering) for _, rendering in drawn]
    pixels = np.concatenate(
        [depth[depth > 0] / float(view.K[0, 0]) for (view, _), depth in zip(drawn, depths, strict=True)]
    )
    if not len(pixels):
        raise UserError("the scene has no opaque surface in any of its views, so there is no mesh of it")
    voxel = voxel or 1.5 * float(np.median(pixels))
    far = 2 * float(np.percentile(np.concatenate([depth[depth > 0] for depth in depths]), 98))
    core, geometry = o3d.core, o3d.t.geometry
    grid = geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"),
        (core.float32,) * 3,
        (1, 1, 3),
        voxel_size=voxel,
        block_resolution=16,
        block_count=4096,
    )
    for (view, rendering), depth in zip(drawn, depths, strict=True):
        fx, fy, cx, cy = (float(view.K[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
        K = core.Tensor(
            np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])
        )  # Open3D's pixel centres are whole numbers
        w2c = core.Tensor(view.cameras.w2c[0].double().numpy())
        picture = rendering.image[0].cpu().clamp(0, 1).permute(1, 2, 0)
        deep, colored = (
            geometry.Image(core.Tensor(np.ascontiguousarray(x))) for x in (depth[..., None], picture.numpy())
        )
        blocks = grid.compute_unique_block_coordinates(deep, K, w2c, 1.0, far, _TRUNCATION)
        grid.integrate(blocks, deep, colored, K, w2c, 1.0, far, _TRUNCATION)
    mesh = grid.extract_triangle_mesh(weight_threshold=1.0).to_legacy()
    parts, sizes, _ = mesh.cluster_connected_triangles()
    small = np.asarray(sizes)[np.asarray(parts)] < _SMALLEST_PART * len(mesh.triangles)
    mesh.remove_triangles_by_mask(small)
    mesh.remove_unreferenced_vertices()
    if len(mesh.triangles) > max_faces:
        mesh = mesh.simplify_quadric_decimation(max_faces)
    colors = np.rint(np.asarray(mesh.vertex_colors) * 255).clip(0, 255).astype(np.uint8)
    return Mesh(np.asarray(mesh.vertices), np.asarray(mesh.triangles), colors)


def _depth(rendering: Rendering) -> np.ndarray:
    """Depth of the surface in a single view, 0 where there is none. (H, W) float32"""
    median, alpha = rendering.median_depth[0], rendering.alpha[0]
    faint = torch.where(alpha >= _SOLID, rendering.depth[0], torch.zeros_like(median))
    return torch.where(median > 0, median, faint).cpu().float().numpy()

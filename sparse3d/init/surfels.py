"""The surface in each block of a depth map: where it is, how it is turned, how large a piece of it the block shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.geometry import pixel_rays, quat_from_rotation
from sparse3d.init.depth_map import DepthMap, block_size

_REACH = 3  # pixels to each side that a plane is fitted to
_STEEPEST = 0.25  # cosine between surface normal and ray at least: what is seen flatter is taken as this flat
_SAME = 0.03  # relative difference of depths on one surface


@dataclass(frozen=True)
class Surfels:
    """M pieces of surface, in the world."""

    centres: Tensor  # (M, 3)
    quats: Tensor  # (M, 4) wxyz: x across the ray, y along the slope, z the normal
    spacing: Tensor  # (M, 2) distance to the next block along x and along y, world units
    color: Tensor  # (M, 3)
    confidence: Tensor  # (M,)
    support: Tensor  # (M,) int
    filled: Tensor  # (M,) bool

    def __len__(self) -> int:
        return len(self.centres)

    def __getitem__(self, keep: Tensor) -> Surfels:
        return Surfels(*(value[keep] for value in vars(self).values()))


def surfels(found: DepthMap, stride: int) -> Surfels:
    """One for each stride x stride block whose middle has a depth.

    A plane is linear in inverse depth over the picture, 1/z = n . ray / d: it is fitted by least squares to what lies on the same
    surface around the middle, which gives the normal, and a depth with less noise than a pixel's own.

    Args:
        found: Of one view.
        stride: Pixels.

    Returns:
        M surfels with the mean colour of their blocks.
    """
    view, half = found.view, stride // 2
    depth = found.depth
    inverse = torch.where(depth > 0, 1 / depth.clamp(min=1e-12), torch.zeros_like(depth))
    rows, columns = torch.nonzero(depth[half::stride, half::stride] > 0, as_tuple=True)
    y, x = rows * stride + half, columns * stride + half
    middle, slope_x, slope_y = _planes(inverse, y, x)
    # the ray through the middle of the block, for that is where its colour, the block's mean, belongs
    K = view.K / torch.tensor([stride, stride, 1.0])[:, None]
    rays = pixel_rays(K, (view.height + stride - 1) // stride, (view.width + stride - 1) // stride)[rows, columns]
    off = (stride % 2 - 1) / 2  # of the block's middle to the pixel whose depth was taken
    w = (middle + off * (slope_x + slope_y)).clamp(min=0.5 * middle, max=2 * middle)
    normals = _normals(w, slope_x, slope_y, rays, view.K)
    cosine = -(normals * F.normalize(rays, dim=1)).sum(dim=1)
    across = F.normalize(torch.linalg.cross(rays, normals), dim=1)
    upright = across.norm(dim=1, keepdim=True) < 0.5  # seen face to face: any direction will do
    across = torch.where(
        upright, F.normalize(torch.linalg.cross(torch.tensor([0.0, 1, 0]).expand_as(rays), normals), dim=1), across
    )
    frame = torch.stack([across, torch.linalg.cross(normals, across), normals], dim=2)
    size = block_size(view, stride) / w
    return Surfels(
        rays / w[:, None] @ view.c2w[:3, :3].T + view.c2w[:3, 3],
        quat_from_rotation(view.c2w[:3, :3] @ frame),
        torch.stack([size, size / cosine], dim=1),
        block_colors(view.image, stride)[rows, columns],
        found.confidence[y, x],
        found.support[y, x],
        found.filled[y, x],
    )


def block_colors(image: Tensor, stride: int) -> Tensor:
    """Mean colours of stride x stride blocks, those at the border of what there is. (3, H, W) -> (rows, columns, 3)"""
    return F.avg_pool2d(image[None], stride, ceil_mode=True, count_include_pad=False)[0].permute(1, 2, 0)


def _planes(inverse: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Inverse depth at M pixels and its slope per pixel along x and y, by least squares over the same surface around each."""
    side = 2 * _REACH + 1
    padded = F.pad(inverse[None, None], (_REACH,) * 4)[0, 0]
    v, u = torch.meshgrid(torch.arange(-_REACH, _REACH + 1.0), torch.arange(-_REACH, _REACH + 1.0), indexing="ij")
    own = inverse[y, x]
    n = su = sv = suu = suv = svv = sw = suw = svw = torch.zeros_like(own)
    for k in range(side * side):
        dv, du = float(v.flatten()[k]), float(u.flatten()[k])
        near = padded[y + k // side, x + k % side]
        on = ((near - own).abs() <= _SAME * own).float()
        n, su, sv = n + on, su + on * du, sv + on * dv
        suu, suv, svv = suu + on * du * du, suv + on * du * dv, svv + on * dv * dv
        rest = on * (near - own) / own  # relative, so that sums keep their digits at any scale
        sw, suw, svw = sw + rest, suw + rest * du, svw + rest * dv
    matrix = torch.stack([n, su, sv, su, suu, suv, sv, suv, svv], dim=1).reshape(-1, 3, 3).double()
    matrix += 1e-3 * torch.diag(torch.tensor([0.0, 1.0, 1.0], dtype=torch.double))  # a lone pixel faces the camera
    solved = torch.linalg.solve(matrix, torch.stack([sw, suw, svw], dim=1).double()).float()
    return own * (1 + solved[:, 0]), own * solved[:, 1], own * solved[:, 2]


def _normals(w: Tensor, slope_x: Tensor, slope_y: Tensor, rays: Tensor, K: Tensor) -> Tensor:
    """Unit normals in camera axes, towards the camera, from 1/z = n . ray / d and its slopes; not too flat to the ray. (M, 3)"""
    nx, ny = slope_x * K[0, 0], slope_y * K[1, 1]
    plane = torch.stack([nx, ny, w - nx * rays[:, 0] - ny * rays[:, 1]], dim=1)
    normals = -F.normalize(plane, dim=1)
    towards = -F.normalize(rays, dim=1)
    cosine = (normals * towards).sum(dim=1, keepdim=True)
    aside = F.normalize(normals - cosine * towards, dim=1)
    limited = _STEEPEST * towards + (1 - _STEEPEST**2) ** 0.5 * aside
    return torch.where(cosine < _STEEPEST, limited, normals)

"""A scene in other axes: Gaussians, cameras and points turned together."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.geometry import quat_from_rotation, rotation_from_quat
from sparse3d.kernels.reference import sh_basis
from sparse3d.types import Gaussians, Points, PosedViews

# What turns OpenCV's axes (x right, y down, z forward) so that this axis points up. Only signs and places of x, y, z change.
_TO_UP = {
    "-y": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "y": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),  # x right, y up, z back: OpenGL, three.js, SPZ
    "z": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),  # x right, y forward, z up: Blender, nerfstudio
    "-z": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "x": ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
    "-x": ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
}
UP_AXES = tuple(_TO_UP)


def to_up(axis: str) -> Tensor:
    """The rotation from OpenCV's axes, where -y is up, to axes where `axis` is. (3, 3) float64

    Raises:
        UserError: no such axis.
    """
    if axis not in _TO_UP:
        raise UserError(f"no axis {axis!r}; up is one of {', '.join(_TO_UP)}")
    return torch.tensor(_TO_UP[axis], dtype=torch.float64)


def leveling(c2w: Tensor) -> Tensor:
    """The smallest rotation that makes the mean up of the cameras -y, for photos are taken upright on the average.

    Args:
        c2w: (V, 4, 4)

    Returns:
        (3, 3) float64
    """
    down = F.normalize(c2w[:, :3, 1].double().mean(dim=0), dim=0)
    y = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    if float(down @ y) < -1 + 1e-9:  # upside down: any half turn that keeps forward ahead
        return torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64))
    quat = torch.cat([(1 + down @ y)[None], torch.linalg.cross(down, y)])
    return rotation_from_quat(F.normalize(quat, dim=0))


def turn_gaussians(gaussians: Gaussians, rotation: Tensor) -> Gaussians:
    """Gaussians turned about the origin, with their view-dependent colour: drawn from cameras turned with them, the same picture.

    Args:
        rotation: (3, 3), new = rotation @ old.
    """
    rotation = rotation.double().cpu()
    if torch.equal(rotation, torch.eye(3, dtype=torch.float64)):
        return gaussians
    turn = quat_from_rotation(rotation)
    mixed = torch.einsum("ij,njc->nic", turn_harmonics(rotation, gaussians.sh_degree), gaussians.sh.double())
    return replace(
        gaussians,
        means=(gaussians.means.double() @ rotation.T).to(gaussians.means.dtype),
        quats=_multiply(turn, gaussians.quats.double()).to(gaussians.quats.dtype),
        sh=mixed.to(gaussians.sh.dtype),
    )


def turn_harmonics(rotation: Tensor, degree: int) -> Tensor:
    """The matrix D that turns coefficients of spherical harmonics: with c' = D c, the colour at R d is what c gave at d.

    It is blockwise by degree and orthogonal; found by solving B(R d) D = B(d) for more directions d than there are unknowns, which is
    exact, for the harmonics of a degree span the same functions when turned.

    Args:
        rotation: (3, 3)

    Returns:
        ((degree + 1)^2, (degree + 1)^2) float64
    """
    generator = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(64, 3, generator=generator, dtype=torch.float64), dim=1)
    before, after = sh_basis(degree, directions), sh_basis(degree, directions @ rotation.double().T)
    matrix = torch.linalg.lstsq(after, before).solution
    return torch.where(matrix.abs() < 1e-12, torch.zeros_like(matrix), matrix)


def turn_views(posed: PosedViews, rotation: Tensor) -> PosedViews:
    """Views and points turned about the origin. `rotation`: (3, 3), new = rotation @ old."""
    whole = torch.eye(4, dtype=torch.float64)
    whole[:3, :3] = rotation
    views = tuple(replace(view, c2w=(whole @ view.c2w.double()).to(view.c2w.dtype)) for view in posed.views)
    points = posed.points
    xyz = (points.xyz.double() @ rotation.double().T).to(points.xyz.dtype)
    return PosedViews(views, Points(xyz, points.rgb, points.error_px, points.tracks))


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    """Products of quaternions. (4,), (N, 4) -> (N, 4) wxyz"""
    w, v = a[0], a[1:].expand(len(b), 3)
    scalar = w * b[:, :1] - (v * b[:, 1:]).sum(dim=1, keepdim=True)
    return torch.cat([scalar, w * b[:, 1:] + b[:, :1] * v + torch.linalg.cross(v, b[:, 1:])], dim=1)

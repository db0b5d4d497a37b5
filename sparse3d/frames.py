"""Gaussians in another frame: turned anyhow, or by half a turn about x, between OpenCV's axes and those with y up."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.geometry import quat_from_rotation
from sparse3d.kernels.reference import sh_basis
from sparse3d.types import Gaussians

# signs of the real harmonics under y -> -y, z -> -z, in the order of 3DGS: minus where y and z come to an odd power together
_SIGNS = (1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1)


def half_turn(gaussians: Gaussians) -> Gaussians:
    """The scene with y and z negated: from x right, y down, z forward to x right, y up, z backward, and back.

    A proper rotation, so that covariances and view-dependent colours stay exact: of a quaternion (w, x, y, z) of the axes comes
    (w, x, -y, -z), the same rotation in turned axes, whose ellipsoid is the same for its axes may point either way.
    """
    flip = torch.tensor([1.0, -1.0, -1.0])
    quats = gaussians.quats * torch.tensor([1.0, 1.0, -1.0, -1.0])
    signs = torch.tensor(_SIGNS[: gaussians.sh.shape[1]], dtype=torch.float32)
    return Gaussians(
        gaussians.means * flip,
        quats,
        gaussians.log_scales,
        gaussians.logit_opacities,
        gaussians.sh * signs[:, None],
    )


def rotated(gaussians: Gaussians, rotation: Tensor) -> Gaussians:
    """The scene turned about the origin, its view-dependent colours with it.

    Real harmonics of one degree turn into each other: as many directions as there are of them, looked up before and after the turn, give the
    matrix by a linear system (Green, "Spherical Harmonic Lighting", GDC 2003, has the property).

    Args:
        gaussians: To turn.
        rotation: (3, 3), new = rotation old.
    """
    turn = quat_from_rotation(rotation[None].double())[0]
    quats = _multiplied(turn, gaussians.quats.double()).to(gaussians.quats.dtype)
    directions = F.normalize(
        torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1
    )
    degree = gaussians.sh_degree
    before = sh_basis(degree, directions)
    after = sh_basis(degree, directions @ rotation.double().T)
    matrix = torch.linalg.lstsq(after, before).solution  # colours seen along turned directions are those seen before
    sh = (matrix.to(gaussians.sh.dtype) @ gaussians.sh).contiguous()
    means = gaussians.means @ rotation.to(gaussians.means.dtype).T
    return Gaussians(means, quats, gaussians.log_scales, gaussians.logit_opacities, sh)


def levelling(up: Tensor) -> Tensor:
    """The least rotation that turns a direction (3,) upwards in OpenCV's axes, to -y. (3, 3)"""
    start, end = F.normalize(up.double(), dim=0), torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
    axis, cosine = torch.linalg.cross(start, end), float(start @ end)
    if cosine < -1 + 1e-9:
        return torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    x, y, z = axis.tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return (torch.eye(3, dtype=torch.float64) + cross + cross @ cross / (1 + cosine)).float()


def _multiplied(a: Tensor, b: Tensor) -> Tensor:
    """Quaternion products a b, wxyz. (4,), (N, 4) -> (N, 4)"""
    w, xyz = a[0], a[1:].expand(len(b), 3)
    real = w * b[:, 0] - (xyz * b[:, 1:]).sum(1)
    rest = w * b[:, 1:] + b[:, :1] * xyz + torch.linalg.cross(xyz, b[:, 1:])
    return torch.cat([real[:, None], rest], dim=1)


def to_degree(gaussians: Gaussians, degree: int) -> Gaussians:
    """With spherical harmonics of this degree: higher ones are left out, missing ones are 0."""
    count = (degree + 1) ** 2
    sh: Tensor = F.pad(gaussians.sh[:, :count], (0, 0, 0, max(0, count - gaussians.sh.shape[1])))
    return Gaussians(*gaussians.values()[:4], sh)

"""Spherical harmonics as the published feed-forward networks turn and draw them, and as this project does.

Three bases of real harmonics are in play, all orthonormal, degree after degree, 2l + 1 functions each:

- the network's, in which its coefficients are turned from camera to world: that of e3nn, polar axis y, order m = -l..l,
  so that degree 1 is (x, y, z) and turns as the matrix itself;
- the published rasterizer's, in which they are drawn: the polynomials of 3DGS with (z, x, y) put in for (x, y, z), equal to the
  network's up to signs, and only up to degree 3 (published code of pixelSplat, arXiv:2312.12337, which MVSplat shares);
- this project's: the polynomials of 3DGS in (x, y, z), `kernels.reference.sh_basis`.

Every map between them is found from its definition, equality on enough directions, instead of from tables of coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from sparse3d.kernels.reference import sh_basis

DRAWN_DEGREE = 3  # higher degrees never reach the image


def real_harmonics(degree: int, directions: Tensor) -> Tensor:
    """One degree of the network's basis: orthonormal real harmonics with polar axis y and no Condon-Shortley phase.

    Y_lm = N_lm Pi_lm(y) Re (z + ix)^m for m >= 0 and Im for m < 0, with Pi_lm the associated Legendre function over sin^m.

    Args:
        degree: l, 0 or more.
        directions: (..., 3), normalized.

    Returns:
        (..., 2l + 1), order m = -l..l.
    """
    x, y, z = directions.unbind(-1)
    real, imaginary = torch.ones_like(x), torch.zeros_like(x)  # of (z + ix)^m
    values: dict[int, Tensor] = {}
    for m in range(degree + 1):
        before, legendre = torch.zeros_like(y), torch.full_like(y, float(math.prod(range(1, 2 * m, 2))))
        for n in range(m + 1, degree + 1):  # (n - m) Pi_nm = (2n - 1) y Pi_(n-1)m - (n + m - 1) Pi_(n-2)m
            before, legendre = legendre, ((2 * n - 1) * y * legendre - (n + m - 1) * before) / (n - m)
        norm = math.sqrt((2 * degree + 1) / (4 * math.pi) * math.factorial(degree - m) / math.factorial(degree + m))
        values[m] = (norm if m == 0 else math.sqrt(2) * norm) * legendre * real
        if m > 0:
            values[-m] = math.sqrt(2) * norm * legendre * imaginary
        real, imaginary = real * z - imaginary * x, real * x + imaginary * z
    return torch.stack([values[m] for m in range(-degree, degree + 1)], dim=-1)


def published_basis(degree: int, directions: Tensor) -> Tensor:
    """The published rasterizer's basis up to a degree. (..., 3) -> (..., (degree + 1)^2), degree at most 3"""
    return sh_basis(degree, directions[..., [2, 0, 1]])


def wigner(degree: int, rotations: Tensor) -> Tensor:
    """D with Y(R d) = D Y(d) for every direction d, in the network's basis.

    Args:
        degree: l, 0 or more.
        rotations: (..., 3, 3); what is not quite orthonormal is made so as e3nn does, see `euler_rotation`.

    Returns:
        (..., 2l + 1, 2l + 1) of the rotations' type, computed in float64.
    """
    exact = euler_rotation(rotations.double())
    return _turning(lambda directions: real_harmonics(degree, directions), exact).to(rotations.dtype)


def euler_rotation(rotations: Tensor) -> Tensor:
    """The rotation that the YXY Euler angles of a matrix stand for: the same but for what is not orthonormal in it.

    e3nn goes through these angles. With R = Ry(a) Rx(b) Ry(c), R y gives a and b; c follows from what R does to x and z,
    seen along the horizontal direction Ry(a) x. Poses in float32 are off by 1e-7, which would otherwise show in float64.

    Args:
        rotations: (..., 3, 3)

    Returns:
        (..., 3, 3), orthonormal.
    """
    up = rotations[..., 1] / rotations[..., 1].norm(dim=-1, keepdim=True)
    side = torch.stack([up[..., 2], torch.zeros_like(up[..., 0]), -up[..., 0]], dim=-1)
    length = side.norm(dim=-1, keepdim=True)
    default = torch.tensor(
        [1.0, 0.0, 0.0], dtype=up.dtype, device=up.device
    )  # the angle a is free there, and taken as 0
    side = torch.where(length > 0, side / torch.where(length > 0, length, torch.ones_like(length)), default)
    front = torch.linalg.cross(side, up, dim=-1)
    sine, cosine = (side * rotations[..., 2]).sum(-1), (side * rotations[..., 0]).sum(-1)
    scale = torch.hypot(sine, cosine)
    sine, cosine = (sine / scale)[..., None], (cosine / scale)[..., None]
    return torch.stack([cosine * side - sine * front, up, sine * side + cosine * front], dim=-1)


def turn_published(harmonics: Tensor, rotations: Tensor) -> Tensor:
    """The network's coefficients turned by a rotation as the published code does it.

    The code turns in the network's basis and draws in the rasterizer's, whose signs differ: for any rotation but the identity that
    is not the turn of the colours. `turn_sh` is. The published pictures come from this one.

    Args:
        harmonics: (..., M, (L + 1)^2), any L.
        rotations: (..., 3, 3), one for M sets of coefficients.

    Returns:
        (..., M, (L + 1)^2)
    """
    degrees = range(math.isqrt(harmonics.shape[-1]))
    return torch.cat(
        [harmonics[..., n * n : (n + 1) ** 2] @ wigner(n, rotations).transpose(-1, -2) for n in degrees], dim=-1
    )


def turn_sh(sh: Tensor, rotation: Tensor) -> Tensor:
    """Coefficients of this project's basis whose colours are turned with the Gaussian: seen along R d as before along d.

    Args:
        sh: (..., (L + 1)^2), L at most 3.
        rotation: (3, 3), orthonormal.

    Returns:
        (..., (L + 1)^2)
    """
    degree = math.isqrt(sh.shape[-1]) - 1
    turning = _turning(lambda directions: sh_basis(degree, directions), rotation.double())
    return sh @ turning.to(sh).T


def drawn_sh(harmonics: Tensor) -> Tensor:
    """Coefficients of the published rasterizer's basis as ones of this project's: the same colour in every direction.

    Args:
        harmonics: (..., (L + 1)^2), any L; degrees above 3 are dropped, for the published rasterizer does not draw them.

    Returns:
        (..., 16), or fewer where L is below 3.
    """
    degree = min(math.isqrt(harmonics.shape[-1]) - 1, DRAWN_DEGREE)
    change = _drawn_basis(degree).to(harmonics)
    return harmonics[..., : (degree + 1) ** 2] @ change


@cache
def _drawn_basis(degree: int) -> Tensor:
    """C with published_basis(d) = C sh_basis(d): coefficients c of the one are c C of the other."""
    directions = _directions()
    return torch.linalg.lstsq(sh_basis(degree, directions), published_basis(degree, directions)).solution.T


def _turning(basis: Callable[[Tensor], Tensor], rotations: Tensor) -> Tensor:
    """D with basis(R d) = D basis(d) for all d. (..., 3, 3) float64 -> (..., C, C)"""
    directions = _directions().to(rotations.device)
    here = basis(directions)  # (P, C)
    turned = (rotations[..., None, :, :] @ directions[..., None])[..., 0]
    there = basis(turned.reshape(-1, 3)).reshape(*turned.shape[:-1], here.shape[-1])
    return (torch.linalg.pinv(here) @ there).transpose(-1, -2)


@cache
def _directions() -> Tensor:
    """64 directions spread evenly over the sphere (Fibonacci lattice), more than enough to tell 25 functions apart. (64, 3)"""
    index = torch.arange(64, dtype=torch.float64)
    height, angle = 1 - (2 * index + 1) / 64, index * math.pi * (3 - math.sqrt(5))
    radius = (1 - height * height).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], dim=-1)

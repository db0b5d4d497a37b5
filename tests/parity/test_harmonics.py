"""Spherical harmonics of the feed-forward networks against stored values of e3nn and of the published rasterizer's polynomials."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from support.goldens import arrays
from torch import Tensor

from sparse3d.init.networks.harmonics import (
    drawn_sh,
    euler_rotation,
    published_basis,
    real_harmonics,
    turn_published,
    turn_sh,
    wigner,
)
from sparse3d.kernels.reference import sh_basis


@pytest.fixture(scope="module")
def stored(goldens: Path) -> dict[str, Tensor]:
    return arrays(goldens / "mvsplat" / "sh_rotation.npz")


def assert_near(got: Tensor, want: Tensor, atol: float = 1e-13) -> None:
    torch.testing.assert_close(got, want, rtol=0, atol=atol)


def test_basis_is_that_of_e3nn(stored):
    got = torch.cat([real_harmonics(degree, stored["directions"]) for degree in range(5)], dim=-1)
    assert_near(got * math.sqrt(4 * math.pi), stored["basis_values"])  # component-normalized there


@pytest.mark.parametrize("degree", range(5))
def test_rotation_matrices_are_those_of_e3nn(stored, degree):
    assert_near(wigner(degree, stored["R"]), stored[f"D{degree}"], atol=2e-12)


def test_rasterizer_draws_the_networks_basis_up_to_signs(stored):
    drawn = published_basis(3, stored["directions"])
    assert_near(drawn, stored["raster_basis_values"][:, :16])
    assert not stored["raster_basis_values"][:, 16:].any(), "degree 4 is not drawn"
    networks = torch.cat([real_harmonics(degree, stored["directions"]) for degree in range(4)], dim=-1)
    signs = torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1], dtype=torch.float64)
    assert_near(drawn, networks * signs)


def test_colours_stay_when_the_basis_changes(stored):
    """What the published rasterizer draws from 25 coefficients, ours draws from the 16 made of them."""
    coefficients = torch.randn(10, 25, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    want = coefficients @ stored["raster_basis_values"].T
    assert_near(drawn_sh(coefficients) @ sh_basis(3, stored["directions"]).T, want)


@pytest.mark.parametrize("count", [1, 4, 9, 16])
def test_our_turn_is_exact_and_the_published_one_is_not(stored, count):
    sh = torch.randn(6, count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    degree = math.isqrt(count) - 1
    for rotation in euler_rotation(stored["R"])[:6]:
        turned = turn_sh(sh, rotation)
        assert_near(
            turned @ sh_basis(degree, stored["directions"] @ rotation.T).T,
            sh @ sh_basis(degree, stored["directions"]).T,
        )
    published = drawn_sh(turn_published(sh, stored["R"][5]))
    assert count == 1 or (published - turn_sh(drawn_sh(sh), stored["R"][5])).abs().max() > 0.01
    assert_near(turn_published(sh, torch.eye(3, dtype=torch.float64)), sh)


def test_euler_rotation_keeps_rotations_and_mends_others(stored):
    assert_near(euler_rotation(stored["R"][:19]), stored["R"][:19], atol=1e-12)  # the last three are poses in float32
    identity = torch.eye(3, dtype=torch.float64)
    assert_near(euler_rotation(identity), identity)
    blurred = stored["R"] + 1e-4 * torch.randn(
        22, 3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    mended = euler_rotation(blurred)
    assert_near(mended @ mended.transpose(-1, -2), identity.expand(22, 3, 3))
    assert torch.linalg.det(mended).min() > 0.999

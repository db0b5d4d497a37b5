"""A turned scene, drawn from turned cameras, is the same picture; and colours turn with the Gaussians."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from support.gaussian_scenes import look_from
from support.splat_files import typical

from sparse3d.errors import UserError
from sparse3d.frames import UP_AXES, leveling, to_up, turn_gaussians, turn_harmonics
from sparse3d.geometry import invert_rigid, rotation_from_quat
from sparse3d.io.splats.gltf import write_gltf
from sparse3d.io.splats.read import read_splats
from sparse3d.io.splats.spz import write_spz
from sparse3d.kernels.reference import sh_basis
from sparse3d.render import render
from sparse3d.types import Cameras, Gaussians


def some_rotation(seed: int = 0) -> torch.Tensor:
    return rotation_from_quat(torch.randn(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def scene(degree: int = 3) -> Gaussians:
    some = typical(120, degree)
    return replace(some, means=some.means / 3, log_scales=some.log_scales + 1.5)


def camera(rotation: torch.Tensor | None = None) -> Cameras:
    c2w = invert_rigid(look_from(torch.tensor([0.6, -0.4, -5.0]), torch.tensor([0.1, 0.0, 0.0])))
    if rotation is not None:
        whole = torch.eye(4)
        whole[:3, :3] = rotation.float()
        c2w = whole @ c2w
    K = torch.tensor([[60.0, 0.0, 32.0], [0.0, 60.0, 24.0], [0.0, 0.0, 1.0]])
    return Cameras(c2w[None], K[None], 48, 64)


def drawn(gaussians: Gaussians, cameras: Cameras) -> torch.Tensor:
    return render(gaussians, cameras, backend="reference").image


@pytest.mark.parametrize("seed", [1, 2])
def test_a_turned_scene_looks_the_same_from_a_turned_camera(seed: int) -> None:
    rotation, gaussians = some_rotation(seed), scene()
    want = drawn(gaussians, camera())
    assert want.std() > 0.1
    assert (drawn(turn_gaussians(gaussians, rotation), camera(rotation)) - want).abs().max() < 2e-4
    unturned = replace(turn_gaussians(gaussians, rotation), sh=gaussians.sh)
    assert (drawn(unturned, camera(rotation)) - want).abs().max() > 0.02  # the harmonics matter here


@pytest.mark.parametrize("degree", range(4))
def test_harmonics_turn_by_an_orthogonal_matrix_of_blocks(degree: int) -> None:
    rotation = some_rotation(3)
    matrix = turn_harmonics(rotation, degree)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(len(matrix), dtype=torch.float64), atol=1e-10, rtol=0)
    block = torch.tensor([math.isqrt(i) for i in range((degree + 1) ** 2)])
    assert (matrix[block[:, None] != block[None]] == 0).all()
    directions = F.normalize(torch.randn(30, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64), dim=1)
    turned = sh_basis(degree, directions @ rotation.T) @ matrix
    torch.testing.assert_close(turned, sh_basis(degree, directions), atol=1e-10, rtol=0)


def test_axes_that_only_change_signs_change_nothing_else() -> None:
    """PLY's axes to SPZ's: y and z, and the harmonics that are odd in them; the signs of SPZ's own table."""
    one = typical(5)
    flipped = turn_gaussians(one, to_up("y"))
    assert torch.equal(flipped.means, one.means * torch.tensor([1.0, -1.0, -1.0]))
    signs = torch.tensor([1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1.0])
    torch.testing.assert_close(flipped.sh, one.sh * signs[None, :, None], atol=1e-6, rtol=0)


@pytest.mark.parametrize("axis", UP_AXES)
def test_up_points_up(axis: str) -> None:
    rotation = to_up(axis)
    want = torch.zeros(3, dtype=torch.float64)
    want["xyz".index(axis[-1])] = -1.0 if axis[0] == "-" else 1.0
    assert torch.equal(rotation @ torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64), want)
    assert torch.linalg.det(rotation) == 1


def test_an_unknown_axis_is_named() -> None:
    with pytest.raises(UserError, match="no axis 'w'; up is one of -y, y, z"):
        to_up("w")


@pytest.mark.parametrize("down", [(0.0, 1, 0), (0.0, -1, 0), (1.0, 0, 0), (0.3, -0.9, 0.2)])
def test_leveling_turns_the_cameras_upright(down: tuple[float, float, float]) -> None:
    c2w = torch.eye(4).repeat(2, 1, 1)
    c2w[:, :3, 1] = F.normalize(torch.tensor(down), dim=0)
    rotation = leveling(c2w)
    turned = rotation @ c2w[0, :3, 1].double()
    torch.testing.assert_close(turned, torch.tensor([0.0, 1, 0], dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("write", "suffix", "worst"), [(write_gltf, ".glb", 1e-4), (write_spz, ".spz", 0.05)])
def test_a_file_with_y_up_is_drawn_as_the_scene_it_came_from(tmp_path: Path, write, suffix: str, worst: float) -> None:
    """Turned to the file's axes, written, read, turned back: the same picture, to the format's steps."""
    gaussians = scene()
    write(tmp_path / f"a{suffix}", turn_gaussians(gaussians, to_up("y")))
    want = drawn(gaussians, camera())
    assert (drawn(read_splats(tmp_path / f"a{suffix}"), camera()) - want).abs().max() < worst
    raw = read_splats(tmp_path / f"a{suffix}", up="-y")  # as stored: upside down
    assert (drawn(raw, camera()) - want).abs().max() > 0.2

from __future__ import annotations

import math

import pytest
import torch

from sparse3d.geometry import (
    fitted_size,
    invert_rigid,
    pixel_rays,
    project,
    quat_from_rotation,
    resize_image,
    rotation_from_quat,
)
from sparse3d.shapes import check_shapes
from sparse3d.types import Cameras, Points, PosedViews, View


def random_quats(count: int) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_quaternions_survive_the_round_trip_through_matrices():
    quats = torch.cat([random_quats(200), torch.eye(4, dtype=torch.float64)])  # the unit ones are half turns
    rotation = rotation_from_quat(quats)
    identity = torch.eye(3, dtype=torch.float64).expand(len(quats), 3, 3)
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), identity)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(len(quats), dtype=torch.float64))
    torch.testing.assert_close(rotation_from_quat(quat_from_rotation(rotation)), rotation)


def test_a_quarter_turn_about_z_takes_x_to_y():
    quat = torch.tensor([math.cos(math.pi / 4), 0, 0, math.sin(math.pi / 4)])
    torch.testing.assert_close(
        rotation_from_quat(quat) @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0
    )


def test_inverse_of_rigid_transforms():
    transforms = torch.eye(4, dtype=torch.float64).repeat(20, 1, 1)
    transforms[:, :3, :3] = rotation_from_quat(random_quats(20))
    transforms[:, :3, 3] = random_quats(20)[:, :3]
    torch.testing.assert_close(invert_rigid(transforms), torch.linalg.inv(transforms))


def test_rays_and_projection_are_inverse():
    K = torch.tensor([[50.0, 0, 20.5], [0, 60, 14.0], [0, 0, 1]])
    points = pixel_rays(K, 30, 40) * 3.0
    pixels, depth = project(points.reshape(-1, 3), torch.eye(4), K)
    assert torch.allclose(depth, torch.tensor(3.0))
    torch.testing.assert_close(
        pixels.reshape(30, 40, 2)[4, 7], torch.tensor([7.5, 4.5])
    )  # the centre of column 7, row 4


def test_resizing_keeps_what_a_pixel_sees():
    K = torch.tensor([[50.0, 0, 20.0], [0, 50, 15.0], [0, 0, 1]])
    image, resized = resize_image(torch.rand(3, 30, 40), K, 15, 20)
    assert image.shape == (3, 15, 20)
    # the image's corner is the same ray before and after
    assert (0 - K[0, 2]) / K[0, 0] == (0 - resized[0, 2]) / resized[0, 0]
    assert (40 - K[0, 2]) / K[0, 0] == (20 - resized[0, 2]) / resized[0, 0]
    torch.testing.assert_close(Cameras(torch.eye(4)[None], K[None], 30, 40).scaled_to(15, 20).K[0], resized)


def test_fitted_size_never_enlarges():
    assert fitted_size(756, 1008, 504) == (378, 504)
    assert fitted_size(300, 200, 504) == (300, 200)
    assert fitted_size(4000, 10, 400) == (400, 1)


def test_shape_mistakes_name_the_array_and_both_shapes():
    with pytest.raises(ValueError, match=r"K has shape \(2, 3, 3\), needed \(V, 3, 3\) with V=1"):
        Cameras(torch.eye(4)[None], torch.eye(3).repeat(2, 1, 1), 10, 10)
    assert check_shapes(a=(torch.zeros(5, 2), "N 2"), b=(torch.zeros(5), "N")) == {"N": 5}


def test_points_of_test_views_do_not_leak():
    points = Points(torch.rand(3, 3), torch.rand(3, 3), torch.ones(3), (("a", "b"), ("b", "t"), ("t",)))
    kept = points.seen_by(["a", "b"], at_least=2)
    assert kept.tracks == (("a", "b"),)
    torch.testing.assert_close(kept.xyz, points.xyz[:1])
    assert points.seen_by(["a", "b"]).tracks == (("a", "b"), ("b",))
    view = View("a", torch.rand(3, 4, 4), torch.eye(3), torch.eye(4))
    with pytest.raises(ValueError, match="not unique"):
        PosedViews((view, view), points)

from __future__ import annotations

import math

import torch

from sparse3d.paths import focus_point, look_at, orbit
from sparse3d.types import Points, PosedViews, View

UP = torch.tensor([0.0, -1.0, 0.0])  # y points down


def ring(angles_deg: list[float], target: torch.Tensor) -> PosedViews:
    """Cameras on a circle of radius 3 around a target, all looking at it."""
    views = []
    for angle in angles_deg:
        position = target + 3 * torch.tensor([math.sin(math.radians(angle)), 0.0, -math.cos(math.radians(angle))])
        views.append(View(str(angle), torch.zeros(3, 4, 4), torch.eye(3), look_at(position, target, UP)))
    return PosedViews(tuple(views), Points.none())


def cameras(posed: PosedViews) -> torch.Tensor:
    return torch.stack([view.c2w for view in posed.views])


def test_look_at_puts_the_target_ahead_and_up_upwards():
    c2w = look_at(torch.tensor([1.0, 2, 3]), torch.tensor([1.0, 2, 8]), UP)
    torch.testing.assert_close(c2w[:3, :3], torch.eye(3))
    assert torch.linalg.det(look_at(torch.randn(3), torch.randn(3), UP)[:3, :3]).item() > 0.999


def test_focus_is_where_the_axes_meet():
    target = torch.tensor([1.0, -2.0, 5.0])
    c2w = torch.stack([view.c2w for view in ring([-30, 0, 40], target).views])
    torch.testing.assert_close(focus_point(c2w), target, atol=1e-4, rtol=0)
    parallel = torch.eye(4).repeat(3, 1, 1)
    parallel[:, 0, 3] = torch.tensor([-1.0, 0, 1])
    assert focus_point(parallel)[2] > 0  # ahead, where parallel axes never meet


def test_orbit_around_a_surrounded_target_is_the_circle():
    target = torch.tensor([0.5, 0.0, 0.0])
    path = orbit(cameras(ring([0, 60, 120, 180, 240, 300], target)), 8)
    distance = (path[:, :3, 3] - target).norm(dim=1)
    torch.testing.assert_close(distance, torch.full((8,), 3.0), atol=1e-3, rtol=0)


def test_orbit_of_one_sided_photos_stays_where_they_were_taken():
    target = torch.zeros(3)
    posed = ring([-20, -10, 0, 10, 20], target)
    path = orbit(cameras(posed), 16)
    centres = torch.stack([view.c2w[:3, 3] for view in posed.views])
    assert (path[:, :3, 3] - centres.mean(0)).norm(dim=1).max() <= (centres - centres.mean(0)).norm(dim=1).max()
    ahead = torch.nn.functional.normalize(target - path[:, :3, 3], dim=1)
    torch.testing.assert_close(path[:, :3, 2], ahead, atol=1e-4, rtol=0)

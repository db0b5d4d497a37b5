"""Where a prior looks from around one photo."""

from __future__ import annotations

import pytest
import torch

from sparse3d.geometry import project, se3_exp
from sparse3d.lift.path import RINGS, WIDER, rings, scaffold, spiral_out
from sparse3d.types import View

DISTANCE, RADIUS = 4.0, 0.8


def photo() -> View:
    c2w = se3_exp(torch.tensor([[0.3, -0.2, 0.5, 1.0, 2.0, 3.0]]))[0]
    K = torch.tensor([[80.0, 0, 50], [0, 80.0, 40], [0, 0, 1]])
    return View("photo", torch.zeros(3, 80, 100), K, c2w)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12, 24])
def test_rings_stay_within_the_radius_and_look_at_what_the_photo_looks_at(count):
    view = photo()
    made = rings(view, DISTANCE, RADIUS, count)
    assert made.shape == (count, 4, 4)
    away = (made[:, :3, 3] - view.c2w[:3, 3]).norm(dim=1)
    assert float(away.max()) <= RADIUS * 1.1 and float(away.min()) > 0
    focus = view.c2w[:3, 3] + DISTANCE * view.c2w[:3, 2]
    for c2w in made:
        pixel, z = project(focus[None], torch.linalg.inv(c2w), view.K)
        assert pixel[0].tolist() == pytest.approx([50, 40], abs=0.01) and float(z) > 0
    assert torch.allclose(torch.linalg.det(made[:, :3, :3]), torch.ones(count), atol=1e-5)


def test_inner_rings_come_first_and_outer_ones_have_more_views():
    view = photo()
    inwards = (rings(view, DISTANCE, RADIUS, 12)[:, :3, 3] - view.c2w[:3, 3]) @ view.c2w[:3, :3]
    ring = (RINGS * (inwards[:, 0] ** 2 + (2 * inwards[:, 1]) ** 2).sqrt() / RADIUS).round().int().tolist()
    assert ring == sorted(ring)
    assert ring.count(1) < ring.count(2) < ring.count(3)


def test_a_path_for_videos_begins_with_the_photo_and_goes_out():
    view = photo()
    path = spiral_out(view, DISTANCE, RADIUS, 13)
    assert torch.equal(path[0], view.c2w)
    away = (path[:, :3, 3] - view.c2w[:3, 3]).norm(dim=1)
    assert float(away[-1]) == pytest.approx(RADIUS * (1 + 0.4**2) ** 0.5, rel=1e-4)
    assert float(away[1:4].max()) < float(away[-3:].min())


def test_the_scaffold_sees_more_from_the_same_place():
    view = photo()
    camera = scaffold(view)
    assert torch.equal(camera.c2w[0], view.c2w)
    assert float(camera.K[0, 0, 0]) == pytest.approx(80 / WIDER)
    corner = torch.tensor([[-50 / 80 * 2, -0.5 * 2, 2.0]])  # the photo's upper left corner, 2 away
    pixel, _ = project(corner, torch.eye(4), camera.K[0])
    assert pixel[0, 0] == pytest.approx(50 - 50 / WIDER)

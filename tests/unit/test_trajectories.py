"""Camera paths: where they begin, end, look and how far they go."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sparse3d.densify.trajectories import PATHS, Rig, dolly, ellipse, perturbed, shortest_tour, spline
from sparse3d.paths import look_at

UP = torch.tensor([0.0, -1.0, 0.0])
TARGET = torch.tensor([0.0, 0.0, 4.0])


def arc(angles_deg: list[float], radius: float = 4.0) -> Tensor:
    """Cameras on an arc about TARGET that look at it."""
    places = [torch.tensor([math.sin(a), 0.1 * i, -math.cos(a)]) for i, a in enumerate(map(math.radians, angles_deg))]
    return torch.stack([look_at(TARGET + radius * place, TARGET, UP) for place in places])


CAMERAS = arc([-20.0, 15.0, 0.0])


@pytest.mark.parametrize("name", PATHS)
def test_cameras_of_every_path_are_rigid_and_as_many_as_asked_for(name):
    path = PATHS[name](CAMERAS, 17)
    assert path.shape == (17, 4, 4)
    rotations = path[:, :3, :3]
    assert torch.allclose(rotations @ rotations.mT, torch.eye(3).expand(17, 3, 3), atol=1e-5)
    assert (torch.linalg.det(rotations) > 0.999).all()
    assert torch.equal(path[:, 3], torch.tensor([0.0, 0, 0, 1]).expand(17, 4))


def test_a_spline_passes_through_every_camera_in_a_short_order():
    # frames at equal shares of the way between cameras: with equal distances every camera falls on a frame
    cameras = arc([20.0, -20.0, 0.0])
    cameras[:, 1, 3] = 0.0
    path = spline(cameras, 9)
    for frame, camera in zip((0, 4, 8), (0, 2, 1), strict=True):
        assert torch.allclose(path[frame], cameras[camera], atol=2e-3) or torch.allclose(
            path[8 - frame], cameras[camera], atol=2e-3
        )
    steps = (path[1:, :3, 3] - path[:-1, :3, 3]).norm(dim=1)
    assert steps.max() < 1.3 * steps.min()


def test_a_spline_turns_at_the_rate_of_slerp():
    path = spline(arc([-10.0, 30.0]), 5)
    cosines = ((path[1:, :3, :3].mT @ path[:-1, :3, :3]).diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    turns = torch.rad2deg(torch.acos(cosines.clamp(-1, 1)))
    assert torch.allclose(turns, turns.mean().expand(4), rtol=0.02) and abs(float(turns.sum()) - 40) < 1.5


def test_one_camera_has_no_spline():
    with pytest.raises(ValueError, match="at least 2"):
        spline(CAMERAS[:1], 5)


def test_the_shortest_tour_of_points_on_a_line_is_along_it():
    places = torch.tensor([[3.0, 0, 0], [0, 0, 0], [1, 0, 0], [2, 0, 0]])
    assert shortest_tour(places) in ([1, 2, 3, 0], [0, 3, 2, 1])


@pytest.mark.parametrize("reach", [0.5, 2.0])
def test_an_ellipse_looks_at_the_focus_and_goes_as_far_as_it_should(reach):
    rig, path = Rig.of(CAMERAS), ellipse(CAMERAS, 24, reach)
    towards = torch.nn.functional.normalize(rig.focus - path[:, :3, 3], dim=1)
    assert torch.allclose(path[:, :3, 2], towards, atol=1e-5)
    offsets = path[:, :3, 3] - rig.centre
    assert float((offsets @ rig.right).abs().max()) == pytest.approx(reach * rig.width, rel=1e-4)
    assert float((offsets @ rig.up).abs().max()) == pytest.approx(reach * rig.height, rel=1e-4)


def test_a_dolly_keeps_its_direction_and_moves_along_it():
    path = dolly(CAMERAS, 5, share=0.25)
    assert torch.equal(path[:, :3, :3], path[:1, :3, :3].expand(5, 3, 3))
    moved = path[-1, :3, 3] - path[0, :3, 3]
    distance = (Rig.of(CAMERAS).focus - path[2, :3, 3]).norm()
    assert torch.allclose(moved, 0.5 * distance * path[0, :3, 2], atol=1e-4)


def test_perturbations_repeat_with_their_generator_and_have_the_spread_asked_for():
    def drawn() -> Tensor:
        return perturbed(CAMERAS, 3000, torch.Generator().manual_seed(4), angle_deg=3.0, shift=0.5)

    found = drawn()
    assert torch.equal(found, drawn())
    chosen = CAMERAS[torch.arange(3000) % 3]
    cosines = ((chosen[:, :3, :3].mT @ found[:, :3, :3]).diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    # the length of three normal numbers is 1.596 deviations in the mean
    assert float(torch.rad2deg(torch.acos(cosines.clamp(-1, 1))).mean()) == pytest.approx(3 * 1.596, rel=0.05)
    near = torch.cdist(CAMERAS[:, :3, 3], CAMERAS[:, :3, 3]).fill_diagonal_(torch.inf).amin(1)
    moved = (found[:, :3, 3] - chosen[:, :3, 3]).norm(dim=1) / near[torch.arange(3000) % 3]
    assert float(moved.mean()) == pytest.approx(0.5 * 1.596, rel=0.05)

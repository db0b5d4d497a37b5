"""Matching one view with its sources, on planes whose depth is a formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from support.synthetic import Plane, pictured, pinhole, plane_texture, textured_plane
from torch import Tensor

from sparse3d.geometry import project
from sparse3d.init import matching
from sparse3d.init.depth_map import world_points
from sparse3d.init.matching import Match, match, winner
from sparse3d.init.planes import sweep_depths
from sparse3d.paths import look_at
from sparse3d.types import View

NO_POINTS = torch.zeros(0, 3)
DISTANCE = 5.0


def around(
    plane: Plane, angles_deg: Sequence[float], texture: Callable[[Tensor], Tensor], focal: float = 250.0
) -> list[tuple[View, Tensor]]:
    """Views of 96 x 128 on an arc around a point at distance 5, the first one along +z, and their depths."""
    target, up = torch.tensor([0.0, 0.0, DISTANCE]), torch.tensor([0.0, -1.0, 0.0])
    made = []
    for angle in (0.0, *angles_deg):
        a = math.radians(angle)
        c2w = look_at(target - DISTANCE * torch.tensor([math.sin(a), 0.0, math.cos(a)]), target, up)
        made.append(pictured(f"{angle}", c2w, pinhole(96, 128, focal), (96, 128), [plane], texture))
    return made


def fine_texture(points: Tensor) -> Tensor:
    return plane_texture(3 * points)


def right_share(found: Match, truth: Tensor, sees: Tensor | None = None) -> float:
    """Of the pixels, or of those that `sees` names, how many are within 3 % of the truth."""
    right = (found.depth - truth).abs() <= 0.03 * truth
    return float((right if sees is None else right[sees]).float().mean())


def seen_by_all(view: View, truth: Tensor, sources: Sequence[View], depths: Tensor) -> Tensor:
    """Where all sources see the surface, 6 pixels off their borders, and planes reach it. (H, W) bool"""
    seen = (truth > depths[0]) & (truth < depths[-1])
    for source in sources:
        pixels, _ = project(world_points(view, truth).reshape(-1, 3), source.cameras.w2c[0], source.K)
        inside = (pixels > 6) & (pixels < torch.tensor([source.width, source.height]) - 6)
        seen &= inside.all(dim=1).reshape(truth.shape)
    return seen


@pytest.mark.parametrize(
    ("slant_deg", "angles_deg", "floor", "more"),
    [(60, (35,), 0.97, 0.1), (65, (35, -35), 0.88, 0.15), (60, (45,), 0.6, 0.2)],
)
def test_tilted_planes_find_a_floor_between_cameras_far_apart(monkeypatch, slant_deg, angles_deg, floor, more):
    """Depth changes by tan(slant) / focal of itself a row, and with it the disparity: windows shear between the views.

    The floors leave a fifth to a quarter of the measured errors as slack (0.997, 0.93 and 0.71; untilted 0.83, 0.66 and 0.36).
    """
    slant = math.radians(slant_deg)
    normal = (0.0, -math.sin(slant), math.cos(slant))
    made = around(Plane(normal, normal[2] * DISTANCE), angles_deg, fine_texture)
    (view, truth), sources = made[0], [source for source, _ in made[1:]]
    depths = sweep_depths(2.5, 10.0, 96)
    sees = seen_by_all(view, truth, sources, depths)
    tilted = right_share(match(view, sources, depths, 7, NO_POINTS), truth, sees)
    monkeypatch.setattr(matching, "tilts", lambda view: [])
    plain = right_share(match(view, sources, depths, 7, NO_POINTS), truth, sees)
    assert sees.float().mean() > 0.5
    assert tilted > floor and tilted > plain + more


@pytest.mark.parametrize(("slant_deg", "angle_deg"), [(60, 25), (65, 35), (60, 45)])
def test_walls_seen_askew(slant_deg, angle_deg):
    slant = math.radians(slant_deg)
    normal = (math.sin(slant), 0.0, math.cos(slant))
    (view, truth), (source, _) = around(Plane(normal, normal[2] * DISTANCE), [angle_deg], fine_texture)
    depths = sweep_depths(2.5, 12.0, 96)
    sees = seen_by_all(view, truth, [source], depths)
    assert sees.float().mean() > 0.3
    assert right_share(match(view, [source], depths, 7, NO_POINTS), truth, sees) > 0.97


# Repeated texture, and sparse points ---------------------------------------------------------------------------------

FOCAL, BASELINE = 100.0, 0.5
PERIOD_PX = (
    8.0  # of stripes at depth 4; at depth z their disparity is 50 / z, so depths 50 / (12.5 + 8 k) look the same
)
STRIPES_AT, STRIPES_NEARER = 4.0, 50 / 20.5
RANGE = (
    50 / 22.5,
    50 / 6.5,
)  # holds these two alone (the next are 50 / 4.5 and 50 / 28.5), and 65 planes hold them exactly


def stripes(points: Tensor) -> Tensor:
    """Slanted stripes of two waves, period 8 pixels at depth 4 along x."""
    phase = points[..., 0] * FOCAL / STRIPES_AT / PERIOD_PX * 2 * math.pi + 9 * points[..., 1]
    grey = 0.5 + 0.25 * torch.sin(phase) + 0.1 * torch.sin(2 * phase + 1)
    return grey[..., None].expand(*grey.shape, 3)


def facing(texture: Callable[[Tensor], Tensor]) -> list[View]:
    """Two views side by side of the plane z = 4; the second is so wide that it sees all of the first at any depth."""
    made = []
    for x, width in ((0.0, 96), (BASELINE, 160)):
        c2w = torch.eye(4)
        c2w[0, 3] = x
        plane = Plane((0.0, 0.0, 1.0), STRIPES_AT)
        made.append(pictured(str(x), c2w, pinhole(64, width, FOCAL), (64, width), [plane], texture)[0])
    return made


def scattered_at(z: float) -> Tensor:
    """Points on the rays of one pixel in fifty of the first view, at a depth: hardly a pixel sees none along its rows,
    columns and diagonals, which is how far smoothing carries. (P, 3)
    """
    chosen = torch.rand(64, 96, generator=torch.Generator().manual_seed(0)) < 0.02
    return world_points(facing(stripes)[0], torch.full((64, 96), z))[chosen]


@pytest.mark.parametrize("z", [STRIPES_AT, STRIPES_NEARER])
def test_sparse_points_decide_where_texture_repeats(z):
    """Either depth looks right; which of them is taken follows the points."""
    view, source = facing(stripes)
    depths = sweep_depths(*RANGE, 65)
    found = match(view, [source], depths, 7, scattered_at(z)).depth
    assert ((found - z).abs() <= 0.03 * z).float().mean() > 0.95


def test_margin_tells_repeated_from_unique_texture():
    depths = sweep_depths(*RANGE, 65)
    margins = {}
    for name, texture in (("repeated", stripes), ("unique", plane_texture)):
        view, source = facing(texture)
        margins[name] = match(view, [source], depths, 7, NO_POINTS).margin[8:-8, 40:-10].median()
    assert 0 <= margins["repeated"] < 0.4  # of eight paths together; a match of noise costs about 1 on each
    assert margins["unique"] > 3


def test_a_wrong_sparse_point_does_not_win_over_texture():
    view, source = facing(fine_texture)
    wrong = world_points(view, torch.full((64, 96), 6.0))[32:33, 60]
    found = match(view, [source], sweep_depths(*RANGE, 65), 7, wrong)
    around_it = found.depth[28:37, 56:65]
    assert ((around_it - STRIPES_AT).abs() <= 0.03 * STRIPES_AT).all()


def test_points_that_the_view_does_not_see_change_nothing():
    view, source = facing(plane_texture)
    behind_and_aside = torch.tensor(
        [[0.0, 0.0, -3.0], [0.0, 0.0, 0.0], [9.0, 0.0, 3.0], [-9.0, 0.0, 3.0], [0.0, 9.0, 3.0]]
    )
    depths = sweep_depths(*RANGE, 65)
    with_them = match(view, [source], depths, 7, behind_and_aside)
    without = match(view, [source], depths, 7, NO_POINTS)
    assert torch.equal(with_them.depth, without.depth) and torch.equal(with_them.margin, without.margin)


def test_the_nearer_of_two_points_on_a_pixel_counts_in_either_order():
    """The farther one is hidden by it."""
    view, source = facing(stripes)
    near, far = scattered_at(STRIPES_NEARER), scattered_at(STRIPES_AT)
    depths = sweep_depths(*RANGE, 65)
    alone = match(view, [source], depths, 7, near)
    for both in (torch.cat([near, far]), torch.cat([far, near])):
        assert torch.equal(match(view, [source], depths, 7, both).depth, alone.depth)


# What must not matter ------------------------------------------------------------------------------------------------


def test_exposure_changes_hardly_anything():
    posed, truth = textured_plane()
    view, sources = posed.views[1], [posed.views[0], posed.views[2]]
    darker = [replace(sources[0], image=0.6 * sources[0].image + 0.1), sources[1]]
    depths = sweep_depths(2.0, 8.0, 48)
    same, other = (match(view, chosen, depths, 7, NO_POINTS) for chosen in (sources, darker))
    assert ((same.depth - other.depth).abs() <= 0.01 * same.depth).float().mean() > 0.98
    assert right_share(other, truth[1]) > right_share(same, truth[1]) - 0.01


def test_scores_are_those_of_the_chosen_plane_and_margins_have_no_rival_in_few_planes():
    posed, _ = textured_plane()
    found = match(posed.views[1], [posed.views[0]], sweep_depths(2.0, 8.0, 48), 7, NO_POINTS)
    assert found.score.min() >= -1 and found.score.max() <= 1 and found.margin.min() >= 0
    few = match(posed.views[1], [posed.views[0]], sweep_depths(2.0, 8.0, 4), 7, NO_POINTS)
    assert (few.margin == 0).all()  # no plane is 4 from another: nothing says that the best one is right


def test_winner_finds_the_bottom_of_a_parabola_between_planes():
    inverse = torch.linspace(1.0, 0.1, 10)
    truth = 0.523  # inverse depth, between two planes
    costs = ((inverse - truth) ** 2)[:, None, None].expand(10, 2, 3)
    depth, plane = winner(costs, 1 / inverse)
    torch.testing.assert_close(depth, torch.full((2, 3), 1 / truth))
    assert (plane == 5).all()  # 1 - 0.1 k is nearest to 0.523 at k = 5


@pytest.mark.parametrize("end", [0, 9])
def test_winner_at_an_end_is_that_plane(end):
    inverse = torch.linspace(1.0, 0.1, 10)
    costs = (torch.arange(10) - float(end)).abs()[:, None, None].expand(10, 2, 3)
    depth, plane = winner(costs, 1 / inverse)
    torch.testing.assert_close(depth, (1 / inverse[end]).expand(2, 3))
    assert (plane == end).all()

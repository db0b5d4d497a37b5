"""Where a sweep looks: numbers of planes, their depths, tilted ones, and scores taken from one family to another, by formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.synthetic import pinhole
from torch import Tensor

from sparse3d.geometry import pixel_rays
from sparse3d.init.planes import at_depths, plane_count, sweep_depths, tilts
from sparse3d.types import View

HEIGHT, WIDTH, FOCAL = 60, 80, 90.0


def view_at(x: float, turned: bool = False, scale: float = 1.0) -> View:
    """Looks along +z from a place on the x axis, or along -z."""
    c2w = torch.eye(4)
    c2w[0, 3] = x * scale
    if turned:
        c2w[:3, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    return View(f"{x} {turned}", torch.zeros(3, HEIGHT, WIDTH), pinhole(HEIGHT, WIDTH, FOCAL), c2w)


def test_planes_are_even_in_inverse_depth():
    depths = sweep_depths(0.5, 8.0, 4)
    torch.testing.assert_close(1 / depths, torch.tensor([2.0, 2 - 1.875 / 3, 2 - 2 * 1.875 / 3, 0.125]))


@pytest.mark.parametrize(
    ("near", "far", "planes"), [(2.0, 1.0, 8), (1.0, 1.0, 8), (0.0, 1.0, 8), (-1.0, 1.0, 8), (1.0, 2.0, 1)]
)
def test_an_empty_range_is_refused(near, far, planes):
    with pytest.raises(ValueError, match="0 < near < far"):
        sweep_depths(near, far, planes)


# How many ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize(("baseline", "step_px"), [(1.0, 0.5), (1.0, 1.0), (0.83, 0.71), (-1.3, 1.0)])
def test_count_is_the_disparity_range_in_steps(baseline, step_px, scale):
    """Cameras side by side: a point at z is seen f b / z apart, so the range is f |b| (1 / near - 1 / far) pixels."""
    near, far = 1.1, 7.0
    disparity = FOCAL * abs(baseline) * (1 / near - 1 / far)
    found = plane_count(
        view_at(0.0, scale=scale), [view_at(baseline, scale=scale)], near * scale, far * scale, step_px, 1000
    )
    assert abs(found - (disparity / step_px + 1)) <= 1  # rounded up


def test_count_follows_the_source_that_moves_most_and_its_pixels():
    near, far = 1.0, 10.0
    sources = [view_at(0.2), view_at(1.0), view_at(-0.5)]
    alone = plane_count(view_at(0.0), [sources[1]], near, far, 1.0, 1000)
    assert plane_count(view_at(0.0), sources, near, far, 1.0, 1000) == alone == math.ceil(FOCAL * 0.9) + 1
    larger = sources[1].resized(2 * HEIGHT, 2 * WIDTH)
    assert plane_count(view_at(0.0), [larger], near, far, 1.0, 1000) == math.ceil(2 * FOCAL * 0.9) + 1


def test_count_has_limits():
    here, there = view_at(0.0), view_at(1.0)
    assert plane_count(here, [there], 1.0, 1.01, 1.0, 128) == 32  # 0.9 pixels
    assert plane_count(here, [there], 0.1, 100.0, 0.25, 128) == 128
    assert plane_count(here, [there], 1.0, 1.01, 1.0, 20) == 20  # the user's limit is below the least
    assert plane_count(here, [there], 1e-6, 1e6, 1.0, 10**6) <= math.ceil(math.hypot(HEIGHT, WIDTH)) + 1


@pytest.mark.parametrize("x", [0.0, 1.0])
def test_a_source_that_looks_elsewhere_does_not_count(x):
    here, away = view_at(0.0), view_at(x, turned=True)
    assert plane_count(here, [away], 1.0, 10.0, 1.0, 128) == 32
    both = [away, view_at(1.0)]
    assert plane_count(here, both, 1.0, 10.0, 1.0, 128) == plane_count(here, both[1:], 1.0, 10.0, 1.0, 128)


# Tilted --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("principal", [(40.0, 30.0), (25.0, 41.0)])
def test_tilted_surfaces_are_planes_turned_by_40_degrees(principal):
    """depth * relief on every ray gives points of one plane, through the optical axis at that depth."""
    K = pinhole(HEIGHT, WIDTH, FOCAL)
    K[:2, 2] = torch.tensor(principal)
    view = replace(view_at(0.0), K=K)
    found, depth = [], 3.0
    for relief in tilts(view):
        assert relief.shape == (HEIGHT, WIDTH) and (relief > 0).all()
        points = (pixel_rays(K, HEIGHT, WIDTH) * (depth * relief)[..., None]).reshape(-1, 3).double()
        normal = torch.linalg.lstsq(points, torch.ones(len(points), 1, dtype=torch.double)).solution[:, 0]  # n . X = 1
        torch.testing.assert_close(points @ normal, torch.ones(len(points), dtype=torch.double), rtol=0, atol=1e-5)
        assert 1 / normal[2] == pytest.approx(depth, rel=1e-5)  # where x = y = 0
        angle = math.degrees(math.acos(normal[2] / normal.norm()))
        assert angle == pytest.approx(40.0, abs=1e-3)
        found.append((normal[:2] / normal[:2].norm()).round().tolist())
    assert sorted(found) == [[-1.0, 0.0], [0.0, -1.0], [0.0, 1.0], [1.0, 0.0]]


def test_tilted_surfaces_stay_before_a_wide_camera():
    """At 120 degrees of view some rays run along or away from a plane turned by 40."""
    for relief in tilts(replace(view_at(0.0), K=pinhole(HEIGHT, WIDTH, WIDTH / 2 / math.tan(math.radians(60))))):
        assert relief.isfinite().all() and (relief > 0).all()


# Scores of one family as those of another ----------------------------------------------------------------------------


def linear(z: Tensor, near: float, far: float) -> Tensor:
    """A score above -1 that is linear in inverse depth, which interpolation between planes keeps."""
    return 0.9 - 0.3 * (1 / z - 1 / far) / (1 / near - 1 / far)


@settings(max_examples=30, deadline=None)
@given(planes=st.integers(3, 70), near=st.floats(1e-3, 1e3), ratio=st.floats(1.5, 50), seed=st.integers(0, 9))
def test_scores_at_depths_are_the_function_of_depth_that_they_were(planes, near, ratio, seed):
    far = near * ratio
    depths = sweep_depths(near, far, planes)
    relief = 0.5 + 1.5 * torch.rand(5, 7, generator=torch.Generator().manual_seed(seed))
    surfaces = depths[:, None, None] * relief
    got = at_depths(linear(surfaces, near, far), depths, relief)
    wanted = depths[:, None, None].expand_as(got)
    first, last = surfaces[0], surfaces[-1]
    between = (wanted >= first * (1 + 1e-5)) & (wanted <= last * (1 - 1e-5))
    torch.testing.assert_close(got[between], linear(wanted, near, far)[between], rtol=0, atol=2e-4)
    step = (1 / near - 1 / far) / (planes - 1)
    beyond = (1 / wanted - relief.reciprocal() / near) / step, (relief.reciprocal() / far - 1 / wanted) / step
    # how many planes beyond the last surface, counted in those of the family: its planes are 1 / relief as far apart
    outside = torch.maximum(*beyond) * relief
    assert (got[outside > 0.51] == -1).all()
    assert (got[outside < 0.49] > -1).all()


def test_scores_along_the_planes_themselves_stay():
    depths = sweep_depths(1.0, 9.0, 12)
    scores = torch.rand(12, 4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(at_depths(scores, depths, torch.ones(4, 6)), scores, rtol=0, atol=1e-5)

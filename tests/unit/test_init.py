from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from support.synthetic import textured_plane

from sparse3d.config import InitConfig
from sparse3d.errors import UserError
from sparse3d.geometry import project
from sparse3d.init.depth_map import DepthMap
from sparse3d.init.fusion import fused
from sparse3d.init.initialization import Origin
from sparse3d.init.initialize import initialize
from sparse3d.init.neighbours import choose_sources, depth_range
from sparse3d.init.planesweep import estimate_depths
from sparse3d.init.sfm import from_points, neighbour_distance
from sparse3d.kernels.reference import sh_to_rgb
from sparse3d.kernels.sweep import semi_global
from sparse3d.progress import Event, StageReporter
from sparse3d.types import Points, PosedViews, View

CONFIG = InitConfig(max_size=96, planes=48, sources=2, near=2.0, far=8.0)


def test_smoothing_repairs_a_lone_wrong_pixel_and_keeps_a_step():
    truth = torch.zeros(20, 30, dtype=torch.long)
    truth[:, 15:] = 6
    costs = torch.ones(8, 20, 30)
    costs.scatter_(0, truth[None], 0.0)
    costs[:, 10, 5] = 1.0
    costs[3, 10, 5] = 0.4  # the lone pixel prefers plane 3
    smooth = semi_global(costs, truth / 6.0)
    assert costs.argmin(0)[10, 5] == 3
    assert (smooth.argmin(0) == truth).all()


def test_depth_of_a_slanted_plane():
    posed, depths = textured_plane()
    maps = estimate_depths(posed, CONFIG, StageReporter("init"))
    for depth_map, truth in zip(maps, depths, strict=True):
        agreed = depth_map.support > 0
        error = ((depth_map.depth - truth).abs() / truth)[agreed]
        assert agreed.float().mean() > 0.6  # the views overlap by about 80 %
        # a plane step is 1/47 of the inverse range: 0.8 % of depth 4; most pixels are between planes to a fraction of it
        assert error.median() < 0.006 and (error < 0.03).float().mean() > 0.95


def test_gaussians_lie_on_the_plane_once():
    posed, _ = textured_plane()
    maps = estimate_depths(posed, CONFIG, StageReporter("init"))
    start = fused(maps, CONFIG.stride, CONFIG.consistency)
    gaussians = start.gaussians[start.origin == Origin.MATCHED]
    blocks = sum(depth_map.depth.numel() for depth_map in maps) / CONFIG.stride**2
    assert 0.3 * blocks < len(gaussians) < 0.75 * blocks  # three views of one surface: what two agree on is taken once
    z = gaussians.means[gaussians.opacities > 0.5]
    height = z[:, 2] - (4.0 + 0.4 * z[:, 0])  # support/synthetic.py: the plane z = 4 + 0.4 x
    assert height.abs().median() < 0.03
    assert gaussians.sh.shape == (len(gaussians), 1, 3)


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5])
def test_a_gaussian_stands_where_its_colour_is_from(stride):
    """A picture whose colour is its pixel position: each Gaussian is seen at the position that its colour names."""
    v, u = torch.meshgrid(torch.arange(50) + 0.5, torch.arange(70) + 0.5, indexing="ij")
    image = torch.stack([u / 70, v / 50, torch.zeros(50, 70)])
    c2w = torch.tensor([[0.0, 0, 1, 0.5], [0, 1, 0, -0.2], [-1, 0, 0, 0.3], [0, 0, 0, 1]])
    view = View("a", image, torch.tensor([[60.0, 0, 33], [0, 55.0, 26], [0, 0, 1]]), c2w)
    depth = 1 / (0.33 - 0.001 * u)  # a plane
    one = torch.ones(50, 70)
    depth_map = DepthMap(view, depth, one, one.long(), torch.zeros(50, 70, dtype=torch.bool), 10.0)
    gaussians = fused([depth_map], stride, CONFIG.consistency).gaussians
    pixels, z = project(gaussians.means, view.cameras.w2c[0], view.K)
    named = sh_to_rgb(0, gaussians.means, gaussians.sh)[:, :2] * torch.tensor([70.0, 50.0])
    whole = (pixels + stride / 2 < torch.tensor([70.01, 50.01])).all(1)  # the last blocks may reach over the border
    assert whole.sum() == (70 // stride) * (50 // stride)
    torch.testing.assert_close(pixels[whole], named[whole], rtol=0, atol=1e-3)  # pixels; half a pixel if off centre
    torch.testing.assert_close(z, 1 / (0.33 - 0.001 * pixels[:, 0]))


def test_sources_are_near_views_and_a_lone_view_is_warned_of():
    posed, _ = textured_plane()
    far = posed.views[0].c2w.clone()
    far[:3, :3] = far[:3, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0]))  # turned around
    lone = type(posed.views[0])("lone", posed.views[0].image, posed.views[0].K, far)
    both = PosedViews((*posed.views, lone), Points.none())
    sources = choose_sources(both, 2)
    assert sources[3] == [] and all(3 not in row for row in sources)
    events: list[Event] = []
    maps = estimate_depths(both, CONFIG, StageReporter("init", events.append))
    assert any(event.kind == "warning" and "lone" in event.message for event in events)
    assert (maps[3].depth == 0).all()


def test_depth_range_holds_the_points_and_obeys_the_user():
    posed, _ = textured_plane()
    xyz = torch.cat([torch.zeros(100, 2), torch.linspace(3, 6, 100)[:, None]], dim=1)
    points = Points(xyz, torch.rand(100, 3), torch.ones(100), (("1",),) * 100)
    near, far = depth_range(posed.views[1], points, None, None, 1.0)
    assert 2 < near < 3 and 6 < far < 8.5
    assert depth_range(posed.views[1], points, 1.0, 9.0, 1.0) == (1.0, 9.0)
    with pytest.raises(UserError, match=r"Set init\.near and\s+init\.far"):
        depth_range(posed.views[1], points, 9.0, 1.0, 1.0)


def test_sfm_gaussians_are_as_wide_as_the_gap():
    grid = torch.stack(torch.meshgrid(*[torch.arange(4.0)] * 3, indexing="ij"), -1).reshape(-1, 3) * 0.5
    torch.testing.assert_close(neighbour_distance(grid), torch.full((64,), 0.5))
    rgb = torch.rand(64, 3)
    gaussians = from_points(Points(grid, rgb, torch.ones(64), (("a",),) * 64))
    torch.testing.assert_close(gaussians.scales, torch.full((64, 3), 0.5))
    torch.testing.assert_close(gaussians.sh[:, 0] / (2 * math.sqrt(math.pi)) + 0.5, rgb)  # Y_0 = 1 / (2 sqrt(pi))


@pytest.mark.parametrize("away", [1.0, 10.0, 100.0])
def test_gaps_are_measured_far_from_the_origin_too(away):
    """Points 1 cm apart: float32 holds a place 100 units away to 0.01 mm."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(6.0)] * 3, indexing="ij"), -1).reshape(-1, 3) * 0.01
    gaps = neighbour_distance(grid + torch.tensor([away, -away, away]))
    torch.testing.assert_close(gaps, torch.full((216,), 0.01), rtol=2e-3, atol=0)


def test_many_views_far_from_the_origin_have_sources():
    view = textured_plane(8, 8)[0].views[0]
    c2w = torch.eye(4).repeat(30, 1, 1)
    c2w[:, :3, 3] = torch.tensor([1e4, -1e4, 1e4]) + torch.arange(30)[:, None] * torch.tensor([0.05, 0.0, 0.0])
    views = PosedViews(tuple(replace(view, name=str(k), c2w=pose) for k, pose in enumerate(c2w)), Points.none())
    assert all(len(row) == 4 for row in choose_sources(views, 4))


def test_too_many_gaussians_raise_the_stride():
    posed, _ = textured_plane()
    config = replace(CONFIG, method="planesweep")
    many = initialize(posed, config, StageReporter("init")).gaussians
    events: list[Event] = []
    limit = len(many) // 2
    limited = replace(config, max_gaussians=limit)
    few = initialize(posed, limited, StageReporter("init", events.append)).gaussians
    assert 0 < len(few) <= 1.1 * limit  # blocks at the border are not all full
    assert few.log_scales.mean() > many.log_scales.mean()  # wider apart, so wider
    assert any("init.max_gaussians" in event.message for event in events)

"""Depth maps to Gaussians: what is taken once, what is kept, what is dropped; counts and places from geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from support.synthetic import Plane, pictured, pinhole
from torch import Tensor

from sparse3d.geometry import project, rotation_from_quat
from sparse3d.init.depth_map import DepthMap, world_points
from sparse3d.init.fusion import fused
from sparse3d.init.initialization import Origin, Start
from sparse3d.init.visibility import looked_through, settled
from sparse3d.types import Gaussians

SIZE, FOCAL = (48, 64), 70.0
Z = 4.0
WALL = Plane((0.0, 0.0, 1.0), Z)
TOLERANCE = 0.03


def mapped(x: float, sure: float = 0.9, planes: Sequence[Plane] = (WALL,)) -> DepthMap:
    """Exact depth from a place on the x axis, confirmed by two other views."""
    c2w = torch.eye(4)
    c2w[0, 3] = x
    view, depth = pictured(str(x), c2w, pinhole(*SIZE, FOCAL), SIZE, planes)
    return with_depth(DepthMap(view, depth, depth, depth, depth > 0, 20.0), depth, sure)


def with_depth(found: DepthMap, depth: Tensor, sure: float, support: int = 2) -> DepthMap:
    known = depth > 0
    return replace(
        found, depth=depth, confidence=sure * known, support=support * known.long(), filled=torch.zeros_like(known)
    )


def of(start: Start, origin: Origin) -> Gaussians:
    return start.gaussians[start.origin == origin]


def block_points(found: DepthMap, stride: int) -> Tensor:
    """Points in the middle of the blocks of a wall seen straight on. (P, 3)"""
    rows, columns = SIZE[0] // stride, SIZE[1] // stride
    return world_points(found.view, torch.full((rows, columns), Z), stride).reshape(-1, 3)


def pictures(found: DepthMap, points: Tensor) -> Tensor:
    """Which points lie in the picture of a view. (P, 3) -> (P,) bool"""
    pixels, _ = project(points, found.view.cameras.w2c[0], found.view.K)
    return ((pixels > 0) & (pixels < torch.tensor([SIZE[1], SIZE[0]]))).all(dim=1)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_what_several_views_see_is_taken_once(stride):
    """All of the first view, of the second what the first does not see, of the third what neither does."""
    maps = [mapped(x) for x in (-0.71, 0.0, 0.83)]
    want = 0
    for index, found in enumerate(maps):
        points = block_points(found, stride)
        new = torch.ones(len(points), dtype=torch.bool)
        for earlier in maps[:index]:
            new &= ~pictures(earlier, points)
        want += int(new.sum())
    start = fused(maps, stride, TOLERANCE)
    assert (start.origin == Origin.MATCHED).all()  # no hole to guess in
    assert len(start) == pytest.approx(want, abs=SIZE[0] / stride)  # a column may lie on the border of a picture
    assert want < 0.7 * sum(len(block_points(found, stride)) for found in maps)
    torch.testing.assert_close(start.gaussians.means[:, 2], torch.full((len(start),), Z), rtol=1e-4, atol=0)
    normals = rotation_from_quat(start.gaussians.quats)[:, :, 2]
    torch.testing.assert_close(normals, torch.tensor([0.0, 0, -1]).expand(len(start), 3), rtol=0, atol=1e-3)
    width = stride * Z / FOCAL  # of a block; flat Gaussians, as wide as their share of it
    scales = start.gaussians.scales
    assert (0.4 * width < scales[:, :2]).all() and (scales[:, :2] < 0.9 * width).all()
    assert (scales[:, 2] < 0.5 * scales[:, 0]).all()


def test_a_finer_view_is_kept_beside_a_coarse_one():
    """A view from half the distance shows more than the earlier one, and comes later."""
    far, near = mapped(0.0), mapped(0.0)
    c2w = torch.eye(4)
    c2w[2, 3] = Z / 2
    view, depth = pictured("near", c2w, pinhole(*SIZE, FOCAL), SIZE, [WALL])
    near = with_depth(replace(near, view=view), depth, 0.9)
    blocks = SIZE[0] * SIZE[1] // 4
    assert len(fused([far, near], 2, TOLERANCE)) == 2 * blocks
    inside = int(pictures(near, block_points(far, 2)).sum())
    assert len(fused([near, far], 2, TOLERANCE)) == pytest.approx(2 * blocks - inside, abs=SIZE[0])


def test_what_one_view_alone_sees_is_kept():
    """The second view knows nothing of the left half; of what it does not know, nobody has to confirm the first."""
    one, two = mapped(0.0), mapped(0.3)
    half = two.depth.clone()
    half[:, : SIZE[1] // 2] = 0
    alone = with_depth(one, one.depth, 0.6, support=0)
    start = fused([alone, with_depth(two, half, 0.9)], 2, TOLERANCE)
    matched = of(start, Origin.MATCHED)
    assert len(matched) >= SIZE[0] * SIZE[1] // 4  # all of the first view
    left = matched.means[:, 0] < -1.5
    assert left.sum() > 30


@pytest.mark.parametrize(("confirmed", "stays"), [(True, False), (False, True)])
def test_floaters_that_a_confirmed_view_looks_through_go(confirmed, stays):
    one, two = mapped(0.0), mapped(0.3)
    floating, support = one.depth.clone(), one.support.clone()
    floating[20:28, 30:38] = 2.0
    support[20:28, 30:38] = 0
    first = replace(one, depth=floating, support=support)
    other = two if confirmed else with_depth(two, two.depth, 0.6, support=0)
    means = of(fused([first, other], 2, TOLERANCE), Origin.MATCHED).means
    assert bool(((means[:, 2] - 2.0).abs() < 0.1).any()) is stays
    supported = replace(first, support=torch.ones_like(support))  # another view says that it is there
    means = of(fused([supported, two], 2, TOLERANCE), Origin.MATCHED).means
    assert ((means[:, 2] - 2.0).abs() < 0.1).sum() == 16


@pytest.mark.parametrize(("mine", "other"), [(0.9, 0.3), (0.3, 0.9), (0.5, 0.5)])
def test_places_are_means_by_confidence(mine, other):
    """The second view sees the wall 2 % farther; on its own ray, so the means leave the first view's ray a little."""
    one, two = mapped(0.0, mine), mapped(0.3)
    two = with_depth(two, 1.02 * two.depth, other)
    start = fused([one, two], 2, TOLERANCE)
    both = start.gaussians.means[: SIZE[0] * SIZE[1] // 4]  # of the first view, in order
    both = both[pictures(two, both)]
    want = Z * (mine + other * 1.02) / (mine + other)
    assert both[:, 2].median() == pytest.approx(want, abs=1e-3 * Z)
    assert (both[:, 2] > Z).all() and (both[:, 2] < 1.02 * Z).all()


def test_views_that_disagree_are_not_averaged():
    one, two = mapped(0.0), mapped(0.3)
    two = with_depth(two, 1.05 * two.depth, 0.9)
    first = fused([one, two], 2, TOLERANCE).gaussians.means[: SIZE[0] * SIZE[1] // 4]
    torch.testing.assert_close(first[:, 2], torch.full((len(first),), Z), rtol=1e-5, atol=0)


def test_origins_say_where_gaussians_come_from():
    one = mapped(0.0)
    filled = torch.zeros(SIZE, dtype=torch.bool)
    filled[10:14, 20:26] = True
    depth = one.depth.clone()
    depth[24:, 40:] = 0  # a hole of 24 x 24
    found = replace(with_depth(one, depth, 0.9), filled=filled)
    start = fused([found], 2, TOLERANCE)
    assert (start.origin == Origin.FILLED).sum() == 4 * 6 // 4
    assert (start.origin == Origin.MATCHED).sum() == (SIZE[0] * SIZE[1] - 24 * 24 - 24) // 4
    for origin, where in ((Origin.FILLED, filled), (Origin.GUESSED, depth == 0)):
        pixels, _ = project(of(start, origin).means, one.view.cameras.w2c[0], one.view.K)
        x, y = pixels.long().unbind(1)
        assert where[y, x].all()
    assert (start.origin == Origin.GUESSED).any()


def test_masks_leave_no_guess():
    one = mapped(0.0)
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[:, :32] = True
    start = fused([with_depth(replace(one, view=replace(one.view, mask=mask)), torch.zeros(SIZE), 0.0)], 2, TOLERANCE)
    assert len(start) > 0 and (start.origin == Origin.GUESSED).all()
    pixels, _ = project(start.gaussians.means, one.view.cameras.w2c[0], one.view.K)
    assert (pixels[:, 0] < 32).all()


def test_opacity_rises_with_confidence():
    sure = torch.linspace(0, 1, SIZE[1]).expand(SIZE)
    opacities = fused([replace(mapped(0.0), confidence=sure)], 1, TOLERANCE).gaussians.opacities.reshape(SIZE)
    assert (opacities.diff(dim=1) > 0).all()
    assert opacities.min() > 0 and opacities.max() < 1


@pytest.mark.parametrize("factor", [0.25, 4.0, 1024.0])
def test_units_of_the_world_scale_the_gaussians(factor):
    def scaled(found: DepthMap) -> DepthMap:
        units = torch.ones(4, 4)
        units[:3, 3] = factor
        view = replace(found.view, c2w=found.view.c2w * units)
        return replace(found, view=view, depth=found.depth * factor, far=found.far * factor)

    maps = []
    for x in (-0.7, 0.0, 0.8):
        found = mapped(x, planes=[Plane((-0.3, 0.2, 1.0), Z)])
        hole = found.depth.clone()
        hole[:20, :20] = 0
        maps.append(with_depth(found, hole, 0.9))
    before, after = fused(maps, 2, TOLERANCE), fused([scaled(found) for found in maps], 2, TOLERANCE)
    assert torch.equal(before.origin, after.origin)
    torch.testing.assert_close(after.gaussians.means, factor * before.gaussians.means, rtol=1e-5, atol=1e-5 * factor)
    torch.testing.assert_close(after.gaussians.scales, factor * before.gaussians.scales, rtol=1e-4, atol=0)
    torch.testing.assert_close(after.gaussians.opacities, before.gaussians.opacities)


def test_no_depth_at_all_is_no_error():
    nothing = with_depth(mapped(0.0), torch.zeros(SIZE), 0.0)
    start = fused([nothing, nothing], 2, TOLERANCE)
    assert not (start.origin == Origin.MATCHED).any() and start.gaussians.means.isfinite().all()
    assert len(fused([], 2, TOLERANCE)) == 0


# What maps say of points ---------------------------------------------------------------------------------------------

POINTS = torch.tensor(
    [
        [0.0, 0.0, Z],  # on the wall
        [0.0, 0.0, Z * 1.02],  # hardly behind it
        [0.0, 0.0, Z * 1.05],  # behind it
        [0.0, 0.0, Z * 0.98],  # hardly before it
        [0.0, 0.0, Z * 0.95],  # before it
        [0.0, 0.0, -Z],  # behind the camera
        [9.0, 0.0, Z],  # beside the picture
    ]
)


def test_points_at_or_before_a_known_depth_are_settled():
    found = mapped(0.0)
    assert settled(POINTS, [found], TOLERANCE).tolist() == [True, True, False, True, True, False, False]
    unknown = with_depth(found, torch.zeros(SIZE), 0.0)
    assert not settled(POINTS, [unknown], TOLERANCE).any() and not settled(POINTS, [], TOLERANCE).any()


def test_only_confirmed_depths_are_looked_through():
    found = mapped(0.0)
    assert looked_through(POINTS, [found], TOLERANCE).tolist() == [False] * 4 + [True, False, False]
    assert not looked_through(POINTS, [with_depth(found, found.depth, 0.9, support=0)], TOLERANCE).any()

"""What views say of each other's depth, on exact depth maps: a block before a wall, by geometry."""

from __future__ import annotations

import itertools

import pytest
import torch
from support.synthetic import Plane, pictured, pinhole
from torch import Tensor

from sparse3d.geometry import project
from sparse3d.init.consistency import Agreement, agreement, confidence
from sparse3d.init.depth_map import world_points
from sparse3d.types import View

SIZE = (60, 80)
WALL = Plane((0.0, 0.0, 1.0), 6.0)
BLOCK = Plane((0.0, 0.0, 1.0), 3.0, low=(-0.5, -0.6, 2.0), high=(0.6, 0.5, 4.0))
PLACES = ((0.0, 0.0), (0.6, 0.0), (-0.5, 0.3), (2.0, 0.0))
TOLERANCE = 0.03


@pytest.fixture(scope="module")
def scene() -> tuple[list[View], list[Tensor]]:
    made = []
    for x, y in PLACES:
        c2w = torch.eye(4)
        c2w[:2, 3] = torch.tensor([x, y])
        made.append(pictured(f"{x} {y}", c2w, pinhole(*SIZE, 70.0), SIZE, [WALL, BLOCK]))
    return [view for view, _ in made], [depth for _, depth in made]


def sure(mask: Tensor) -> Tensor:
    """Pixels whose neighbours all say the same: the nearest pixel of another view may be half a pixel off."""
    padded = torch.nn.functional.pad(mask.float()[None, None], (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.avg_pool2d(padded, 3, 1)[0, 0] > 0.99


def flat(depth: Tensor) -> Tensor:
    """Pixels off the block's outline, (H, W) bool: on it the nearest pixel of another view may show the wall."""
    return sure(depth < 5) | sure(depth > 5)


def seen_from(view: View, points: Tensor, border_px: float) -> Tensor:
    """Which points are in the picture of a view and not behind the block, by the line from its centre. (P, 3) -> (P,)"""
    pixels, z = project(points, view.cameras.w2c[0], view.K)
    inside = (pixels > border_px) & (pixels < torch.tensor([view.width, view.height]) - border_px)
    centre = view.c2w[:3, 3]
    hits = BLOCK.depth(centre, points - centre)  # in units of the way to the point
    return inside.all(dim=1) & (z > 0) & (hits > 0.99)


@pytest.mark.parametrize("index", range(len(PLACES)))
def test_support_counts_the_views_that_see_the_point(scene, index):
    views, depths = scene
    points = world_points(views[index], depths[index]).reshape(-1, 3)
    agreed = agreement(index, views, depths, TOLERANCE)
    assert (agreed.against[flat(depths[index])] == 0).all()  # nobody looks through what is there
    clear, want = flat(depths[index]), torch.zeros(SIZE, dtype=torch.long)
    for other, view in enumerate(views):
        if other != index:
            seen = seen_from(view, points, 0.0).reshape(SIZE)
            inner = seen_from(view, points, 1.0).reshape(SIZE)
            clear &= (sure(seen) & inner) | (sure(~seen))
            want += seen
    assert clear.float().mean() > 0.7 and len(want[clear].unique()) >= 3
    assert torch.equal(agreed.support[clear], want[clear])


def test_what_hides_a_point_is_not_against_it(scene):
    """Of the wall that the first view sees, the block hides a part from the second."""
    views, depths = scene
    points = world_points(views[0], depths[0]).reshape(-1, 3)
    hidden = ~seen_from(views[1], points, 0.0).reshape(SIZE) & (depths[0] > 5)
    agreed = agreement(0, views[:2], depths[:2], TOLERANCE)
    assert hidden.sum() > 100
    assert (agreed.support[sure(hidden)] == 0).all() and (agreed.against[hidden] == 0).all()


def test_a_floater_is_looked_through(scene):
    views, depths = scene
    floating = depths[0].clone()
    floating[5:9, 40:46] = 2.0  # of the wall, at 6: three views see the wall behind it
    agreed = agreement(0, views, [floating, *depths[1:]], TOLERANCE)
    assert (agreed.support[5:9, 40:46] == 0).all() and (agreed.against[5:9, 40:46] >= 1).all()
    for i in range(1, 4):  # it hides the wall, and does not look through it
        assert not agreement(i, views, [floating, *depths[1:]], TOLERANCE).against[flat(depths[i])].any()


def test_a_depth_behind_the_surface_has_neither(scene):
    views, depths = scene
    behind = depths[0].clone()
    behind[5:9, 40:46] = 12.0
    agreed = agreement(0, views, [behind, *depths[1:]], TOLERANCE)
    assert (agreed.support[5:9, 40:46] == 0).all() and (agreed.against[5:9, 40:46] == 0).all()


def test_a_depth_within_the_tolerance_that_leads_elsewhere_has_neither(scene):
    """A wall at 7.2 instead of 6, seen from 2 beside: 70 x 2 x (1/6 - 1/7.2) = 3.9 pixels off on the way back."""
    views, depths = scene
    agreed = agreement(0, [views[0], views[3]], [1.2 * depths[0], depths[3]], 0.3)
    wall = depths[0] > 5
    assert not agreed.support[wall & flat(depths[0])].any() and not agreed.against[wall].any()


def test_unknown_depths_say_nothing(scene):
    views, depths = scene
    nothing = torch.zeros(SIZE)
    lone = agreement(0, views, [depths[0], nothing, nothing, nothing], TOLERANCE)
    assert not lone.support.any() and not lone.against.any()
    half = depths[0].clone()
    half[:, 40:] = 0
    agreed, whole = (agreement(0, views, [first, *depths[1:]], TOLERANCE) for first in (half, depths[0]))
    assert not agreed.support[:, 40:].any() and torch.equal(agreed.support[:, :40], whole.support[:, :40])


@pytest.mark.parametrize(("off", "same"), [(0.98, True), (1.02, True), (0.94, False), (1.06, False)])
def test_tolerance_is_relative(scene, off, same):
    views, depths = scene
    agreed = agreement(1, views[:2], [off * depths[0], depths[1]], TOLERANCE)
    exact = agreement(1, views[:2], depths[:2], TOLERANCE).support.bool()
    assert (agreed.support[exact] > 0).float().mean() == pytest.approx(1.0 if same else 0.0, abs=0.02)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_units_of_the_world_do_not_matter(scene, scale):
    views, depths = scene
    units = torch.ones(4, 4)
    units[:3, 3] = scale
    scaled = [View(view.name, view.image, view.K, view.c2w * units) for view in views]
    got, want = (agreement(0, *given, TOLERANCE) for given in ((scaled, [scale * d for d in depths]), (views, depths)))
    assert (got.support != want.support).float().mean() < 0.01  # pixels on the line between two


def test_confidence_rises_with_what_speaks_for_a_depth():
    scores, margins = torch.linspace(-1, 1, 9), torch.linspace(0, 20, 9)
    counts = range(5)

    def at(score: Tensor, margin: Tensor, support: int, against: int) -> Tensor:
        shape = torch.broadcast_shapes(score.shape, margin.shape)
        agreed = Agreement(torch.full(shape, support), torch.full(shape, against))
        return confidence(score.expand(shape), margin.expand(shape), agreed)

    grid = torch.stack(
        [at(scores[:, None], margins, support, against) for support, against in itertools.product(counts, counts)]
    ).reshape(5, 5, 9, 9)
    assert (grid > 0).all() and (grid < 1).all()
    assert (grid.diff(dim=0) >= 0).all() and (grid[1] > grid[0]).all() and (grid[2] > grid[1]).all()  # support
    assert (grid.diff(dim=1) <= 0).all() and (grid[:, 1] < grid[:, 0]).all()  # against
    assert (grid.diff(dim=2) >= 0).all() and (grid[:, :, -1] > grid[:, :, 0]).all()  # score
    assert (grid.diff(dim=3) >= 0).all() and (grid[:, :, :, -1] > grid[:, :, :, 0]).all()  # margin

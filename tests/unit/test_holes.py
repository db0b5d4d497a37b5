"""Filling small holes of depth maps, by what He, Sun and Tang's local linear model gives in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparse3d.init.holes import fill_small, without_specks

HEIGHT, WIDTH = 60, 80  # 0.2 % of which are 9 pixels


def ramp(per_px: float = 0.01) -> Tensor:
    """Grey that rises to the right."""
    return (0.1 + per_px * torch.arange(WIDTH)).expand(HEIGHT, WIDTH).contiguous()


def with_hole(depth: Tensor, rows: slice = slice(20, 23), columns: slice = slice(40, 43)) -> tuple[Tensor, Tensor]:
    """Depth without a block, and which pixels went."""
    gone = torch.zeros_like(depth, dtype=torch.bool)
    gone[rows, columns] = True
    return torch.where(gone, torch.zeros_like(depth), depth), gone


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_a_constant_depth_comes_back_whatever_the_picture(scale):
    depth, gone = with_hole(torch.full((HEIGHT, WIDTH), 3.7 * scale))
    guide = torch.rand(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    found, filled = fill_small(depth, torch.ones_like(depth), guide)
    assert torch.equal(filled, gone)
    torch.testing.assert_close(found, torch.full_like(depth, 3.7 * scale))


def test_a_plane_that_the_picture_shades_comes_back():
    """Inverse depth linear in grey: only the filter's 1e-4 against the variance of a window shrinks its slope.

    Grey rises by 0.01 a pixel, so its variance over 17 columns is 0.01^2 (17^2 - 1) / 12 = 24e-4, and the slope is short by
    1 / 25; windows reach 8 pixels from the hole, whose mean is off by that of 8 pixels at the most.
    """
    guide = ramp()
    truth = 1 / (0.2 + 0.3 * guide)
    depth, gone = with_hole(truth)
    found, filled = fill_small(depth, torch.ones_like(depth), guide)
    assert torch.equal(filled, gone) and torch.equal(found[~gone], truth[~gone])
    assert (1 / found - 1 / truth)[gone].abs().max() < 0.3 * 0.01 * 8 / 25 + 1e-6


@pytest.mark.parametrize("edge", [39, 40, 41, 42, 43, 44])
def test_depth_steps_where_grey_steps(edge):
    right_of = torch.arange(WIDTH).expand(HEIGHT, WIDTH) >= edge
    guide, truth = torch.where(right_of, 0.7, 0.3), torch.where(right_of, 5.0, 2.0)
    depth, gone = with_hole(truth)
    found, filled = fill_small(depth, torch.ones_like(depth), guide)
    assert torch.equal(filled, gone)
    assert ((found - truth).abs()[gone] < 0.03 * truth[gone]).all()


def test_only_small_holes_are_filled():
    truth = torch.full((HEIGHT, WIDTH), 2.0)
    small, gone = with_hole(truth)  # 9 pixels
    large, _ = with_hole(small, slice(40, 42), slice(10, 15))  # 10
    found, filled = fill_small(large, torch.ones_like(truth), ramp())
    assert torch.equal(filled, gone)
    assert (found[40:42, 10:15] == 0).all() and found[gone].min() > 0


def test_holes_that_touch_at_corners_are_two():
    depth, first = with_hole(torch.full((HEIGHT, WIDTH), 2.0))
    depth, second = with_hole(depth, slice(23, 26), slice(43, 46))
    _, filled = fill_small(depth, torch.ones_like(depth), ramp())
    assert torch.equal(filled, first | second)


def test_what_weighs_more_counts_more():
    """Columns of two depths in turn, in one grey: the mean of inverse depth by weight."""
    odd = (torch.arange(WIDTH) % 2 == 1).expand(HEIGHT, WIDTH)
    truth, guide = torch.where(odd, 1.0, 2.0), torch.full((HEIGHT, WIDTH), 0.5)
    depth, gone = with_hole(truth)
    for weight in (0.0, 1.0, 3.0, 1e6):
        found, _ = fill_small(depth, torch.where(odd, weight, 1.0), guide)
        share = weight / (weight + 1)  # windows hold 8 or 9 columns of either kind
        want = share * 1.0 + (1 - share) * 0.5
        torch.testing.assert_close(1 / found[gone], torch.full((9,), want), rtol=0.05, atol=0)


def test_fills_lie_between_what_is_around():
    generator = torch.Generator().manual_seed(3)
    depth, gone = with_hole(1 + 4 * torch.rand(HEIGHT, WIDTH, generator=generator))
    guide = torch.rand(HEIGHT, WIDTH, generator=generator)
    guide[gone] = 30.0  # far out of the range that the windows were fitted to
    found, _ = fill_small(depth, torch.ones_like(depth), guide)
    around = depth[12:31, 32:51]
    assert (found[gone] >= around[around > 0].min() - 1e-5).all() and (found[gone] <= around.max() + 1e-5).all()


def test_nothing_to_do_changes_nothing():
    whole = 1 + torch.rand(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    found, filled = fill_small(whole, torch.ones_like(whole), ramp())
    assert torch.equal(found, whole) and not filled.any()
    once, _ = fill_small(with_hole(whole)[0], torch.ones_like(whole), ramp())
    twice, filled = fill_small(once, torch.ones_like(whole), ramp())
    assert torch.equal(once, twice) and not filled.any()


def test_an_argument_is_not_changed():
    depth, _ = with_hole(torch.full((HEIGHT, WIDTH), 2.0))
    before = depth.clone()
    fill_small(depth, torch.ones_like(depth), ramp())
    assert torch.equal(depth, before)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (8, 8), (60, 80)])
def test_a_map_without_any_depth_stays_so(size):
    found, filled = fill_small(torch.zeros(size), torch.zeros(size), torch.full(size, 0.5))
    assert not found.any() and not filled.any()


@pytest.mark.parametrize("size", [(1, 700), (700, 1), (2, 601), (33, 35)])
def test_thin_pictures(size):
    depth = torch.full(size, 4.0)
    depth[size[0] // 2, size[1] // 2] = 0
    found, filled = fill_small(depth, torch.ones(size), torch.rand(size, generator=torch.Generator().manual_seed(0)))
    assert filled.sum() == 1
    torch.testing.assert_close(found, torch.full(size, 4.0))


def test_known_depths_of_weight_0_around_a_hole():
    """Nothing to go by: what is filled is still one of the depths around, and finite."""
    depth, gone = with_hole(torch.full((HEIGHT, WIDTH), 2.0))
    found, _ = fill_small(depth, torch.zeros_like(depth), ramp())
    torch.testing.assert_close(found[gone], torch.full((9,), 2.0))


# Specks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_specks_go_and_surfaces_stay(scale):
    """Of 120 x 160 pixels a five-thousandth is 3.84: 3 are a speck, 4 are a surface."""
    depth = torch.full((120, 160), 5.0)
    depth[20, 30:33] = 2.0
    depth[50:52, 30:32] = 2.0
    depth[80, 30] = 8.0
    want = depth.clone()
    want[20, 30:33] = 0
    want[80, 30] = 0
    assert torch.equal(without_specks(depth * scale), want * scale)


def test_a_slope_is_one_surface_however_far_it_goes():
    """From 1 to 19 by 2 % a pixel."""
    depth = (1.02 ** torch.arange(150.0)).expand(60, 150).contiguous()
    assert torch.equal(without_specks(depth), depth)
    steps = (1.05 ** torch.arange(150.0)).expand(1, 150).contiguous()  # each pixel is alone
    assert not without_specks(steps).any()


def test_nothing_holds_no_specks():
    assert not without_specks(torch.zeros(30, 40)).any()

"""Depth of a drawn picture brought to what is known."""

from __future__ import annotations

import pytest
import torch

from sparse3d.lift.align import aligned

H, W = 48, 64


def surface() -> torch.Tensor:
    """A slanted wall with a box before it."""
    x = torch.linspace(0, 1, W).expand(H, W)
    depth = 1 / (0.2 + 0.1 * x)
    depth[16:32, 20:40] = 2.0
    return depth


@pytest.fixture
def half() -> torch.Tensor:
    known = torch.zeros(H, W)
    known[:, : W // 2] = 1
    return known


def test_gain_and_offset_of_inverse_depth_are_found_from_one_half(half):
    truth = surface()
    predicted = 1 / (3 * (1 / truth) + 0.5)
    found = aligned(predicted, truth * half, half)
    assert float(((found - truth) / truth).abs().max()) < 1e-3


def test_wrong_pixels_do_not_move_the_rest(half):
    truth = surface()
    known = truth * half
    known[:, 4:9] *= 3  # a sixth of what is known
    found = aligned(1 / (2 / truth), known, half)
    assert float(((found - truth) / truth).abs()[:, W // 2 :].median()) < 0.02


def test_what_is_left_is_made_up_for_smoothly(half):
    truth = surface()
    bent = truth * (1 + 0.1 * torch.sin(torch.linspace(0, 3.14, H)))[:, None]  # no gain and offset straightens this
    found = aligned(bent, truth * half, half)
    left = ((found - truth) / truth).abs()
    assert float(left[:, : W // 2].median()) < 0.25 * float(((bent - truth) / truth).abs().median())
    seam = ((found / truth)[:, W // 2] - (found / truth)[:, W // 2 - 1]).abs()
    assert float(seam.max()) < 0.03


def test_the_sky_stays_where_it_is(half):
    truth = surface()
    predicted = truth.clone()
    predicted[:8] = torch.inf
    found = aligned(predicted, truth * half, half)
    assert bool(found[:8].isinf().all()) and bool(found[8:].isfinite().all())


def test_a_prediction_that_runs_backwards_keeps_its_scale_alone(half):
    truth = surface()
    found = aligned(1 / (1 - 1 / truth), truth * half, half)
    assert bool((found > 0).all()) and bool(found.isfinite().all())


def test_few_known_pixels_give_a_scale():
    known = torch.zeros(H, W)
    known[0, :10] = 6.0
    assert torch.allclose(aligned(torch.full((H, W), 2.0), known, known / 6), torch.full((H, W), 6.0))


def test_nothing_known_is_an_error():
    with pytest.raises(ValueError, match="nothing to align by"):
        aligned(torch.ones(H, W), torch.zeros(H, W), torch.ones(H, W))

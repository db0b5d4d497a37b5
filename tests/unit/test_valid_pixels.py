"""Views with pixels that are no numbers, and masks that leave nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from support.synthetic import textured_plane

from sparse3d.config import InitConfig, OptimizeConfig
from sparse3d.errors import UserError
from sparse3d.init.initialize import initialize
from sparse3d.init.sfm import round_gaussians
from sparse3d.optimize.loop import Fit, look_of, optimize
from sparse3d.progress import Event, StageReporter
from sparse3d.render import rasterizer
from sparse3d.types import PosedViews, View
from sparse3d.valid_pixels import check_masks, with_numbers

CONFIG = OptimizeConfig(steps=9, coarse=0.5, prune_opacity=0.0)
SWEEP = InitConfig(method="planesweep", max_size=96, planes=48, near=2.0, far=8.0)
NOTHING = torch.zeros(72, 96, dtype=torch.bool)


@pytest.fixture
def posed() -> PosedViews:
    return textured_plane()[0]


def with_holes(view: View) -> View:
    """A column of nan and a pixel that is infinite in one channel: 73 pixels."""
    image = view.image.clone()
    image[:, :, 40] = math.nan
    image[1, 5, 6] = math.inf
    return replace(view, image=image)


def fit(views: tuple[View, ...], config: OptimizeConfig = CONFIG) -> tuple[Fit, list[str]]:
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(200, 3, generator=generator) * torch.tensor([3.0, 2.2, 0.2]) + torch.tensor([-1.5, -1.1, 3.9])
    blobs = round_gaussians(means, torch.full((200,), 0.1), 0.5, torch.rand(200, 3, generator=generator))
    said: list[Event] = []
    progress = StageReporter("optimize", said.append)
    fitted = optimize(blobs, views, config, rasterizer("auto"), generator=generator, progress=progress)
    return fitted, [event.message for event in said if event.kind == "warning"]


def test_views_of_numbers_are_handed_back_as_they_are(posed):
    said: list[str] = []
    assert with_numbers(posed.views, said.append) is posed.views and not said
    assert with_numbers((posed.views[0], with_holes(posed.views[1])), said.append)[0] is posed.views[0]


@pytest.mark.parametrize("masked", [False, True])
def test_pixels_that_are_no_numbers_are_masked_and_told(posed, masked):
    view = replace(with_holes(posed.views[1]), mask=(torch.arange(96) >= 48).expand(72, 96) if masked else None)
    said: list[str] = []
    (clean,) = with_numbers([view], said.append)
    assert said == ["1: 73 of 6912 pixels are nan or infinite; they are masked"]
    holes = ~torch.isfinite(view.image).all(0)
    assert torch.equal(clean.mask, ~holes if view.mask is None else view.mask & ~holes)
    assert torch.isfinite(clean.image).all() and torch.equal(clean.image[:, ~holes], view.image[:, ~holes])


def test_a_scene_is_fitted_to_what_is_left(posed):
    fitted, warnings = fit((posed.views[0], with_holes(posed.views[1]), posed.views[2]))
    assert len(warnings) == 1 and "1: 73 of 6912 pixels" in warnings[0]
    assert all(torch.isfinite(value).all() for value in fitted.gaussians.values()) and len(fitted.gaussians) == 200


def test_holes_cost_the_sweep_their_surroundings_only(posed):
    views = PosedViews((posed.views[0], with_holes(posed.views[1]), posed.views[2]), posed.points)
    said: list[Event] = []
    found = initialize(views, SWEEP, StageReporter("init", said.append))
    assert ["73 of 6912" in event.message for event in said if event.kind == "warning"] == [True]
    whole = initialize(posed, SWEEP, StageReporter("init"))
    for depth_map, before in zip(found.maps, whole.maps, strict=True):
        assert (depth_map.depth > 0).sum() > 0.75 * (before.depth > 0).sum()
    assert not found.maps[1].depth[:, 40].any()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_view_without_any_number_is_an_error_that_names_it(posed, value):
    views = (*posed.views[:2], replace(posed.views[2], image=torch.full((3, 72, 96), value)))
    with pytest.raises(UserError, match="2: no pixel is a number"):
        fit(views)
    with pytest.raises(UserError, match="2: no pixel is a number"):
        initialize(PosedViews(views, posed.points), SWEEP, StageReporter("init"))


def test_a_mask_over_everything_is_told_and_harmless(posed):
    """The Gaussians are the ones that the other views give, whatever the covered one shows."""
    covered = [replace(posed.views[2], image=torch.full((3, 72, 96), grey), mask=NOTHING) for grey in (0.0, 1.0)]
    (one, warnings), (other, _) = (fit((*posed.views[:2], view)) for view in covered)
    assert warnings == ["2: its mask leaves no pixel; the view teaches nothing"]
    assert all(torch.equal(a, b) for a, b in zip(one.gaussians.values(), other.gaussians.values(), strict=True))
    assert look_of((*posed.views[:2], covered[0]), CONFIG) == replace(
        look_of(posed.views[:2], CONFIG), near_plane=look_of(posed.views, CONFIG).near_plane
    )


def test_masks_over_all_views_are_an_error(posed):
    views = tuple(replace(view, mask=NOTHING) for view in posed.views)
    with pytest.raises(UserError, match="no pixel of any of the 3 views.*inverted"):
        check_masks(views, lambda _: None)
    with pytest.raises(UserError, match="no pixel of any of the 3 views"):
        fit(views)


def test_two_views_are_enough(posed):
    fitted, warnings = fit(posed.views[:2])
    assert not warnings and len(fitted.gaussians) == 200

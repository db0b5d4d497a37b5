"""Exposure and white balance of photos: gradients against autograd, known gains that come back, the mean that stays, resuming."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from support.synthetic import textured_plane
from torch import Tensor

from sparse3d.config import OptimizeConfig
from sparse3d.geometry import pixel_rays
from sparse3d.init.sfm import round_gaussians
from sparse3d.kernels import cpu
from sparse3d.kernels.cpu_loss import Target
from sparse3d.optimize.exposure import Exposures, ViewExposure, find_exposures, guessed_log_gains
from sparse3d.optimize.loop import look_of, optimize
from sparse3d.optimize.losses import photometric_loss
from sparse3d.progress import Event, StageReporter
from sparse3d.render import drawer, rasterizer
from sparse3d.types import Gaussians, View

compiled = pytest.mark.skipif(not cpu.available(), reason="this install has no compiled kernels (SPARSE3D_PURE)")
CONFIG = OptimizeConfig(steps=60, coarse=0.0, dropout=0.0, opacity_decay=1.0, checkpoint_interval=10)
GAINS = torch.tensor([[0.75, 0.8, 0.7], [1.0, 1.1, 0.95], [1.25, 1.2, 1.3], [0.9, 0.9, 1.0]])


def plane_scene(views: int = 4) -> tuple[Gaussians, tuple[View, ...]]:
    """A blob on every pixel that the second view sees of a textured plane, and the views."""
    posed, depths = textured_plane(48, 64, views)
    view, depth = posed.views[1], depths[1]
    points = (view.c2w[:3, 3] + pixel_rays(view.K, 48, 64) @ view.c2w[:3, :3].T * depth[..., None]).reshape(-1, 3)
    # colours that a photo of any of the gains can hold: from 0.1 to 0.7
    views = tuple(replace(v, image=0.1 + 0.6 * v.image) for v in posed.views)
    return round_gaussians(points, 0.7 * depth.flatten() / view.K[0, 0], 0.95, views[1].image.flatten(1).T), views


def exposed(views: tuple[View, ...], gains: Tensor) -> tuple[View, ...]:
    return tuple(replace(v, image=(v.image * g[:, None, None]).clamp(0, 1)) for v, g in zip(views, gains, strict=True))


def centred(gains: Tensor) -> Tensor:
    return gains.log() - gains.log().mean(0)


def fit(start: Gaussians, views: tuple[View, ...], config: OptimizeConfig, **options) -> Gaussians:
    arguments = {"generator": torch.Generator().manual_seed(0), "progress": StageReporter("optimize")} | options
    return optimize(start, views, config, rasterizer("auto"), **arguments).gaussians


@compiled
@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_by_hand_is_that_of_autograd(masked):
    generator = torch.Generator().manual_seed(0)
    photo, rgb = (torch.rand(3, 20, 24, generator=generator) for _ in range(2))
    photo[:, :4] = 1.0  # clipped at white
    mask = torch.rand(20, 24, generator=generator) > 0.3 if masked else None
    values = torch.tensor([[0.3, -0.2, 0.1], [0.05, 0.02, -0.03]])
    by_hand, by_graph = (values.clone().requires_grad_() for _ in range(2))
    drawn = rgb.clone().requires_grad_()
    want = photometric_loss(ViewExposure(by_graph, photo).applied(drawn), photo, 0.2, mask)
    want.backward()
    loss, gradient = ViewExposure(by_hand, photo).loss_and_gradient(rgb, Target(photo), 0.2, mask)
    assert loss == pytest.approx(float(want.detach()), rel=1e-5)
    torch.testing.assert_close(gradient, drawn.grad, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(by_hand.grad, by_graph.grad, rtol=1e-4, atol=1e-7)
    clipped = values[0].exp()[:, None, None] * rgb[:, :4] + values[1][:, None, None] > 1
    assert clipped.any() and (gradient[:, :4][clipped] == 0).all()  # brighter than white is as good as white


def test_gains_are_read_off_surface_points():
    blobs, views = plane_scene()
    look = look_of(views, CONFIG)
    none = guessed_log_gains(blobs, views, rasterizer("auto"), look)
    assert none.abs().max() < 0.01
    found = guessed_log_gains(blobs, exposed(views, GAINS), rasterizer("auto"), look)
    torch.testing.assert_close(found, centred(GAINS), rtol=0, atol=0.015)
    torch.testing.assert_close(found.mean(0), torch.zeros(3), rtol=0, atol=1e-6)


def test_a_photo_four_stops_darker_and_one_without_overlap():
    blobs, views = plane_scene()
    dark = torch.tensor([[0.28] * 3, [1.0] * 3, [1.0] * 3, [1.0] * 3])  # 2^-4 of the light, by a gamma of 2.2
    turned = replace(views[3], c2w=views[3].c2w @ torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0])))
    found = guessed_log_gains(blobs, exposed((*views[:3], turned), dark), rasterizer("auto"), look_of(views, CONFIG))
    torch.testing.assert_close(found[:3], centred(dark[:3]), rtol=0, atol=0.03)
    assert (found[3] == 0).all()


def test_who_is_compensated():
    blobs, views = plane_scene()
    changed, look = exposed(views, GAINS), look_of(views, CONFIG)

    def found(some: tuple[View, ...], mode: str) -> Exposures | None:
        return find_exposures(blobs, some, replace(CONFIG, exposure=mode), rasterizer("auto"), look)

    assert found(changed, "off") is None and found(views, "auto") is None
    assert found(changed, "auto") is not None and found(views, "on") is not None


def test_photos_of_one_exposure_give_the_same_scene_with_auto_as_without():
    blobs, views = plane_scene()
    auto, off = (fit(blobs, views, replace(CONFIG, steps=8, exposure=mode)) for mode in ("auto", "off"))
    assert torch.equal(auto.sh, off.sh) and torch.equal(auto.means, off.means)


def test_a_scene_of_mixed_exposures_is_drawn_as_if_they_were_one():
    """Against the unchanged photos: the mean gain, which is the scene's brightness, taken out of them."""
    blobs, views = plane_scene()
    gains = centred(GAINS).exp()
    changed = exposed(views, gains)
    said: list[Event] = []
    errors = {}
    for mode in ("auto", "off"):
        fitted = fit(blobs, changed, replace(CONFIG, exposure=mode), progress=StageReporter("optimize", said.append))
        draw = drawer(fitted, look_of(changed, CONFIG))
        inner = (..., slice(8, -8), slice(16, -16))  # seen by all
        errors[mode] = max(float((draw(v.cameras).image[0] - v.image)[inner].abs().mean()) for v in views)
    assert errors["auto"] < 0.002 < 0.004 < errors["off"]
    notes = [event.message for event in said if event.kind == "note"]
    assert len(notes) == 1 and all(f"{view.name} (red x" in notes[0] for view in views)


def test_the_mean_stays_and_generated_views_have_none():
    _, views = plane_scene()
    views = (*views[:3], replace(views[3], generated=True))
    exposures = Exposures(views, centred(GAINS))
    assert (exposures.values[3] == 0).all() and not exposures.values[3].requires_grad
    generator = torch.Generator().manual_seed(0)
    for step in range(20):
        index = step % 4
        if index < 3:
            exposures.values[index].grad = torch.randn(2, 3, generator=generator)
        exposures.step(index, step, CONFIG)
    torch.testing.assert_close(sum(value.detach() for value in exposures.values), torch.zeros(2, 3), rtol=0, atol=1e-6)
    assert (exposures.values[3] == 0).all()
    before = [value.detach().clone() for value in exposures.values]
    exposures.values[0].grad = torch.full((2, 3), math.nan)
    exposures.step(0, 20, CONFIG)
    assert all(torch.equal(a, b) for a, b in zip(before, exposures.values, strict=True))


def test_the_summary_names_who_differs():
    _, views = plane_scene(3)
    exposures = Exposures(views, torch.tensor([[0.3, 0.2, 0.1], [-0.3, -0.2, -0.1], [0.0, 0.0, 0.0]]))
    assert exposures.summary() == "0 (red x1.35, green x1.22, blue x1.11), 1 (red x0.74, green x0.82, blue x0.90)"
    assert Exposures(views).summary() == ""


def test_a_stopped_run_goes_on_to_the_same_scene(tmp_path):
    blobs, views = plane_scene()
    changed, config = exposed(views, GAINS), replace(CONFIG, steps=30, exposure="on")
    whole = fit(blobs, changed, config)

    class Stopped(Exception):
        pass

    def stop(step: int, _: Gaussians) -> None:
        if step == 17:
            raise Stopped

    options = {"checkpoint": tmp_path / "checkpoint", "key": "k"}
    with pytest.raises(Stopped):
        fit(blobs, changed, config, on_step=stop, **options)
    resumed = fit(blobs, changed, config, **options)
    assert torch.equal(whole.means, resumed.means) and torch.equal(whole.sh, resumed.sh)

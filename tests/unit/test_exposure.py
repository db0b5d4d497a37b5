"""Exposure and white balance of photos: gradients against autograd, known gains that come back, resuming."""

from __future__ import annotations

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
from sparse3d.optimize.exposure import Exposure, described, find_gains, log_gains, weighted_median
from sparse3d.optimize.loop import look_of, optimize
from sparse3d.optimize.losses import photometric_loss
from sparse3d.progress import Event, StageReporter
from sparse3d.render import drawer, rasterizer
from sparse3d.types import Gaussians, View

compiled = pytest.mark.skipif(not cpu.available(), reason="this install has no compiled kernels (SPARSE3D_PURE)")
CONFIG = OptimizeConfig(
    steps=60, coarse=0.0, dropout=0.0, opacity_decay=1.0, opacities_lr=0.05, ssim_weight=0.2, checkpoint_interval=10
)
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
    exposure = Exposure.of(torch.tensor([1.4, 0.8, 1.1]), photo)
    drawn = rgb.clone().requires_grad_()
    want = photometric_loss(exposure.applied(drawn), photo, 0.2, mask)
    want.backward()
    loss, gradient = exposure.loss_and_gradient(rgb, Target(photo), 0.2, mask)
    assert loss == pytest.approx(float(want.detach()), rel=1e-5)
    torch.testing.assert_close(gradient, drawn.grad, rtol=1e-4, atol=1e-8)
    clipped = exposure.gain * rgb[:, :4] > 1
    assert clipped.any() and (gradient[:, :4][clipped] == 0).all()  # brighter than white is as good as white


def test_gains_are_read_off_surface_points():
    blobs, views = plane_scene()
    look = look_of(views, CONFIG)
    none = log_gains(blobs, views, rasterizer("auto"), look)
    assert none.abs().max() < 0.01
    found = log_gains(blobs, exposed(views, GAINS), rasterizer("auto"), look)
    torch.testing.assert_close(found, centred(GAINS), rtol=0, atol=0.015)
    torch.testing.assert_close(found.mean(0), torch.zeros(3), rtol=0, atol=1e-6)


def test_a_photo_four_stops_darker_and_one_without_overlap():
    blobs, views = plane_scene()
    dark = torch.tensor([[0.28] * 3, [1.0] * 3, [1.0] * 3, [1.0] * 3])  # 2^-4 of the light, by a gamma of 2.2
    turned = replace(views[3], c2w=views[3].c2w @ torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0])))
    found = log_gains(blobs, exposed((*views[:3], turned), dark), rasterizer("auto"), look_of(views, CONFIG))
    torch.testing.assert_close(found[:3], centred(dark[:3]), rtol=0, atol=0.03)
    assert (found[3] == 0).all()


def test_who_is_compensated():
    blobs, views = plane_scene()
    changed, look = exposed(views, GAINS), look_of(views, CONFIG)

    def found(some: tuple[View, ...], mode: str) -> Tensor | None:
        return find_gains(blobs, some, replace(CONFIG, exposure=mode), rasterizer("auto"), look)

    assert found(changed, "off") is None and found(views, "auto") is None
    assert found(changed, "auto") is not None and found(views, "on") is not None


def test_what_only_differs_is_no_exposure():
    """Two photos of the same place that show other colours there, one of them darker in the median: a wrong camera, or what shines."""
    blobs, views = plane_scene()
    generator = torch.Generator().manual_seed(0)

    def noise(size: float) -> Tensor:
        coarse = torch.randn(1, 1, 12, 16, generator=generator)
        return (size * torch.nn.functional.interpolate(coarse, (48, 64), mode="bicubic")[0] - 0.2).exp()

    for size, held in ((0.4, True), (1.5, False)):  # within what two views of one place may differ by, and beyond
        other = tuple(replace(v, image=(v.image * noise(size)).clamp(0.05, 0.95)) for v in views[:2]) + views[2:]
        look = look_of(other, CONFIG)
        found = log_gains(blobs, other, rasterizer("auto"), look)
        assert (found[:2] != 0).all() == held
        assert find_gains(blobs, other, replace(CONFIG, exposure="auto"), rasterizer("auto"), look) is None


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
    assert errors["auto"] < 0.002 and errors["off"] > 2 * errors["auto"]
    notes = [event.message for event in said if event.kind == "note"]
    assert len(notes) == 1 and all(f"{view.name} (red x" in notes[0] for view in views)


def test_generated_views_have_no_gain():
    blobs, views = plane_scene()
    mixed = (*exposed(views, GAINS)[:3], replace(views[3], generated=True))
    found = log_gains(blobs, mixed, rasterizer("auto"), look_of(views, CONFIG))
    assert (found[3] == 0).all()
    torch.testing.assert_close(found[:3], centred(GAINS[:3]), rtol=0, atol=0.015)


def test_masked_pixels_say_nothing_of_gains():
    blobs, views = plane_scene()
    mask = (torch.arange(64) < 32).expand(48, 64)
    half = tuple(replace(v, image=torch.where(mask, v.image, 0.5 * v.image), mask=mask) for v in exposed(views, GAINS))
    found = log_gains(blobs, half, rasterizer("auto"), look_of(views, CONFIG))
    torch.testing.assert_close(found, centred(GAINS), rtol=0, atol=0.015)


def test_only_who_differs_is_named():
    _, views = plane_scene(3)
    gains = torch.tensor([[1.35, 1.22, 1.11], [0.74, 0.82, 0.9], [1.0, 1.0, 1.02]])
    assert described(views, gains) == "0 (red x1.35, green x1.22, blue x1.11), 1 (red x0.74, green x0.82, blue x0.90)"
    assert described(views, torch.ones(3, 3)) == ""


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


def test_a_weighted_median_is_the_median_of_values_repeated_by_their_weights():
    generator = torch.Generator().manual_seed(3)
    values, weights = torch.randn(31, 3, generator=generator), torch.randint(1, 6, (31, 3), generator=generator)
    for channel in range(3):
        repeated = values[:, channel].repeat_interleave(weights[:, channel])
        found = weighted_median(values[:, channel, None], weights[:, channel, None].float())
        assert found == repeated.median()  # the lower of the two in the middle, as torch.median


def test_dark_colours_that_a_tone_curve_changes_do_not_tint_the_gain():
    """Photos that differ by a gain in bright colours and by a curve of their own in dark blue ones."""
    start, views = plane_scene(2)
    bright = views[0].image > 0.45
    curved = torch.where(bright, views[0].image, views[0].image * torch.tensor([1.0, 1.0, 0.7])[:, None, None])
    changed = (replace(views[0], image=0.8 * curved), views[1])
    found = log_gains(start, changed, rasterizer("auto"), look_of(changed, CONFIG))
    even = torch.tensor([0.8, 0.8, 0.8]).log()
    assert ((found[0] - found[1]) - even).abs().max() < 0.12  # the unweighted median of blue is 0.36 off

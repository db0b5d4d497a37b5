"""Drawn views in the optimization: they count as far as they are trusted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.synthetic import textured_plane

from sparse3d.config import OptimizeConfig
from sparse3d.geometry import pixel_rays
from sparse3d.init.sfm import round_gaussians
from sparse3d.io.views import load_views, save_views
from sparse3d.kernels import cpu
from sparse3d.kernels.cpu_loss import Target
from sparse3d.optimize.loop import look_of, optimize
from sparse3d.optimize.losses import photometric_loss
from sparse3d.optimize.trusted import Trusted
from sparse3d.optimize.units import means_unit
from sparse3d.progress import StageReporter
from sparse3d.render import rasterizer
from sparse3d.types import Gaussians, Points, PosedViews, View

compiled = pytest.mark.skipif(not cpu.available(), reason="this install has no compiled kernels (SPARSE3D_PURE)")
CONFIG = OptimizeConfig(steps=40, coarse=0.0, dropout=0.0, opacity_decay=1.0, guess_decay=1.0, exposure="off")


def plane() -> tuple[Gaussians, tuple[View, ...]]:
    """A blob on every second pixel of a textured plane, and three views of it."""
    posed, depths = textured_plane(48, 64)
    view, depth = posed.views[1], depths[1][::2, ::2]
    rays = pixel_rays(view.K, 48, 64)[::2, ::2]
    points = (view.c2w[:3, 3] + rays @ view.c2w[:3, :3].T * depth[..., None]).reshape(-1, 3)
    colors = view.image[:, ::2, ::2].flatten(1).T
    return round_gaussians(points, 1.2 * depth.flatten() / view.K[0, 0], 0.8, colors), posed.views


def fitted(views: tuple[View, ...], backend: str = "auto") -> Gaussians:
    start, _ = plane()
    generator = torch.Generator().manual_seed(0)
    return optimize(
        start, views, CONFIG, rasterizer(backend), generator=generator, progress=StageReporter("optimize")
    ).gaussians


def drawn(view: View, confidence: float) -> View:
    """A view of the wrong colours that a prior stands for by so much."""
    trust = torch.full(view.image.shape[1:], confidence)
    return replace(view, name="drawn", image=1 - view.image, generated=True, confidence=trust)


@compiled
def test_the_gradient_by_hand_is_that_of_autograd():
    generator = torch.Generator().manual_seed(0)
    picture, rgb = (torch.rand(3, 20, 24, generator=generator) for _ in range(2))
    trusted = Trusted.of(picture, torch.rand(20, 24, generator=generator))
    leaf = rgb.clone().requires_grad_()
    wanted = photometric_loss(trusted.applied(leaf).double(), picture.double(), 0.4)
    wanted.backward()
    loss, gradient = trusted.loss_and_gradient(rgb, Target(picture), 0.4, None)
    assert loss == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert torch.allclose(gradient, leaf.grad, atol=1e-8)


def test_the_loss_of_evenly_trusted_pixels_goes_with_the_trust():
    generator = torch.Generator().manual_seed(1)
    picture, rgb = (torch.rand(3, 20, 24, generator=generator) for _ in range(2))
    whole = photometric_loss(rgb, picture, 0.0)
    third = photometric_loss(Trusted.of(picture, torch.full((20, 24), 1 / 3)).applied(rgb), picture, 0.0)
    assert float(third) == pytest.approx(float(whole) / 3, rel=1e-5)


def test_a_drawn_view_of_no_confidence_pulls_at_nothing():
    _, views = plane()
    ignored, followed = (fitted((drawn(views[1], c),)) for c in (0.0, 1.0))
    before = plane()[0]
    assert torch.allclose(ignored.means, before.means, atol=1e-6) and torch.allclose(
        ignored.sh[:, 0], before.sh[:, 0], atol=1e-6
    )
    assert (followed.sh[:, 0] - before.sh[:, 0]).abs().mean() > 0.01


def test_background_and_steps_are_those_of_the_photos():
    start, views = plane()
    more = (*views, replace(drawn(views[0], 1.0), image=torch.ones_like(views[0].image), c2w=views[0].c2w * 1.0))
    assert look_of(more, CONFIG).background == look_of(views, CONFIG).background
    assert means_unit(start, more, CONFIG) == means_unit(start, views, CONFIG)


def test_confidence_is_resized_and_kept_on_disk(tmp_path):
    _, views = plane()
    trust = torch.linspace(0, 1, 64).expand(48, 64).contiguous()
    view = replace(drawn(views[0], 1.0), confidence=trust)
    small = view.resized(24, 32)
    assert small.confidence is not None and torch.allclose(
        small.confidence[:, 1:-1], trust[::2, ::2][:, 1:-1] + 0.5 / 63, atol=0.01
    )
    save_views(tmp_path, PosedViews((view, views[1]), Points.none()))
    back = load_views(tmp_path).views
    assert back[0].generated and (back[0].confidence - trust).abs().max() <= 0.5 / 255 + 1e-6
    assert back[1].confidence is None and not back[1].generated

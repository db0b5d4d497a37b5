"""Inpainting pipelines as priors, on a tiny Stable Diffusion with random weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.queries import question
from support.tiny_pipelines import tiny_inpaint, tiny_svd

from sparse3d.errors import UserError
from sparse3d.priors.base import Stopped
from sparse3d.priors.inpaint import Inpaint
from sparse3d.priors.manager import draw

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def pipeline():
    return tiny_inpaint()


def test_holes_alone_are_drawn_and_the_rest_is_the_render(pipeline):
    prior, query = Inpaint(pipeline, steps=2), question(3)
    answer = prior.generate(query)
    assert torch.equal(answer.rgb[0], query.render_rgb[0]) and answer.conf[0].min() == 1
    far = torch.ones(32, 32, dtype=torch.bool)
    far[14 - 2 * prior.cell : 18 + 2 * prior.cell, 14 - 2 * prior.cell : 18 + 2 * prior.cell] = False
    assert torch.equal(answer.rgb[1][:, far], query.render_rgb[1][:, far])
    assert not torch.allclose(answer.rgb[1, :, 14:18, 14:18], query.render_rgb[1, :, 14:18, 14:18], atol=0.01)
    assert answer.conf[1, 0, 16, 16] == pytest.approx(0.4) and answer.conf[1, 0, 0, 0] == pytest.approx(0.95)
    assert answer.meta.calls == 2 * 2 and "RAIL" in answer.meta.licence


def test_untrusted_pixels_are_the_models_alone(pipeline, monkeypatch):
    """What lies in a hole of the render must not shine through."""
    prior, query = Inpaint(pipeline, steps=2), question(2)
    wrong = query.render_rgb.clone()
    wrong[1, :, 14:18, 14:18] = 1 - wrong[1, :, 14:18, 14:18]
    white = replace(query, render_conf=torch.where(query.render_conf < 0.9, 0.0, query.render_conf))
    a, b = prior.generate(white), prior.generate(replace(white, render_rgb=wrong))
    assert torch.allclose(a.rgb, b.rgb, atol=1e-5)


def test_a_path_is_drawn_view_by_view_with_its_seed(pipeline):
    prior, query = Inpaint(pipeline, steps=1), question(3)
    prior.caps = replace(prior.caps, pixels=32 * 32)
    answer, again = draw(prior, query), draw(prior, query)
    assert torch.equal(answer.rgb, again.rgb) and answer.meta.calls == 2
    assert not torch.equal(answer.rgb, draw(prior, replace(query, seed=4)).rgb)
    with pytest.raises(Stopped):
        prior.generate(query, on_step=lambda done, total: False)


def test_weights_are_any_inpainting_pipelines_and_no_others(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "good")
    prior = Inpaint.load(str(tmp_path / "good"), pytest.fail)
    mine = Inpaint(pipeline).generate(question(2), steps=1)
    assert torch.allclose(prior.generate(question(2), steps=1).rgb, mine.rgb, atol=1e-5)
    assert prior.caps.licence == "that of its weights"
    tiny_svd().save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="StableVideoDiffusionPipeline, which fills no holes"):
        Inpaint.load(str(tmp_path / "other"), pytest.fail)
    with pytest.raises(ValueError, match="fills the holes of renders"):
        prior.generate(replace(question(2), render_rgb=None, render_conf=None))

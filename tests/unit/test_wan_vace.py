"""Wan-VACE as completion of renders, on a tiny pipeline of the same classes with random weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.queries import question
from support.tiny_pipelines import tiny_wan_vace

from sparse3d.errors import UserError
from sparse3d.priors.base import Stopped
from sparse3d.priors.manager import draw
from sparse3d.priors.wan_vace import WanVace
from sparse3d.types import Cameras

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def pipeline():
    return tiny_wan_vace()


def test_holes_are_grey_and_masked_a_cell_wider_and_known_frames_are_kept(pipeline):
    prior, query = WanVace(pipeline), question()
    video, holes = prior.masked(query)
    assert prior.cell == 8
    wanted = torch.zeros(32, 32)
    wanted[6:26, 6:26] = 1
    assert holes[0].max() == 0 and all(torch.equal(hole[0], wanted) for hole in holes[1:])
    assert torch.equal(video[0], query.render_rgb[0]) and (video[1][:, wanted > 0] == 0.5).all()
    assert torch.equal(video[2][:, wanted == 0], query.render_rgb[2][:, wanted == 0])
    nothing, all_over = prior.masked(replace(query, render_rgb=None, render_conf=None))
    assert (nothing == 0.5).all() and (all_over == 1).all()


def test_frames_that_are_put_into_one_share_their_holes(pipeline):
    """diffusers looks at the mask of one frame of four; what another has as grey must not be kept for it."""
    query = question(9)
    conf = torch.full_like(query.render_conf, 0.95)
    conf[3, :, 0, 0] = 0  # of the first group, frames 1 to 4
    video, holes = WanVace(pipeline).masked(replace(query, render_conf=conf))
    assert holes[0].max() == 0 and holes[5:].max() == 0
    assert all(torch.equal(holes[k], holes[3]) for k in range(1, 5)) and holes[3].sum() == 9 * 9
    assert (video[1:5, :, :9, :9] == 0.5).all()


def test_no_more_references_than_the_pipeline_takes(pipeline):
    query = question(5)
    many = replace(
        query,
        cond_rgb=query.cond_rgb[:1].expand(3, -1, -1, -1),
        cond_cams=Cameras(query.target_cams.c2w[:3], query.target_cams.K[:3], 32, 32),
    )
    assert WanVace(pipeline).generate(many, steps=1).rgb.shape == (5, 3, 32, 32)


def test_the_pipeline_is_given_video_mask_and_references(pipeline, monkeypatch):
    given = {}
    call = type(pipeline).__call__

    def spy(self, **options):
        given.update(options)
        return call(self, **options)

    monkeypatch.setattr(type(pipeline), "__call__", spy)
    query = question()
    WanVace(pipeline).generate(query, steps=2)
    assert len(given["video"]) == len(given["mask"]) == given["num_frames"] == 5 and len(given["reference_images"]) == 2
    assert np.asarray(given["mask"][0]).max() == 0 and set(np.unique(np.asarray(given["mask"][1]))) == {0, 255}
    photo = (query.cond_rgb[1].permute(1, 2, 0) * 255 + 0.5).floor().numpy()
    assert np.array_equal(np.asarray(given["reference_images"][1]), photo)
    assert given["guidance_scale"] == 5.0 and given["prompt"].startswith("a static scene")


def test_answers_have_the_seed_the_size_and_say_what_was_kept(pipeline):
    prior, query = WanVace(pipeline, steps=2), question(9)
    answer, again = prior.generate(query), prior.generate(query)
    assert answer.rgb.shape == (9, 3, 32, 32) and torch.equal(answer.rgb, again.rgb)
    assert not torch.equal(answer.rgb, prior.generate(replace(query, seed=4)).rgb)
    assert (
        answer.conf[0].min() == 1
        and answer.conf[1, 0, 16, 16] == 0.5
        and answer.conf[1, 0, 0, 0] == pytest.approx(0.95)
    )
    assert answer.meta.calls == 2 and answer.meta.licence == "Apache-2.0" and prior.caps.frames == (5, 81, 4)
    told = []
    with pytest.raises(Stopped):
        prior.generate(query, on_step=lambda done, total: told.append((done, total)) or False)
    assert told == [(1, 2)]


def test_a_path_of_any_length_is_cut_filled_up_and_put_together(pipeline):
    prior = WanVace(pipeline, steps=1)
    prior.caps = replace(prior.caps, frames=(5, 9, 4), pixels=32 * 32)
    query = question(11)
    answer = draw(prior, query)
    assert answer.rgb.shape == (11, 3, 32, 32) and answer.meta.calls == 2
    assert torch.equal(answer.rgb[0], query.render_rgb[0])


def test_weights_come_from_a_folder_and_another_models_are_refused(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "wan")
    prior = WanVace.load(str(tmp_path / "wan"), pytest.fail)
    mine = WanVace(pipeline).generate(question(), steps=1)
    assert torch.allclose(prior.generate(question(), steps=1).rgb, mine.rgb, atol=1e-5)
    index = tmp_path / "wan" / "model_index.json"
    index.write_text(index.read_text().replace("WanVACEPipeline", "WanPipeline"))
    with pytest.raises(UserError, match="holds a WanPipeline, needed a WanVACEPipeline"):
        WanVace.load(str(tmp_path / "wan"), pytest.fail)

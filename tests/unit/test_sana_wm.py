"""SANA-WM along a camera path, on a tiny pipeline of the same classes with random weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.queries import question
from support.tiny_pipelines import tiny_sana_wm

from sparse3d.errors import UserError
from sparse3d.priors.base import Stopped
from sparse3d.priors.guidance import Schedule
from sparse3d.priors.pipelines import as_pil
from sparse3d.priors.sana_wm import SanaWm

diffusers = pytest.importorskip("diffusers")
if not hasattr(diffusers, "SanaWMPipeline"):
    pytest.skip("diffusers 0.42 or newer", allow_module_level=True)

ALWAYS, NEVER = Schedule(1e-6, 1e-6), Schedule(1e9, 1e9)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_sana_wm()


def asked(frames: int = 9):
    return question(frames, 64)


def test_the_pipeline_gets_the_path_in_metres_and_the_photo_it_begins_with(pipeline, monkeypatch):
    given = {}
    call = type(pipeline).__call__

    def spy(self, image, prompt, **options):
        given.update(options, image=image, prompt=prompt)
        return call(self, image, prompt, **options)

    monkeypatch.setattr(type(pipeline), "__call__", spy)
    query = replace(asked(), render_depth=torch.full((9, 1, 64, 64), 6.0))
    SanaWm(pipeline, steps=1).generate(query)
    assert given["num_frames"] == 9 and given["c2w"][2, 0, 3] == pytest.approx(2 * 3 / 6)
    assert torch.equal(torch.from_numpy(given["intrinsics"]), query.target_cams.K)
    assert (given["height"], given["width"]) == (64, 64) and given["image"].size == (64, 64)


def test_paths_that_begin_elsewhere_are_led_from_the_nearest_photo(pipeline):
    prior, query = SanaWm(pipeline, steps=1), asked()
    cut = query.targets(torch.tensor([2, 3, 4]))
    c2w, K, lead = prior.path(cut)
    assert lead == 1 and c2w.shape == (9, 4, 4) and K.shape == (9, 3, 3)
    assert c2w[:, 0, 3].tolist() == [1, 2, 3, 4, 4, 4, 4, 4, 4]  # the second photo stands at 1
    assert prior.generate(cut).rgb.shape == (3, 3, 64, 64)
    assert prior.path(query)[2] == 0 and torch.equal(prior.path(query)[0], query.target_cams.c2w)


def latents_of(pipeline, query, schedule, monkeypatch):
    """What is decoded in the end, (1, f, c, h, w)."""
    kept, decode = [], type(pipeline)._decode_latents

    def spy(self, values):
        kept.append(values.transpose(1, 2))
        return decode(self, values)

    monkeypatch.setattr(type(pipeline), "_decode_latents", spy)
    SanaWm(pipeline, schedule=schedule, steps=4).generate(query)
    monkeypatch.undo()
    return kept[0]


def test_always_guided_gives_the_encoded_renders(pipeline, monkeypatch):
    query = asked()
    query = replace(query, render_conf=torch.ones_like(query.render_conf))
    latents = latents_of(pipeline, query, ALWAYS, monkeypatch)
    wanted = SanaWm(pipeline).encoded(query.render_rgb)
    assert (latents - wanted).abs().max() < 1e-3 * wanted.abs().max()


def test_never_guided_is_the_stock_pipeline(pipeline, monkeypatch):
    query = asked()
    query = replace(query, render_rgb=(query.render_rgb * 255).round() / 255)  # as the pipeline gets the first
    first = (torch.arange(9) == 0).float()[:, None, None, None]
    latents = latents_of(pipeline, replace(query, render_conf=first.expand(9, 1, 64, 64)), NEVER, monkeypatch)
    stock = pipeline(
        as_pil(query.render_rgb[0]),
        "a static scene, the camera moves slowly, no people",
        c2w=query.target_cams.c2w.numpy(),
        intrinsics=query.target_cams.K.numpy(),
        height=64,
        width=64,
        num_frames=9,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(query.seed),
        output_type="latent",
    ).frames.transpose(1, 2)
    assert (latents - stock).abs().max() < 1e-4 * stock.abs().max()


def test_it_stops_when_told_and_is_loaded_from_a_folder(pipeline, tmp_path):
    with pytest.raises(Stopped):
        SanaWm(pipeline, steps=2).generate(asked(), on_step=lambda done, total: False)
    pipeline.save_pretrained(tmp_path / "sana")
    mine = SanaWm(pipeline, steps=1).generate(asked())
    assert torch.allclose(
        SanaWm.load(str(tmp_path / "sana"), pytest.fail).generate(asked(), steps=1).rgb, mine.rgb, atol=1e-4
    )
    index = tmp_path / "sana" / "model_index.json"
    index.write_text(index.read_text().replace("SanaWMPipeline", "SanaVideoPipeline"))
    with pytest.raises(UserError, match="holds a SanaVideoPipeline, needed a SanaWMPipeline"):
        SanaWm.load(str(tmp_path / "sana"), pytest.fail)

"""Stable Video Diffusion guided by renders, on a tiny pipeline of the same classes with random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from support.tiny_pipelines import tiny_svd

from sparse3d.errors import UserError
from sparse3d.priors.base import Stopped, ViewQuery
from sparse3d.priors.guidance import Schedule, first_picture
from sparse3d.priors.pipelines import load_pipeline
from sparse3d.priors.svd import Svd
from sparse3d.types import Cameras

pytest.importorskip("diffusers")
STEPS = 6


@pytest.fixture(scope="module")
def pipeline():
    return tiny_svd()


def question(trust: float | None = None) -> ViewQuery:
    """Four frames of 32 x 32, their renders trusted by so much; the first is a photo."""
    generator = torch.Generator().manual_seed(1)
    c2w = torch.eye(4).repeat(4, 1, 1)
    c2w[:, 0, 3] = torch.arange(4)
    K = torch.tensor([[30.0, 0, 16], [0, 30, 16], [0, 0, 1]]).expand(4, 3, 3)
    conf = None
    if trust is not None:
        conf = torch.full((4, 1, 32, 32), trust)
        conf[0] = 1.0
    return ViewQuery(
        cond_rgb=torch.rand(1, 3, 32, 32, generator=generator),
        cond_cams=Cameras(c2w[:1], K[:1], 32, 32),
        target_cams=Cameras(c2w, K, 32, 32),
        render_rgb=None if trust is None else torch.rand(4, 3, 32, 32, generator=generator),
        render_conf=conf,
        seed=3,
    )


def own(pipeline, query: ViewQuery, schedule: Schedule, repeats: int = 1) -> torch.Tensor:
    prior = Svd(pipeline, schedule=schedule, repeats=repeats)
    guidance = None if query.render_rgb is None else prior.guidance(query)
    generator = torch.Generator().manual_seed(query.seed)
    with torch.no_grad():
        return prior.sampled(query, first_picture(query), guidance, generator, STEPS)[0]


def by_callback(pipeline, query: ViewQuery, schedule: Schedule) -> torch.Tensor:
    prior = Svd(pipeline, sampler="callback", schedule=schedule)
    guidance = None if query.render_rgb is None else prior.guidance(query)
    generator = torch.Generator().manual_seed(query.seed)
    with torch.no_grad():
        return prior._by_pipeline(query, first_picture(query), guidance, generator, STEPS, None)


ALWAYS, NEVER = Schedule(1e-9, 1e-9), Schedule(1e9, 1e9)


def test_without_guidance_our_loop_is_the_pipelines(pipeline):
    ours, stock = own(pipeline, question(), NEVER), by_callback(pipeline, question(), NEVER)
    assert stock.abs().max() > 0.5
    assert (ours - stock).abs().max() < 1e-4 * float(stock.abs().max())


def test_full_trust_to_the_end_gives_back_the_encoded_renders(pipeline):
    query = question(1.0)
    assert torch.allclose(own(pipeline, query, ALWAYS), Svd(pipeline).guidance(query).latents, atol=1e-6)


@pytest.mark.parametrize("trust", [1.0, 0.5])
def test_guidance_by_callback_is_that_of_our_loop(pipeline, trust):
    query, schedule = question(trust), Schedule(6.0, 3.0)
    ours, called = own(pipeline, query, schedule), by_callback(pipeline, query, schedule)
    assert (ours - called).abs().max() < 1e-4 * float(called.abs().max())


def test_the_longer_renders_count_the_nearer_the_result_is_to_them(pipeline):
    query = question(1.0)
    query.render_conf[1:, :, :, 16:] = 0  # the right half is unknown
    with torch.no_grad():
        z = Svd(pipeline).guidance(query)
    apart = []
    for low in (1e8, 20.0, 1.0, 1e-9):
        found = own(pipeline, query, Schedule(max(low, 1e-9), low))
        apart.append(float(((found - z.latents).abs() * z.mask)[:, 1:].sum() / z.mask[:, 1:].sum() / 4))
    assert apart[0] > apart[1] > apart[2] > apart[3] and apart[3] < 1e-6


def test_repeats_are_done_at_middle_noise_only_and_counted(pipeline):
    query, told = question(1.0), []

    def on_step(done, total):
        told.append((done, total))
        return True

    once = Svd(pipeline, steps=STEPS).generate(query)
    prior = Svd(pipeline, repeats=3, steps=STEPS)
    answer = prior.generate(query, on_step=on_step)
    pipeline.scheduler.set_timesteps(STEPS)
    middle = sum(1 <= float(sigma) <= 20 for sigma in pipeline.scheduler.sigmas[:STEPS])
    assert middle > 0 and once.meta.calls == STEPS and answer.meta.calls == STEPS + 2 * middle
    assert told == [(k + 1, answer.meta.calls) for k in range(answer.meta.calls)]
    with pytest.raises(ValueError, match="repeats no steps"):
        Svd(pipeline, sampler="callback", repeats=2)


@pytest.mark.parametrize("sampler", ["own", "callback"])
def test_answers_have_the_seed_the_size_and_the_renders_trust(pipeline, sampler):
    prior, query = Svd(pipeline, sampler=sampler, steps=2), question(0.7)
    answer, again = prior.generate(query), prior.generate(query)
    assert torch.equal(answer.rgb, again.rgb) and not torch.equal(
        answer.rgb, prior.generate(replace(query, seed=4)).rgb
    )
    assert answer.rgb.shape == (4, 3, 32, 32) and 0 <= answer.rgb.min() and answer.rgb.max() <= 1
    assert answer.conf[1:].max() == answer.conf[1:].min() == pytest.approx(0.7) and answer.conf[0].min() == 1
    assert answer.meta.licence == prior.caps.licence and prior.caps.frames == (4, 4, 1)
    with pytest.raises(Stopped):
        prior.generate(query, on_step=lambda done, total: False)


def test_less_strength_starts_from_the_renders(pipeline):
    prior, query = Svd(pipeline, schedule=NEVER, steps=STEPS), question(0.5)
    answer = prior.generate(query, strength=0.34)
    assert answer.meta.calls == 2


def test_weights_come_from_a_folder_and_another_models_are_refused(pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pipeline.save_pretrained(tmp_path / "svd")
    prior, query = Svd.load(str(tmp_path / "svd"), pytest.fail), question(0.7)
    found, wanted = prior.generate(query, steps=2).rgb, Svd(pipeline).generate(query, steps=2).rgb
    assert torch.allclose(found, wanted, atol=1e-5)  # sums of other memory may be rounded otherwise
    index = tmp_path / "svd" / "model_index.json"
    index.write_text(index.read_text().replace("StableVideoDiffusionPipeline", "WanVACEPipeline"))
    with pytest.raises(UserError, match="holds a WanVACEPipeline, needed a StableVideoDiffusionPipeline"):
        Svd.load(str(tmp_path / "svd"), pytest.fail)
    with pytest.raises(UserError, match="holds no pipeline of diffusers"):
        Svd.load(str(tmp_path), pytest.fail)


def test_without_network_both_ways_to_get_a_hub_ids_weights_are_named(monkeypatch):
    monkeypatch.setenv("SPARSE3D_OFFLINE", "1")
    with pytest.raises(UserError, match="hf download someone/video.*--weights.*--prior classical works"):
        Svd.load("someone/video", pytest.fail)


def test_a_pipeline_too_large_for_the_gpu_waits_in_main_memory(tmp_path, monkeypatch):
    class Large:
        """Stands for a pipeline; a GPU has no room for it as a whole."""

        moves: ClassVar[list[str]] = []

        @classmethod
        def from_pretrained(cls, weights, **options):
            assert options["local_files_only"] and options["torch_dtype"] == torch.float16
            return cls()

        def set_progress_bar_config(self, **options):
            pass

        def to(self, device):
            self.moves.append(str(device))
            if str(device) == "cuda":
                raise torch.cuda.OutOfMemoryError("no room")
            return self

        def enable_model_cpu_offload(self):
            self.moves.append("offload")

    monkeypatch.setattr("diffusers.StableVideoDiffusionPipeline", Large)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableVideoDiffusionPipeline"}')
    told: list[str] = []
    load_pipeline("StableVideoDiffusionPipeline", str(tmp_path), told.append, device=torch.device("cuda"))
    assert Large.moves == ["cuda", "cpu", "offload"]
    assert len(told) == 1 and "does not fit on the GPU as a whole" in told[0]


def test_a_diffusers_without_the_pipeline_is_to_be_updated():
    with pytest.raises(UserError, match="has no TomorrowsPipeline. Update it with"):
        load_pipeline("TomorrowsPipeline", "anything", pytest.fail)

"""Scores of published pipelines, of random weights: the same numbers as the pipelines' own samplers, and low-rank additions that switch exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.queries import question
from support.tiny_pipelines import tiny_inpaint, tiny_svd, tiny_wan_vace

from sparse3d.errors import UserError
from sparse3d.optimize.distill import Denoiser, lora_loss, pull, sample_loss, sampled, sdi, sds, vsd
from sparse3d.priors.base import ScorePrior
from sparse3d.priors.inpaint import Inpaint
from sparse3d.priors.svd import Svd
from sparse3d.priors.wan_vace import WanVace

pytest.importorskip("diffusers")

FRAMES = {"inpaint": 3, "svd": 4, "wan-vace": 5}


def made(name: str):
    """A prior, its score for all targets of a question, and these."""
    prior = {
        "inpaint": lambda: Inpaint(tiny_inpaint()),
        "svd": lambda: Svd(tiny_svd()),
        "wan-vace": lambda: WanVace(tiny_wan_vace()),
    }[name]()
    query = question(FRAMES[name], 64 if name == "svd" else 32)
    assert isinstance(prior, ScorePrior) and prior.caps.score
    return prior, query, Denoiser(prior.bind(query), torch.arange(len(query)))


@pytest.fixture(params=list(FRAMES), scope="module")
def scored(request):
    return made(request.param)


def noise(like: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def test_pictures_go_through_the_latents_and_gradients_come_back(scored):
    _, query, denoiser = scored
    score = denoiser.score
    rgb = query.render_rgb.clone().requires_grad_()
    z = score.encode(rgb, grad=True)
    assert not score.encode(rgb, grad=False).requires_grad and z.dtype == torch.float32
    assert score.decode(z.detach()).shape == rgb.shape and score.decode(z.detach()).amin() >= 0
    g = sds(denoiser, z.detach(), 0.6, noise(z))
    assert not g.requires_grad and g.isfinite().all()
    pull(z, g).backward()
    assert rgb.grad.isfinite().all() and (rgb.grad != 0).any(1).any(-1).any(-1).all()  # of every picture
    assert all(value.grad is None for value in networks(scored[0]))


def networks(prior):
    pipeline = prior.pipeline
    network = getattr(pipeline, "unet", None) or pipeline.transformer
    return [*network.parameters(), *pipeline.vae.parameters()]


def test_a_sample_is_made_in_so_many_calls_and_differs_by_the_conditions(scored):
    _, query, denoiser = scored
    z = denoiser.score.encode(query.render_rgb, grad=False)
    before = denoiser.calls
    made = sampled(denoiser, denoiser.noisy(z, 0.8, noise(z)), 0.8, 3)
    assert made.shape == z.shape and denoiser.calls == before + 3
    assert sdi(denoiser, z, 0.5, torch.Generator().manual_seed(0), steps=2).isfinite().all()
    free, told = (denoiser.x0(z, 0.5, guidance) for guidance in (1.0, 4.0))
    assert not torch.equal(free, told)
    assert float(sample_loss(query.render_rgb, denoiser.score.decode(made))) > 0


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_inpainting_s_x0_is_the_schedulers(prediction):
    prior, _, denoiser = made("inpaint")
    pipeline, score = prior.pipeline, denoiser.score
    pipeline.scheduler.register_to_config(prediction_type=prediction, clip_sample=False)
    z_t = noise(torch.zeros(3, 4, 16, 16))
    timestep = round(0.7 * 999)
    fed = torch.cat([z_t, score._masked], dim=1)
    with torch.no_grad():
        free, told = (
            pipeline.unet(fed, timestep, encoder_hidden_states=context[None].expand(3, -1, -1)).sample
            for context in score._context
        )
    pipeline.scheduler.set_timesteps(1000)
    want = pipeline.scheduler.step(free + 7.5 * (told - free), timestep, z_t).pred_original_sample
    torch.testing.assert_close(denoiser.x0(z_t, 0.7).detach(), want, rtol=1e-4, atol=1e-4)


def test_inpainting_is_told_what_the_pipeline_is_told(monkeypatch):
    """Mask and masked latents, against what reaches the UNet in the pipeline's own call."""
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    prior, query, denoiser = made("inpaint")
    seen = []
    forward = prior.pipeline.unet.forward
    keeps = lambda x, *rest, **named: seen.append(x) or forward(x, *rest, **named)
    monkeypatch.setattr(prior.pipeline.unet, "forward", keeps)
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    prior.generate(query, steps=1)
    latents = denoiser.score._masked[1:]  # the first target is a photo, which the pipeline is not asked for
    for frame, fed in zip(latents, seen, strict=True):
        assert torch.equal(fed[0, 4:5], frame[:1])
        torch.testing.assert_close(fed[0, 5:], frame[1:], rtol=0, atol=0.01)  # its pictures have 8 bits


def test_svds_x0_is_one_step_of_its_sampler():
    prior, query, denoiser = made("svd")
    generator = torch.Generator().manual_seed(query.seed)
    from sparse3d.priors.guidance import first_picture

    want, calls = prior.sampled(query, first_picture(query), None, generator, 1)
    generator.manual_seed(query.seed)
    torch.randn(1, 3, 64, 64, generator=generator)  # what the condition draws first
    start = torch.randn(1, 4, 4, 32, 32, generator=generator)[0] * prior.pipeline.scheduler.init_noise_sigma
    assert calls == 1 and denoiser.levels(1.0) == pytest.approx((1.0, 700.0))
    torch.testing.assert_close(denoiser.x0(start, 1.0), want[0], rtol=1e-4, atol=1e-3)
    assert denoiser.score.lora() is None


def test_wans_x0_is_one_step_of_its_pipeline():
    prior, query, denoiser = made("wan-vace")
    pipeline = prior.pipeline
    from sparse3d.priors.pipelines import as_pil

    start = noise(torch.zeros(1, 16, 2, 4, 4))
    video, holes = prior.masked(query)
    want = pipeline(
        video=[as_pil(frame) for frame in video],
        mask=[as_pil(hole.expand(3, -1, -1)) for hole in holes],
        height=32,
        width=32,
        num_frames=5,
        num_inference_steps=1,
        guidance_scale=prior.scale,
        latents=start,
        output_type="latent",
        prompt="a static scene, the camera moves slowly, no people",
        negative_prompt="moving objects, people, flicker, blur, text, watermark",
    ).frames
    got = denoiser.x0(start[0].permute(1, 0, 2, 3), 1.0).detach()
    # pictures of the pipeline have 8 bits
    torch.testing.assert_close(got.permute(1, 0, 2, 3)[None], want, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", ["inpaint", "wan-vace"])
def test_a_low_rank_addition_switches_exactly_and_learns(name):
    prior, query, denoiser = made(name)
    z = denoiser.score.encode(query.render_rgb, grad=False)
    z_t = denoiser.noisy(z, 0.5, noise(z))
    base = denoiser.x0(z_t, 0.5).detach()
    before = [value.clone() for value in networks(prior)]
    lora = denoiser.score.lora()
    assert lora is prior.lora() is denoiser.score.lora()  # one for all questions
    assert torch.equal(denoiser.x0(z_t, 0.5).detach(), base)
    optimizer = torch.optim.AdamW(lora.parameters(), 1e-2)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = lora_loss(denoiser, lora, z, 0.5, noise(z, 7))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] and not lora.active
    assert torch.equal(denoiser.x0(z_t, 0.5).detach(), base)
    frozen = [value for value in networks(prior) if not value.requires_grad]
    assert len(frozen) == len(before) and all(torch.equal(a, b) for a, b in zip(frozen, before, strict=True))
    assert vsd(denoiser, lora, z, 0.5, noise(z)).abs().max() > 0
    assert lora.camera.weight.abs().max() > 0


def test_a_network_without_attention_takes_no_addition():
    from diffusers import UNet2DConditionModel

    pipeline = tiny_inpaint()
    pipeline.unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=9,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        mid_block_type=None,
        cross_attention_dim=32,
        norm_num_groups=4,
    )
    prior = Inpaint(pipeline)
    assert prior.caps.score and prior.bind(question(2)).lora() is None


def test_networks_whose_score_is_not_known_are_named():
    pipeline = tiny_inpaint()
    pipeline.unet.register_to_config(addition_embed_type="text_time")  # as SDXL's
    prior = Inpaint(pipeline, "some/sdxl")
    assert not prior.caps.score
    with pytest.raises(UserError, match="some/sdxl is a StableDiffusionInpaintPipeline, whose score is not known"):
        prior.bind(question(2))


def test_without_renders_all_is_to_be_drawn():
    prior, query, _ = made("inpaint")
    score = prior.bind(replace(query, render_rgb=None, render_conf=None))
    assert (score._masked[:, :1] == 1).all()

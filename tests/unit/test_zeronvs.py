"""ZeroNVS with small random networks of its layout: from its file to pictures, and the score that distillation takes."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import pytest
import torch
from support.queries import question
from support.tiny_zeronvs import HEADS, SIDE, OpenClip, tiny_state

from sparse3d.config import DensifyConfig
from sparse3d.errors import UserError
from sparse3d.priors.base import BoundScore, ScorePrior, Stopped
from sparse3d.priors.names import load_prior
from sparse3d.priors.zeronvs_pose import depth_scale, pose_vector
from sparse3d.types import Cameras

pytest.importorskip("diffusers")
from sparse3d.priors.zeronvs import ZeroNvs
from sparse3d.priors.zeronvs_weights import averaged, clip_of, load_networks


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("zeronvs") / "zeronvs.ckpt"
    torch.save({"state_dict": tiny_state(), "global_step": 7}, path)
    return path


@pytest.fixture(scope="module")
def prior(checkpoint) -> ZeroNvs:
    return ZeroNvs(load_networks(checkpoint, HEADS), str(checkpoint), side=64)


def wide(frames: int = 3):
    """A query of pictures twice as wide as high, whose first target is no photo."""
    query = question(frames, 64)
    cut = lambda values: None if values is None else values[:, :, 16:48]
    K = query.target_cams.K - torch.tensor([[0, 0, 0], [0, 0, 16.0], [0, 0, 0]])
    return replace(
        query,
        cond_rgb=cut(query.cond_rgb),
        render_rgb=cut(query.render_rgb),
        render_conf=cut(query.render_conf),
        cond_cams=Cameras(query.cond_cams.c2w, K[:1].expand(len(query.cond_cams), 3, 3), 32, 64),
        target_cams=Cameras(query.target_cams.c2w, K, 32, 64),
    )


def test_the_picture_encoder_is_that_of_its_authors():
    clip, own = clip_of(tiny_state()), OpenClip().eval()
    pixels = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        assert torch.allclose(clip(pixel_values=pixels).image_embeds, own(pixels), atol=1e-5)


def test_running_means_take_the_place_of_weights():
    state = tiny_state()
    name = "model.diffusion_model.out.2.bias"
    state["model_ema.diffusion_modelout2bias"] = torch.full((4,), 5.0)
    found = averaged(state)
    assert torch.equal(found[name], torch.full((4,), 5.0))
    assert torch.equal(found["model.diffusion_model.out.0.bias"], state["model.diffusion_model.out.0.bias"])


def test_it_draws_a_square_in_the_middle_and_trusts_nothing_else(prior):
    drawn = prior.generate(wide(), steps=2)
    assert drawn.rgb.shape == (3, 3, 32, 64) and bool(drawn.rgb.isfinite().all())
    assert bool((drawn.conf[..., 16:48] > 0).all())
    assert not drawn.conf[..., :16].any() and not drawn.conf[..., 48:].any() and not drawn.rgb[..., :16].any()
    assert drawn.meta.calls == 6 and drawn.meta.prior == "zeronvs"
    again = prior.generate(wide(), steps=2)
    assert torch.equal(drawn.rgb, again.rgb)


def test_it_stops_when_told(prior):
    with pytest.raises(Stopped):
        prior.generate(wide(), steps=3, on_step=lambda done, total: done < 2)


def test_renders_can_begin_it_and_have_to_be_there(prior):
    some = prior.generate(wide(2), steps=4, strength=0.5)
    assert some.rgb.isfinite().all()
    with pytest.raises(ValueError, match="starts from renders"):
        prior.generate(replace(wide(2), render_rgb=None, render_conf=None), strength=0.5)


def test_the_score_is_a_mean_of_clean_latents(prior):
    """x0 = (z - sigma noise) / alpha: with the noise that the network says, z comes back."""
    scene = prior.bind(wide())
    assert isinstance(prior, ScorePrior)
    z, t, index = torch.randn(2, 4, 8, 8), torch.tensor([0.3, 0.7]), torch.tensor([0, 2])
    alpha, sigma = scene.alpha_sigma(t)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(alpha), atol=1e-6) and bool((alpha[0] > alpha[1]).all())
    told = []
    handle = prior.unet.register_forward_hook(lambda _, __, out: told.append(out.sample))
    with torch.no_grad():
        clean = scene.predict_x0(z, t, index, guidance=1.0)
    handle.remove()
    assert len(told) == 1
    assert torch.allclose(alpha * clean + sigma * told[0], z, atol=1e-5)


def test_guidance_goes_from_the_free_to_the_told_prediction(prior):
    scene = prior.bind(wide())
    z, t, index = torch.randn(1, 4, 8, 8), torch.tensor([0.5]), torch.tensor([1])
    with torch.no_grad():
        free, told, far = (scene.predict_x0(z, t, index, guidance=weight) for weight in (0.0, 1.0, 3.0))
    assert torch.allclose(far - free, 3 * (told - free), atol=1e-3 * float((told - free).abs().max()))


def test_the_noise_levels_are_stable_diffusions(prior):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    alpha, _ = prior.bind(wide()).alpha_sigma(torch.linspace(0, 1, 1000)[1:])
    assert torch.allclose(alpha[:, 0, 0, 0] ** 2, scheduler.alphas_cumprod[1:], rtol=1e-5)


def test_gradients_reach_pictures_through_the_encoder(prior):
    scene: BoundScore = prior.bind(wide())
    rgb = torch.rand(1, 3, 32, 64, requires_grad=True)
    scene.encode(rgb, grad=True).square().sum().backward()
    assert rgb.grad is not None and rgb.grad[..., 16:48].abs().sum() > 0
    assert not rgb.grad[..., :14].any()
    assert not scene.encode(rgb, grad=False).requires_grad


def test_the_world_may_have_any_scale():
    c2w = torch.eye(4).repeat(2, 1, 1)
    c2w[1, :3, 3] = torch.tensor([0.1, 0.2, 0.3])
    depth = torch.rand(20, 20) + 1
    first = pose_vector(c2w[0], c2w, depth_scale(depth), 1.0)
    bigger = c2w.clone()
    bigger[:, :3, 3] *= 50
    assert torch.allclose(first, pose_vector(bigger[0], bigger, depth_scale(50 * depth), 1.0), atol=1e-5)
    assert depth_scale(torch.arange(101.0) + 1) == pytest.approx(21.0)
    assert depth_scale(torch.zeros(5)) == 1.0
    assert first[0, -3:].tolist() == pytest.approx([1.0, math.sin(1), math.cos(1)])
    with pytest.raises(ValueError, match="unknown mode"):
        pose_vector(c2w[0], c2w, 1.0, 1.0, "9dof")  # type: ignore[arg-type]


class Harmful:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: {n: v for n, v in state.items() if not n.startswith("cc_")}, "no pose projection"),
        (
            lambda state: {n: v for n, v in state.items() if n != "model.diffusion_model.out.2.bias"},
            "missing: conv_out.bias",
        ),
        (lambda state: state | {"model.diffusion_model.out.2.bias": torch.zeros(5)}, "other shape: conv_out.bias"),
        (lambda state: {n: v for n, v in state.items() if not n.endswith("visual.proj")}, "'proj' is missing"),
        (lambda state: {"a": torch.zeros(1)}, "no UNet"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, change, said):
    torch.save({"state_dict": change(tiny_state())}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=said):
        load_networks(tmp_path / "other.ckpt", HEADS)


def test_a_file_that_carries_code_is_not_run(tmp_path, capsys):
    with open(tmp_path / "bad.ckpt", "wb") as file:
        pickle.dump({"state_dict": Harmful()}, file)
    with pytest.raises(UserError):
        load_networks(tmp_path / "bad.ckpt", HEADS)
    assert capsys.readouterr().out == ""


def test_without_a_file_it_says_which_one():
    with pytest.raises(UserError, match=r"zeronvs.ckpt .* --weights FILE"):
        load_prior(DensifyConfig(prior="zeronvs"), print)

"""Views drawn by Stable Virtual Camera with small random networks, from folders as published ones are given; its cameras and noise levels."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.geometry import rotation_from_quat
from sparse3d.models import store
from sparse3d.priors.base import ScorePrior, Stopped, ViewQuery, ViewSamples
from sparse3d.priors.networks.seva import SevaUNet, UNetSettings
from sparse3d.priors.seva import Seva
from sparse3d.priors.seva_cameras import distance_to_inputs, normalized_poses, plucker_maps
from sparse3d.priors.seva_schedule import all_sigmas, denoise, nearest_index, sampling_sigmas
from sparse3d.types import Cameras

TINY = UNetSettings(channels=32, head=16, context=32)
SIZE = (64, 128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small networks: modelv1.1.safetensors, vae/ and clip/."""
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    root = tmp_path_factory.mktemp("seva")
    torch.manual_seed(0)
    save_file(SevaUNet(TINY).state_dict(), root / "modelv1.1.safetensors")
    diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
    ).save_pretrained(root / "vae")
    settings = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, projection_dim=32, num_hidden_layers=1, num_attention_heads=2,
        image_size=28, patch_size=14,
    )  # fmt: skip
    transformers.CLIPVisionModelWithProjection(settings).save_pretrained(root / "clip")
    return root


def load(folder: Path, **given) -> Seva:
    return Seva.load(folder, **{"clip": folder / "clip", "accept": True, "settings": TINY, "frames": 4, **given})


@pytest.fixture(scope="module")
def prior(folder: Path) -> Seva:
    return load(folder)


def cameras(count: int, seed: int) -> Cameras:
    generator = torch.Generator().manual_seed(seed)
    c2w = torch.eye(4).repeat(count, 1, 1)
    turn = torch.randn(count, 4, generator=generator) * 0.1
    c2w[:, :3, :3] = rotation_from_quat(turn + torch.tensor([1.0, 0, 0, 0]))
    c2w[:, :3, 3] = torch.randn(count, 3, generator=generator)
    K = torch.tensor([[100.0, 0, 61], [0, 110, 35], [0, 0, 1]]).repeat(count, 1, 1)
    return Cameras(c2w, K, *SIZE)


def question(targets: int = 2, known: tuple[int, ...] = (), seed: int = 0) -> ViewQuery:
    generator = torch.Generator().manual_seed(9)
    conf = torch.full((targets, 1, *SIZE), 0.5)
    conf[list(known)] = 1
    return ViewQuery(
        torch.rand(2, 3, *SIZE, generator=generator), cameras(2, 1), cameras(targets, 2),
        render_rgb=torch.rand(targets, 3, *SIZE, generator=generator), render_conf=conf, seed=seed,
    )  # fmt: skip


# Drawing -------------------------------------------------------------------------------------------------------------


def test_views_come_back_and_the_known_as_they_are(prior):
    seen: list[tuple[int, int]] = []
    asked = question(3, known=(1,))
    drawn = prior.generate(asked, steps=2, on_step=lambda done, total: seen.append((done, total)) or True)
    assert isinstance(prior, ScorePrior) and isinstance(drawn, ViewSamples)
    assert drawn.rgb.shape == (3, 3, *SIZE) and drawn.rgb.dtype == torch.float32
    assert 0 <= drawn.rgb.min() and drawn.rgb.max() <= 1 and drawn.rgb[0].std() > 0
    assert torch.equal(drawn.rgb[1], asked.render_rgb[1]) and not torch.equal(drawn.rgb[0], asked.render_rgb[0])
    assert drawn.conf.flatten(1).unique(dim=1)[:, 0].tolist() == [0.5, 1.0, 0.5]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)] and drawn.meta.calls == 4
    assert drawn.meta.licence == "Stability AI Non-Commercial" and not prior.caps.commercial
    assert (prior.caps.multiple, prior.caps.frames, prior.caps.verified) == (64, (1, 3, 1), False)


def test_all_known_calls_nothing(prior):
    asked = question(2, known=(0, 1))
    drawn = prior.generate(asked, on_step=lambda done, total: False)
    assert torch.equal(drawn.rgb, asked.render_rgb) and drawn.meta.calls == 0 and bool((drawn.conf == 1).all())


def test_the_seed_decides(prior):
    first, again, other = (prior.generate(question(1, seed=seed), steps=1).rgb for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_inputs_matter_and_the_world_may_be_anywhere(prior):
    """Another photo, another view; a moved world of another scale, the same one. Exact moves: a power of two, quarter turns."""
    asked = question(1)
    drawn = prior.generate(asked, steps=1).rgb
    assert not torch.allclose(prior.generate(replace(asked, cond_rgb=1 - asked.cond_rgb), steps=1).rgb, drawn)
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])

    def moved(views: Cameras) -> Cameras:
        c2w = views.c2w.clone()
        c2w[:, :3, :3], c2w[:, :3, 3] = turn @ c2w[:, :3, :3], 4 * c2w[:, :3, 3] @ turn.T
        return Cameras(c2w, views.K, views.height, views.width)

    elsewhere = replace(asked, cond_cams=moved(asked.cond_cams), target_cams=moved(asked.target_cams))
    torch.testing.assert_close(prior.generate(elsewhere, steps=1).rgb, drawn, rtol=0, atol=1e-3)


def test_little_strength_stays_near_the_renders(prior):
    """The last of 50 steps starts at sigma 0.36: what comes back is nearer to the encoded render than from noise."""
    asked = question(1)
    want = prior.bind(asked).encode(asked.render_rgb, grad=False)
    seen: list[int] = []
    near = prior.generate(asked, strength=0.02, steps=50, on_step=lambda done, total: seen.append(total) or True)
    decoded = prior.bind(asked).decode(want).clamp(0, 1)
    far = prior.generate(asked, steps=1).rgb
    assert seen == [2, 2]
    assert (near.rgb - decoded).abs().mean() < (far - decoded).abs().mean()


def test_it_stops(prior):
    with pytest.raises(Stopped, match="after 1 of 100 calls"):
        prior.generate(question(), on_step=lambda done, total: False)


def test_mistakes_in_questions(prior):
    asked = question(1)
    for given, said in (({"strength": 0.0}, "strength is 0"), ({"steps": 0}, "steps is 0")):
        with pytest.raises(ValueError, match=said):
            prior.generate(asked, **given)
    with pytest.raises(ValueError, match="has none"):
        prior.generate(replace(asked, render_rgb=None, render_conf=None), strength=0.5)
    with pytest.raises(ValueError, match="4 targets, needed 1 to 3"):
        prior.generate(question(4))
    small = asked.cond_cams.scaled_to(40, 64)
    with pytest.raises(ValueError, match="needed multiples of 64"):
        prior.bind(ViewQuery(torch.rand(2, 3, 40, 64), small, small))


# The score -----------------------------------------------------------------------------------------------------------


def test_score(prior):
    bound = prior.bind(question(2))
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    alpha, sigma = bound.alpha_sigma(t)
    ends = all_sigmas()[[0, -1]]
    torch.testing.assert_close(sigma, torch.stack([ends[0], ends.prod().sqrt(), ends[1]]))
    assert alpha.tolist() == [1, 1, 1] and bound.lora() is None
    z = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(0))
    x0 = bound.predict_x0(z, torch.tensor(0.5), torch.tensor([1]))
    assert x0.shape == z.shape and torch.equal(x0, bound.predict_x0(z, torch.tensor([0.5]), torch.tensor([1])))
    assert not torch.equal(x0, bound.predict_x0(z, torch.tensor(0.5), torch.tensor([0])))
    both = bound.predict_x0(z.repeat(2, 1, 1, 1), torch.tensor(0.5), torch.tensor([1, 0]), guidance=1.0)
    assert both.shape == (2, 4, 8, 16)
    picture = torch.rand(1, 3, *SIZE, requires_grad=True)
    bound.decode(bound.encode(picture, grad=True)).sum().backward()
    assert picture.grad is not None and picture.grad.abs().sum() > 0


def test_guidance_grows_with_the_distance_to_inputs(prior):
    asked = question(3)
    at_photo = asked.target_cams.c2w.clone()
    at_photo[0] = asked.cond_cams.c2w[0]
    asked = replace(asked, target_cams=Cameras(at_photo, asked.target_cams.K, *SIZE))
    frames = prior.bind(asked).frames(torch.arange(3))
    values = frames.guidance[frames.drawn]
    assert float(values[0]) == pytest.approx(1.2) and float(values.max()) == pytest.approx(2.0)
    assert frames.inputs.tolist() == [True, True, False, False, False]
    padded = prior.bind(asked).frames(torch.tensor([2]))  # 2 photos and 1 target in 4 frames: the target repeats
    assert len(padded.rays) == 4 and torch.equal(padded.rays[2], padded.rays[3]) and padded.shown.tolist() == [0, 0]


# Files ---------------------------------------------------------------------------------------------------------------


def test_the_licence_is_to_be_accepted(folder):
    with pytest.raises(UserError, match="Non-Commercial.*accept=True"):
        load(folder, accept=False)


def test_other_files_are_named(folder, tmp_path, monkeypatch):
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(UserError, match=r"holds no modelv1\.1\.safetensors"):
        load(bare)
    shutil.copy(folder / "modelv1.1.safetensors", bare)
    with pytest.raises(UserError, match="needs the VAE of Stable Diffusion 2.1, and there is no folder"):
        load(bare, clip=folder / "clip")
    with pytest.raises(UserError, match="there is no folder .*nowhere with a VAE"):
        load(bare, vae=tmp_path / "nowhere")
    with pytest.raises(UserError, match="there is no folder .*nowhere with a picture encoder"):
        load(folder, clip=tmp_path / "nowhere")
    save_file({"a": torch.zeros(2)}, bare / "other.safetensors")
    with pytest.raises(UserError, match=r"of seva in other\.safetensors.*missing: time_embed.*not expected: a\."):
        load(bare / "other.safetensors", vae=folder, clip=folder / "clip")  # a folder with vae/ serves as well
    with pytest.raises(UserError, match=r"other shape: time_embed\.0\.weight \(128, 32\) instead of \(1280, 320\)"):
        load(folder, settings=None)
    with pytest.raises(UserError, match="gives 32 numbers, needed 48"):
        other = UNetSettings(channels=32, head=16, context=48)
        save_file(SevaUNet(other).state_dict(), bare / "wide.safetensors")
        load(bare / "wide.safetensors", vae=folder / "vae", settings=other, clip=folder / "clip")
    monkeypatch.setenv("SPARSE3D_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="sparse3d models fetch seva"):
        Seva.load(accept=True)
    assert store.path("clip-vit-h-14") is None
    with pytest.raises(UserError, match="sparse3d models fetch clip-vit-h-14"):
        load(folder, clip=None)


def test_a_vae_that_is_not_whole_is_refused(folder, tmp_path):
    from safetensors.torch import load_file

    half = tmp_path / "vae"
    shutil.copytree(folder / "vae", half)
    (file,) = half.glob("*.safetensors")
    state = load_file(file)
    del state["decoder.conv_in.weight"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"decoder\.conv_in\.weight"):
        load(folder, vae=half)


def test_missing_extra_says_how_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"pip install 'sparse3d\[diffusion\]'"):
        load(folder)


# Cameras and noise levels --------------------------------------------------------------------------------------------


def test_rays_meet_what_cameras_see():
    """A point on the ray through a pixel is on its Plücker line: moment = point x direction; also off centre and not square."""
    views = cameras(3, 5)
    maps = plucker_maps(views)
    assert maps.shape == (3, 6, 8, 16)
    direction, moment = maps[:, :3], maps[:, 3:]
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(3, 8, 16))
    relative = torch.linalg.inv(views.c2w[0]) @ views.c2w
    u, v = 8 * (11 + 0.5), 8 * (2 + 0.5)  # pixels of the picture at the middle of map pixel (2, 11)
    for view in range(3):
        ray = torch.stack([(u - views.K[view, 0, 2]) / 100, (v - views.K[view, 1, 2]) / 110, torch.tensor(1.0)])
        point = relative[view, :3, :3] @ (ray * 3.7) + relative[view, :3, 3]
        line = torch.linalg.cross(point, direction[view, :, 2, 11])
        torch.testing.assert_close(line, moment[view, :, 2, 11], rtol=0, atol=2e-5)
    with pytest.raises(ValueError, match="needed multiples of 8"):
        plucker_maps(views.scaled_to(60, 64))


def test_normalized_poses():
    c2w = cameras(40, 6).c2w
    poses = normalized_poses(c2w)
    assert float(poses[0, :3, 3].norm()) == pytest.approx(2, rel=1e-5)
    assert poses[:, :3, 3].mean(dim=0).abs().max() < 1e-5 and torch.equal(poses[:, :3, :3], c2w[:, :3, :3])
    lost = c2w.clone()
    lost[-1, :3, 3] = 1e4  # one of 40 is beyond the 97 % quantile
    torch.testing.assert_close(normalized_poses(lost)[:-1], normalized_poses(c2w[:-1]), rtol=1e-4, atol=1e-4)
    assert torch.equal(normalized_poses(c2w[:1])[0, :3, 3], torch.zeros(3))


def test_distance_to_inputs():
    c2w = torch.eye(4).repeat(3, 1, 1)
    c2w[:, 0, 3] = torch.tensor([0.0, 1.0, 4.0])
    assert distance_to_inputs(c2w, torch.tensor([True, False, False])).tolist() == [0, 0.25, 1]
    assert distance_to_inputs(c2w, torch.ones(3, dtype=torch.bool)).tolist() == [0, 0, 0]


def test_noise_levels():
    sigmas = sampling_sigmas(7)
    assert sigmas[0] == all_sigmas()[-1] and sigmas[-1] == 0 and bool((sigmas.diff() < 0).all())
    assert torch.equal(nearest_index(all_sigmas()), torch.arange(1000))
    with pytest.raises(ValueError, match="needed 1 to 1000"):
        sampling_sigmas(0)


def test_a_network_that_knows_the_noise_gives_the_clean_latents():
    clean, noise = torch.randn(2, 2, 4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma = all_sigmas()[[20, 900]]
    seen: list[Tensor] = []
    found = denoise(lambda x, index: seen.append(index) or noise, clean + sigma[:, None, None, None] * noise, sigma)
    torch.testing.assert_close(found, clean)
    assert seen[0].tolist() == [20, 900]

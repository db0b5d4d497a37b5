"""ZeroNVS against stored results of the published code: how cameras are told, names and shapes of all its tensors, and a small UNet of the same
class with weights by recipe.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from support.goldens import arrays, largest, manifest
from support.recipe_weights import fill, tensor
from torch import Tensor

from sparse3d.priors.zeronvs_pose import pose_vector
from sparse3d.priors.zeronvs_weights import UNET, averaged, projection_of

GL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))  # the stored cameras are OpenGL's
MODES = ("7dof_quantile_scale", "7dof_unscaled", "7dof_stereomag_scale", "3dof")


@pytest.fixture(scope="module")
def folder(goldens: Path) -> Path:
    if not (goldens / "zeronvs").is_dir():
        pytest.skip(f"no results of ZeroNVS in {goldens}")
    return goldens / "zeronvs"


@pytest.fixture(scope="module")
def poses(folder: Path) -> dict[str, Tensor]:
    return arrays(folder / "golden_pose_conditioning.npz")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_cameras(poses, mode, dtype, bound):
    wanted = poses[f"{mode}_{'f64' if dtype == torch.float64 else 'f32'}"]
    for index in range(len(wanted)):
        photo, target = ((poses[name][index] @ GL).to(dtype) for name in ("cond_c2w", "target_c2w"))
        found = pose_vector(
            photo, target[None], float(poses["scale"][index]), math.radians(float(poses["fov_deg"][index])), mode
        )
        assert found.shape == (1, wanted.shape[1]) and largest(found[0], wanted[index]) < bound, index


def test_the_projection_to_one_token(poses):
    state = {
        f"cc_projection.{kind}": tensor(f"cc_projection.{kind}", shape)
        for kind, shape in (("weight", (768, 787)), ("bias", (768,)))
    }
    layer = projection_of({name: torch.from_numpy(value) for name, value in state.items()}).double()
    joined = torch.cat([poses["clip_embedding"], poses["7dof_quantile_scale_f32"][:, None]], dim=2).double()
    assert largest(layer(joined), poses["cc_projection_out_f64"]) < 1e-12


def test_every_tensor_of_the_published_checkpoint_has_its_place(folder):
    """The networks are made on no device: names and shapes are all that is looked at."""
    pytest.importorskip("diffusers")
    from sparse3d.priors.zeronvs_weights import clip_of, unet_of, vae_of

    entries = json.loads((folder / "checkpoint_manifest.json").read_text(encoding="utf-8"))
    names = manifest(folder) | {
        name: tuple(of["shape"])
        for part in ("clip_image_embedder", "ema_copy_of_unet", "diffusion_buffers")
        for name, of in entries[part].items()
    }
    state = {name: torch.empty(shape, device="meta") for name, shape in names.items()}
    unet = averaged(state)
    assert all(unet[name] is not state[name] for name in unet)  # each has its running mean
    network = unet_of(unet, 8)
    assert sum(value.numel() for value in network.parameters()) == entries["counts"]["unet"]
    assert sum(value.numel() for value in vae_of(state).parameters()) == entries["counts"]["first_stage"]
    assert clip_of(state).config.projection_dim == 768
    assert sum(value.numel() for value in projection_of(state).parameters()) == entries["counts"]["cc_projection"]


# diffusers makes the sines of the noise level in float32, which is what float64 is off by
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-6), (torch.float32, 2e-5)])
def test_the_network(folder, dtype, bound):
    pytest.importorskip("diffusers")
    from sparse3d.priors.zeronvs_weights import unet_of

    stored = arrays(folder / "golden_tiny_unet.npz")
    shapes = json.loads((folder / "tiny_unet_shapes.json").read_text(encoding="utf-8"))["shapes"]
    state = {UNET + name: torch.from_numpy(value) for name, value in fill(shapes).items()}
    network = unet_of(state, heads=4).to(dtype)
    with torch.no_grad():
        found = network(
            stored["tiny_unet_x"].to(dtype),
            stored["tiny_unet_t"],
            encoder_hidden_states=stored["tiny_unet_context"].to(dtype),
        ).sample
    wanted = stored["tiny_unet_out_f64" if dtype == torch.float64 else "tiny_unet_out_f32"]
    assert float((found.double() - wanted.double()).abs().max()) < bound

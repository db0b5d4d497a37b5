"""Stable Virtual Camera against stored results of the published code: cameras, noise levels, names and shapes of all 1146 tensors, and
a small network of the same class with weights by recipe.

The float64 run proves the network, which the others only confirm in the precision that it is used in.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.goldens import arrays, largest, manifest
from support.recipe_weights import fill
from torch import Tensor

from sparse3d.priors.networks.seva import SevaUNet, UNetSettings
from sparse3d.priors.seva_cameras import normalized_poses, plucker_maps
from sparse3d.priors.seva_schedule import LEVELS, all_sigmas, nearest_index, sampling_sigmas
from sparse3d.types import Cameras

TINY = UNetSettings(channels=32, head=16, context=48)
VIEWS = 3


@pytest.fixture(scope="module")
def folder(goldens: Path) -> Path:
    if not (goldens / "seva").is_dir():
        pytest.skip(f"no results of Stable Virtual Camera in {goldens}")
    return goldens / "seva"


@pytest.fixture(scope="module")
def conditioning(folder: Path) -> dict[str, Tensor]:
    return arrays(folder / "golden_camera_conditioning.npz")


@pytest.fixture(scope="module")
def stored(folder: Path) -> dict[str, Tensor]:
    return arrays(folder / "golden_tiny_unet.npz")


def test_parameters_are_those_of_the_published_checkpoint(folder):
    with torch.device("meta"):
        network = SevaUNet()
    ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert ours == manifest(folder) and len(ours) == 1146
    assert sum(value.numel() for value in network.parameters()) == 1_263_968_004


# Cameras -------------------------------------------------------------------------------------------------------------


def pixels(conditioning: dict[str, Tensor]) -> tuple[Tensor, int, int]:
    """Intrinsics in pixels, from those relative to the picture."""
    height, width = conditioning["image_hw"].tolist()
    return conditioning["Ks_normalised"] * torch.tensor([width, height, 1.0])[:, None], height, width


@pytest.mark.parametrize("case", ["", "case2_"])  # the second: the first camera in the middle of all
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cameras(conditioning, case, dtype):
    poses = normalized_poses(conditioning[f"{case}c2ws"].to(dtype), float(conditioning["camera_scale"]))
    # a few roundings of float32, in which the original computed
    torch.testing.assert_close(poses, conditioning[f"{case}c2w_normalised"].to(dtype), rtol=0, atol=5e-7)
    K, height, width = pixels(conditioning)
    maps = plucker_maps(Cameras(poses, K.to(dtype), height, width))
    torch.testing.assert_close(maps, conditioning[f"{case}plucker"].to(dtype), rtol=0, atol=5e-6)


# Noise levels --------------------------------------------------------------------------------------------------------


def test_noise_levels(conditioning):
    torch.testing.assert_close(all_sigmas(), conditioning["sigmas_1000"].double(), rtol=1.2e-7, atol=0)
    torch.testing.assert_close(sampling_sigmas(50), conditioning["sigmas_50"].double(), rtol=1.2e-7, atol=0)
    assert len(all_sigmas()) == LEVELS
    assert nearest_index(conditioning["denoiser_sigma_in"]).tolist() == conditioning["denoiser_idx"].tolist()


# The network ---------------------------------------------------------------------------------------------------------


def run(folder: Path, stored: dict[str, Tensor], dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """What leaves the small network and each of its blocks, on the CPU."""
    shapes = json.loads((folder / "tiny_unet_shapes.json").read_text(encoding="utf-8"))["shapes"]
    network = SevaUNet(TINY)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in fill(shapes).items()})
    network.to(device=device, dtype=dtype).eval()
    found: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _, __, out, name=name: found.__setitem__(name, out.cpu()))
    x, context, rays = (stored[name].to(device, dtype) for name in ("x", "y", "dense_y"))
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        network(x, stored["t"].to(device), context, rays, VIEWS)
    return found


def test_the_network_in_float64(folder, stored):
    found = run(folder, stored, torch.float64, "cpu")
    blocks = {name.removeprefix("h64/"): value for name, value in stored.items() if name.startswith("h64/")}
    assert len(blocks) == 27
    # blocks are stored in float32, whose rounding is 6e-8
    wrong = {name: error for name, want in blocks.items() if not (error := largest(found[name], want)) < 1e-7}
    assert not wrong
    assert largest(found[""], stored["out_f64"]) < 1e-13


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_the_network_in_float32(folder, stored, device):
    found = run(folder, stored, torch.float32, device)
    # float32 sums in another order; the original's own rounding is 3.7e-6 of values of spread 0.59
    torch.testing.assert_close(found[""], stored["out_f32"], rtol=0, atol=2e-5)
    wrong = {
        name: error
        for name, want in stored.items()
        if name.startswith("h64/") and not (error := largest(found[name.removeprefix("h64/")], want)) < 5e-6
    }
    assert not wrong

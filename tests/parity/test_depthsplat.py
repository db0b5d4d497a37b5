"""DepthSplat against stored results of the published encoder, with tensors by recipe: see tests/goldens/depthsplat/README.md.

float64 proves the computation, every stage to 1e-9 of its largest magnitude, in all layouts and for 2 to 5 views; float32 proves
what inference uses, the compiled plane sweep among it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from support.depthsplat_cases import FOLDER, LAYOUTS, SMALL, Run, manifests, sampled, shapes, weights
from support.goldens import arrays, largest, rms
from support.noise_views import noise_views

from sparse3d.geometry import rotation_from_quat
from sparse3d.init.depthsplat import predict
from sparse3d.init.networks.depthsplat.layout import PRIORS, Layout, layout_of
from sparse3d.progress import StageReporter
from sparse3d.types import View

EIGHTH = Layout(PRIORS[384], scales=1, coarsest=8)
HALF, QUARTER = (Layout(PRIORS[384], scales=2, coarsest=coarsest) for coarsest in (4, 8))
LOOSE = ("depth", "means")  # of float32: depth is 1 / disparity, large where disparity is uncertain


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("depthsplat") / "small.pth"
    torch.save({"state_dict": {f"encoder.{name}": value for name, value in weights(SMALL).items()}}, path)
    return path


@pytest.mark.parametrize("which", LAYOUTS)
def test_parameters_are_those_of_the_published_checkpoints(which):
    wanted = manifests()[which]
    assert shapes(LAYOUTS[which]) == wanted
    assert (
        layout_of({name: torch.empty(shape, device="meta") for name, shape in wanted.items()}, which) == LAYOUTS[which]
    )


def test_recipe_gives_the_weights_of_the_goldens():
    digest = hashlib.sha256()
    for name, value in sorted(weights(SMALL).items()):
        digest.update(f"encoder.{name}".encode() + value.numpy().tobytes())
    assert digest.hexdigest() == "82009153af45136705d199638e9561f7dd00da8b47bd8b282f579b21eb5fbb34"


@pytest.mark.parametrize(
    ("name", "layout", "views", "height", "width"),
    [
        ("small_2views", SMALL, 2, 96, 160),
        ("small_3views", SMALL, 3, 64, 96),
        ("small_5views", SMALL, 5, 64, 96),
        ("eighth_4views", EIGHTH, 4, 64, 96),
        ("two_scales_half_2views", HALF, 2, 64, 96),
        ("two_scales_quarter_2views", QUARTER, 2, 64, 96),
    ],
)
def test_every_stage_in_float64(name, layout, views, height, width):
    stored, run = arrays(FOLDER / f"{name}_f64.npz"), Run(layout, views, height, width, torch.float64)
    assert set(stored) == set(run.arrays)
    wrong = {n: e for n, want in stored.items() if not (e := largest(sampled(run.arrays[n], len(want)), want)) < 1e-9}
    assert not wrong


@pytest.mark.parametrize(
    ("name", "views", "height", "width"), [("small_2views_256", 2, 256, 256), ("small_3views", 3, 64, 96)]
)
def test_every_stage_in_float32(name, views, height, width):
    stored, run = arrays(FOLDER / f"{name}_f32.npz"), Run(SMALL, views, height, width, torch.float32)
    assert set(stored) == set(run.arrays)
    errors = {n: rms(sampled(run.arrays[n], len(want)), want) for n, want in stored.items()}
    assert not {n: e for n, e in errors.items() if not e < (1e-4 if n in LOOSE else 2e-5)}


def posed(views: int, height: int, width: int, scale: float = 1.0) -> list[View]:
    """Views of noise in a world of another scale."""
    images, c2w, K = noise_views(views, height, width)
    c2w[:, :3, 3] *= scale
    pixels = K * torch.tensor([width, height, 1.0])[:, None]
    return [View(f"{i}.png", images[i], pixels[i], c2w[i]) for i in range(views)]


def test_prediction_is_the_published_one(checkpoint):
    """From photos and a checkpoint's file to Gaussians in the world; colours are turned in another way, see `to_gaussians`."""
    found = predict(posed(2, 256, 256), checkpoint, [[1], [0]], [(1.0, 100.0)] * 2, StageReporter("init"))
    stored, gaussians = arrays(FOLDER / "small_2views_256_f32.npz"), found.gaussians
    assert len(gaussians) == 2 * 256 * 256 and gaussians.sh_degree == 2 and not found.notes
    axes = rotation_from_quat(gaussians.quats) * gaussians.scales[:, None]
    ours = {
        "depth": found.depths,
        "means": gaussians.means,
        "opacities": gaussians.opacities,
        "scales": gaussians.scales,
        "covariances": axes @ axes.transpose(-1, -2),
    }
    errors = {n: rms(sampled(values, len(stored[n])), stored[n]) for n, values in ours.items()}
    assert not {n: e for n, e in errors.items() if not e < (1e-4 if n in LOOSE else 2e-5)}


def test_scaling_the_world_scales_the_gaussians(checkpoint):
    """Exactly for a power of two, which rounds nothing."""
    sources, ranges = [[1], [0]], [(0.8, 30.0), (1.0, 20.0)]
    one = predict(posed(2, 64, 96), checkpoint, sources, ranges, StageReporter("init"), size=(64, 96))
    for scale in (4.0, 0.3):
        scaled = [(near * scale, far * scale) for near, far in ranges]
        other = predict(posed(2, 64, 96, scale), checkpoint, sources, scaled, StageReporter("init"), size=(64, 96))
        exact = {"rtol": 0.0, "atol": 0.0} if scale == 4 else {"rtol": 1e-3, "atol": 1e-4}
        torch.testing.assert_close(other.gaussians.means, one.gaussians.means * scale, **exact)
        torch.testing.assert_close(other.depths, one.depths * scale, **exact)
        torch.testing.assert_close(other.confidences, one.confidences, **exact)
        torch.testing.assert_close(other.gaussians.sh, one.gaussians.sh, **exact)
        torch.testing.assert_close(
            other.gaussians.log_scales, one.gaussians.log_scales + np.log(scale), rtol=1e-3, atol=1e-4
        )

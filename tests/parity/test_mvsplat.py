"""MVSplat's encoder against stored results of the published one: 471 tensors by recipe, 2 and 3 views of 256 x 256 pixels.

The float64 run proves the computation, every stage to 1e-9 of its largest magnitude; the float32 runs prove what inference uses,
the compiled plane sweep among it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from support.goldens import arrays, filled, largest, manifest, rms
from torch import Tensor, nn

from sparse3d.init.networks.adapter import Published, published_gaussians
from sparse3d.init.networks.mvsplat.encoder import Encoded, Encoder

NEAR, FAR = 1.0, 100.0
LOOSE = (
    "depth",
    "means",
    "scales",
    "covariances",
)  # of float32: depth is 1 / disparity, large where disparity is uncertain


@pytest.fixture(scope="module")
def folder(goldens: Path) -> Path:
    return goldens / "mvsplat"


@pytest.fixture(scope="module")
def weights(folder: Path) -> dict[str, Tensor]:
    return {name.removeprefix("encoder."): value for name, value in filled(folder).items()}


class Run:
    """One pass of the encoder, with what went through its modules on the way."""

    def __init__(
        self, folder: Path, weights: dict[str, Tensor], dtype: torch.dtype, views: int, device: str = "cpu"
    ) -> None:
        network = Encoder()
        network.load_state_dict(weights)
        network.to(device=device, dtype=dtype).eval()
        self.calls: dict[str, dict] = {}
        self.stages: dict[str, Tensor] = {}
        self.wanted = (
            json.loads((folder / "trace_f64.json").read_text(encoding="utf-8")) if dtype == torch.float64 else {}
        )
        for name, module in network.named_modules():
            module.register_forward_hook(self._hook(name))
        inputs = arrays(folder / "inputs.npz")
        images = (inputs["image_u8"][:views].permute(0, 3, 1, 2).float() / 255).to(device, dtype)
        c2w, K = (inputs[name][:views].to(device, dtype) for name in ("extrinsics_c2w", "intrinsics_normalised"))
        with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
            self.encoded = Encoded(*(part.cpu() for part in network(images, c2w, K, NEAR, FAR)))
        raw, distances, opacities, _ = self.encoded
        self.published = published_gaussians(raw, distances[..., None], opacities[..., None], c2w.cpu(), K.cpu())

    def _hook(self, name: str):
        def seen(module: nn.Module, given: tuple, found: object) -> None:
            if name == "backbone":
                self.stages["trans_features"], self.stages["cnn_features"] = found
            elif name.startswith("backbone.transformer.layers.") and name.count(".") == 3:
                self.stages[f"transformer_layer{name[-1]}"] = found.permute(0, 3, 1, 2)
            elif name == "depth_predictor.corr_refine_net":
                self.stages["cost_volume"] = given[0][:, :128]
            elif name == "depth_predictor.depth_head_lowres":
                self.stages["cost_refined"], self.stages["depth_logits"] = given[0], found
                self.stages["depth_pdf"] = found.softmax(dim=1)
            elif name == "depth_predictor.refine_unet":
                self.stages["proj_features"], self.stages["refine_out"] = given[0][:, 3:35], found
                self.stages["coarse_disparity"], self.stages["pdf_max"] = given[0][:, 35], given[0][:, 36, ::4, ::4]
            elif name == "depth_predictor.upsampler":
                self.stages["upsampled_features"] = found
            elif name == "depth_predictor.to_disparity":
                self.stages["disp_delta_density_raw"] = found
            probes = self.wanted.get(f"encoder.{name}")
            if probes is not None and isinstance(found, Tensor):
                self.calls[name] = {
                    "size": (found.numel(), math.prod(probes["shape"])),
                    "std": abs(float(found.std(correction=0)) - probes["std"]) / probes["absmax"],
                    "probes": max(
                        abs(float(found.reshape(-1)[((2 * k + 1) * found.numel()) // 16]) - probes["probes"][k])
                        for k in range(8)
                    )
                    / probes["absmax"],
                }

        return seen

    def arrays(self) -> dict[str, Tensor]:
        """All that goldens may hold, (V, ..., rows, columns)."""

        def maps(field: Tensor) -> Tensor:  # (V, H, W, 1, ...) -> (V, ..., H, W)
            return field[:, :, :, 0].movedim((1, 2), (-2, -1))

        made: Published = self.published
        return {
            **{name: value.cpu() for name, value in self.stages.items()},
            "depth": self.encoded.distances,
            "opacities": self.encoded.opacities,
            "raw_gaussians": self.encoded.raw.movedim(-1, 1),
            "means": maps(made.means),
            "covariances": maps(made.covariances),
            "scales": maps(made.scales),
            "rotations_xyzw": maps(made.rotations),
            "harmonics": maps(made.harmonics),
        }


def pairs(run: Run, *files: Path) -> list[tuple[str, Tensor, Tensor]]:
    """Name, ours and theirs of every array in the goldens, at the rows and columns that they hold."""
    found, ours = [], run.arrays()
    for file in files:
        stored = arrays(file)
        indices = {name: stored.pop(name).long() for name in list(stored) if name.startswith("index")}
        for name, want in stored.items():
            got = ours[name]
            if got.shape[-1] != want.shape[-1]:  # index64... for maps of 64, and of those the one of this length
                of_size = [at for index, at in indices.items() if index.startswith(f"index{got.shape[-1]}")]
                (at,) = (at for at in of_size if len(at) == want.shape[-1])
                got = got[..., at[:, None], at]
            found.append((name, got, want))
    return found


@pytest.fixture(scope="module")
def double(folder: Path, weights: dict[str, Tensor]) -> Run:
    return Run(folder, weights, torch.float64, views=2)


def test_parameters_are_those_of_the_published_checkpoint(folder):
    ours = {f"encoder.{name}": tuple(value.shape) for name, value in Encoder().state_dict().items()}
    assert ours == manifest(folder) and len(ours) == 471


def test_every_stage_in_float64(folder, double):
    compared = pairs(double, folder / "golden_stages_f64.npz", folder / "golden_gaussians_f64.npz")
    assert len(compared) == 26
    wrong = {name: error for name, got, want in compared if not (error := largest(got, want)) < 1e-9}
    assert not wrong


def test_every_module_in_float64(double):
    """Shapes, spread and eight values of each module call of the published run, where our modules have the same name."""
    assert len(double.calls) > 540
    wrong = {
        n: c for n, c in double.calls.items() if c["size"][0] != c["size"][1] or not max(c["std"], c["probes"]) < 1e-9
    }
    assert not wrong


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_two_views_in_float32(folder, weights, device):
    run = Run(folder, weights, torch.float32, views=2, device=device)
    compared = pairs(run, folder / "golden_stages_f32.npz", folder / "golden_gaussians_f32.npz")
    assert len(compared) == 26
    wrong = {n: e for n, got, want in compared if not (e := rms(got, want)) < (3e-4 if n in LOOSE else 2e-5)}
    assert not wrong


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_three_views_in_float32(folder, weights, device):
    """With a mask that does not fit its tokens, as published: see `Block`."""
    run = Run(folder, weights, torch.float32, views=3, device=device)
    compared = pairs(run, folder / "golden_3views_f32.npz")
    assert len(compared) == 8
    wrong = {n: e for n, got, want in compared if not (e := rms(got, want)) < (3e-4 if n in LOOSE else 2e-5)}
    assert not wrong

"""Prediction with MVSplat from views to Gaussians: checkpoints, symmetries, masks, groups, mistakes. Weights are random."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.synthetic import textured_plane
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.geometry import pixel_rays, rotation_from_quat
from sparse3d.init.mvsplat import predict
from sparse3d.init.networks.checkpoints import with_weights
from sparse3d.init.networks.mvsplat.encoder import Encoder
from sparse3d.init.networks.prediction import Prediction
from sparse3d.kernels.reference import sh_to_rgb
from sparse3d.progress import Event, StageReporter
from sparse3d.types import View

SIZE = (32, 48)
QUIET = StageReporter("init")
RANGE = (2.0, 20.0)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Weights as training starts with them, but every opacity, scale and colour varies."""
    torch.manual_seed(0)
    return Encoder().state_dict()


@pytest.fixture(scope="module")
def weights(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "re10k.ckpt"
    torch.save({"state_dict": {f"encoder.{name}": value for name, value in state.items()}, "epoch": 3}, file)
    return file


@pytest.fixture(scope="module")
def views() -> tuple[View, ...]:
    return textured_plane(48, 64)[0].views


@pytest.fixture(scope="module")
def three(views: tuple[View, ...], weights: Path) -> Prediction:
    """Of three views side by side: the outer ones look at the middle one, which looks at the first."""
    return predict(views, weights, [[1], [0, 2], [1]], [RANGE] * 3, QUIET, size=SIZE)


def moved(view: View, transform: Callable[[Tensor], Tensor]) -> View:
    return replace(view, c2w=transform(view.c2w))


# Checkpoints ---------------------------------------------------------------------------------------------------------


def test_names_with_and_without_prefix_in_both_formats(state, weights, tmp_path):
    save_file(state, tmp_path / "bare.safetensors")
    save_file({f"encoder.{name}": value for name, value in state.items()}, tmp_path / "named.safetensors")
    torch.save({"state_dict": state}, tmp_path / "bare.ckpt")
    for file in (weights, tmp_path / "bare.ckpt", tmp_path / "bare.safetensors", tmp_path / "named.safetensors"):
        loaded = with_weights(Encoder(), file, "of MVSplat")
        assert not loaded.training
        assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("encoder.backbone.backbone.conv2.bias"), r"missing: backbone\.backbone\.conv2\.bias\."),
        (lambda s: [s.pop(n) for n in list(s)[:9]], r"missing: backbone.*conv1.weight(, [^,]*){4} and 4 more\."),
        (lambda s: s.update({"encoder.more": torch.zeros(2)}), r"not expected: more\."),
        (
            lambda s: s.update({"encoder.depth_predictor.proj_feature.bias": torch.zeros(64)}),
            r"other shape: depth_predictor\.proj_feature\.bias \(64,\) instead of \(32,\)",
        ),
    ],
)
def test_other_tensors_are_named(weights, tmp_path, change, said):
    changed = torch.load(weights, weights_only=True)["state_dict"]
    change(changed)
    torch.save({"state_dict": changed}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=said):
        with_weights(Encoder(), tmp_path / "other.ckpt", "of MVSplat")


class Malice:
    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.file,)


def test_broken_files_are_refused(weights, views, tmp_path):
    short, code, absent = tmp_path / "short.ckpt", tmp_path / "code.ckpt", tmp_path / "absent.ckpt"
    short.write_bytes(weights.read_bytes()[:10000])
    torch.save({"state_dict": {"a": Malice(str(tmp_path / "made"))}}, code)
    for file, said in ((short, "is cut off or no weight file"), (code, "without running code"), (absent, "not exist")):
        with pytest.raises(UserError, match=said):
            predict(views[:2], file, [[1], [0]], [RANGE] * 2, QUIET, size=SIZE)
    assert not (tmp_path / "made").exists()


# From views to Gaussians ---------------------------------------------------------------------------------------------


def test_gaussians_lie_on_the_rays_of_their_pixels_at_the_depths(three):
    """Centres projected into their view are within half a pixel of their pixel, and their z is the depth map."""
    height, width = SIZE
    assert len(three.gaussians) == 3 * height * width and three.gaussians.sh.shape[1:] == (16, 3)
    assert three.notes == () and three.views[0].image.shape[1:] == SIZE
    assert 1e-4 < three.confidences.min() and three.confidences.max() <= 1
    means = three.gaussians.means.reshape(3, height, width, 3)
    for view, depth, points in zip(three.views, three.depths, means, strict=True):
        camera = (points - view.c2w[:3, 3]) @ view.c2w[:3, :3]
        torch.testing.assert_close(camera[..., 2], depth, rtol=1e-4, atol=1e-4)
        off = (camera / camera[..., 2:] - pixel_rays(view.K, height, width)) @ view.K.T
        assert off.abs().max() <= 0.501
        distance = camera.norm(dim=-1)
        assert distance.min() >= RANGE[0] * 0.999 and distance.max() <= 100 * RANGE[0] * 1.001


@pytest.mark.parametrize(("factor", "rtol"), [(8.0, 0.0), (0.03, 1e-3)])  # a power of two: not a bit of rounding
def test_scaling_the_world_scales_the_gaussians(views, weights, three, factor, rtol):
    def scaled(c2w: Tensor) -> Tensor:
        return torch.cat([c2w[:, :3], c2w[:, 3:] * torch.tensor([factor, factor, factor, 1.0])[:, None]], dim=1)

    depth_range = (RANGE[0] * factor, RANGE[1] * factor)
    found = predict([moved(v, scaled) for v in views], weights, [[1], [0, 2], [1]], [depth_range] * 3, QUIET, size=SIZE)
    got, before, atol = found.gaussians, three.gaussians, rtol * factor
    torch.testing.assert_close(got.means, before.means * factor, rtol=rtol, atol=atol)
    torch.testing.assert_close(got.scales, before.scales * factor, rtol=max(rtol, 1e-6), atol=0)  # a logarithm between
    torch.testing.assert_close(found.depths, three.depths * factor, rtol=rtol, atol=0)
    torch.testing.assert_close(got.opacities, before.opacities, rtol=0, atol=rtol)
    torch.testing.assert_close(got.quats, before.quats, rtol=0, atol=rtol)
    torch.testing.assert_close(got.sh, before.sh, rtol=0, atol=rtol)


def test_turning_the_world_turns_the_gaussians(views, weights, three):
    """Centres, axes, and the colours seen from any side."""
    turn = torch.eye(4)
    turn[:3, :3] = rotation_from_quat(torch.tensor([0.2, -0.7, 0.4, 0.5]))
    turn[:3, 3] = torch.tensor([1.0, 5.0, -3.0])
    rotation = turn[:3, :3]
    found = predict(
        [moved(v, lambda c2w: turn @ c2w) for v in views], weights, [[1], [0, 2], [1]], [RANGE] * 3, QUIET, size=SIZE
    )
    got, before = found.gaussians, three.gaussians
    torch.testing.assert_close(got.means, before.means @ rotation.T + turn[:3, 3], rtol=1e-3, atol=2e-3)
    axes = rotation_from_quat(got.quats) * got.scales[:, None]
    want = rotation @ rotation_from_quat(before.quats) * before.scales[:, None]
    torch.testing.assert_close(axes @ axes.mT, want @ want.mT, rtol=1e-2, atol=1e-5)
    seen = torch.nn.functional.normalize(torch.randn(len(got), 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    torch.testing.assert_close(
        sh_to_rgb(3, seen @ rotation.T, got.sh), sh_to_rgb(3, seen, before.sh), rtol=0, atol=1e-3
    )


def test_the_order_of_views_does_not_matter(views, weights, three):
    order = [2, 0, 1]
    sources = [[2], [2], [1, 0]]  # the same, in their new places
    found = predict([views[i] for i in order], weights, sources, [RANGE] * 3, QUIET, size=SIZE)
    assert [view.name for view in found.views] == ["2", "0", "1"]
    torch.testing.assert_close(found.depths, three.depths[order], rtol=1e-3, atol=0)
    per_view = three.gaussians.means.reshape(3, -1, 3)[order].reshape(-1, 3)
    torch.testing.assert_close(found.gaussians.means, per_view, rtol=1e-3, atol=1e-3)


def test_pairs_that_suit_each_other_run_once(views, weights):
    events: list[Event] = []
    predict(views, weights, [[1], [0, 2], [1]], [RANGE] * 3, StageReporter("init", events.append), size=SIZE)
    assert [(e.kind, e.current, e.total, e.message) for e in events] == [
        ("start", 0, 2, "pairs of views"),
        ("step", 1, 2, "0 + 1"),
        ("step", 2, 2, "1 + 2"),
    ]


def test_masked_pixels_give_no_gaussians(views, weights):
    left = torch.zeros(48, 64, dtype=torch.bool)
    left[:, :32] = True
    found = predict([replace(views[0], mask=left), views[1]], weights, [[1], [0]], [RANGE] * 2, QUIET, size=SIZE)
    mask = found.views[0].mask
    assert mask is not None and 0.4 < mask.float().mean() < 0.6
    assert len(found.gaussians) == int(mask.sum()) + SIZE[0] * SIZE[1]
    assert torch.equal(found.depths[0] > 0, mask) and torch.equal(found.confidences[0] > 0, mask)
    assert (found.depths[1] > 0).all()


def test_views_without_sources_and_deep_scenes_are_noted(views, weights):
    found = predict(views, weights, [[1], [0], []], [(1.0, 300.0), (2.0, 20.0), (1.0, 2.0)], QUIET, size=SIZE)
    assert len(found.gaussians) == 2 * SIZE[0] * SIZE[1] and not found.depths[2].any()
    assert found.notes[0] == "no other view looks the same way as 2: no Gaussians from there"
    assert found.notes[1].startswith("the farthest depth is 300 times the nearest")


def test_mistakes_say_what_is_needed(views, weights):
    with pytest.raises(UserError, match="at least 2 views, found 1"):
        predict(views[:1], weights, [[]], [RANGE], QUIET, size=SIZE)
    with pytest.raises(UserError, match="no view has another"):
        predict(views[:2], weights, [[], []], [RANGE] * 2, QUIET, size=SIZE)
    with pytest.raises(UserError, match="needed multiples of 16"):
        predict(views[:2], weights, [[1], [0]], [RANGE] * 2, QUIET, size=(40, 48))
    with pytest.raises(ValueError, match="2 views, 3 lists of sources"):
        predict(views[:2], weights, [[1], [0], []], [RANGE] * 2, QUIET, size=SIZE)
    images, poses, K = torch.rand(1, 3, *SIZE), torch.eye(4)[None], torch.eye(3)[None]
    with pytest.raises(ValueError, match="needed at least 2 views"):
        Encoder()(images, poses, K, 1.0, 100.0)

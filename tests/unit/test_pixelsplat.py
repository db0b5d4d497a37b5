"""pixelSplat's parts at tiny width, its weight files, and its Gaussians in the world. Parity with the published network: tests/parity."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.synthetic import textured_plane
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.geometry import rotation_from_quat
from sparse3d.init.networks.checkpoints import read_state
from sparse3d.init.networks.pixelsplat.attention import EpipolarAttention, ImageBlock
from sparse3d.init.networks.pixelsplat.backbone import Backbone
from sparse3d.init.networks.pixelsplat.checkpoint import load_network, published, unread_shapes, with_state
from sparse3d.init.networks.pixelsplat.depth import DepthBuckets
from sparse3d.init.networks.pixelsplat.epipolar import depth_of, pair_samples, relative_disparity
from sparse3d.init.networks.pixelsplat.frame import pair_frame
from sparse3d.init.networks.pixelsplat.network import PixelSplat
from sparse3d.init.networks.pixelsplat.resnet import ResNetFeatures
from sparse3d.init.networks.pixelsplat.transformer import EpipolarTransformer
from sparse3d.init.networks.pixelsplat.vit import VisionTransformer
from sparse3d.init.pixelsplat import predict, predict_with
from sparse3d.models import store
from sparse3d.models.fetch import import_weights
from sparse3d.progress import StageReporter
from sparse3d.types import View

PROGRESS = StageReporter("init")
RANGES = [(1.0, 8.0)] * 3
IN_TURN = [[1], [0], [1]]


def tiny(first_release: bool = False) -> PixelSplat:
    backbone = Backbone(VisionTransformer(16, 2, 2, patch=8, grid=5), ResNetFeatures(16, width=4, blocks=(1, 1, 1)), 16)
    return PixelSplat(backbone, EpipolarTransformer(8, 2, 8, convolutions=first_release), features=16, width=8)


def state_of(network: PixelSplat) -> dict[str, Tensor]:
    """What a published file of this network would hold; big tensors take no memory, as every element is the same one."""
    counters = {name: torch.tensor(0).expand(shape) for name, shape in unread_shapes(network).items()}
    return {**{name: torch.tensor(0.1).expand(value.shape) for name, value in network.state_dict().items()}, **counters}


@pytest.fixture(scope="module")
def network() -> PixelSplat:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tiny().eval()


@pytest.fixture(scope="module")
def views() -> tuple[View, ...]:
    return textured_plane()[0].views


def moved(views: tuple[View, ...], scale: float, shift: Tensor | None = None) -> list[View]:
    """The same views in a world of another scale and origin."""
    c2w = [view.c2w.clone() for view in views]
    for pose in c2w:
        pose[:3, 3] = pose[:3, 3] * scale + (torch.zeros(3) if shift is None else shift)
    return [replace(view, c2w=pose) for view, pose in zip(views, c2w, strict=True)]


def drawn(network: PixelSplat, views: list[View] | tuple[View, ...], **more: object):
    generator = torch.Generator().manual_seed(3)
    return predict_with(network, views, IN_TURN, RANGES, PROGRESS, generator, size=(32, 48), **more)


# Geometry ---------------------------------------------------------------------------------------------------------------


def looking_along_z(x: float) -> Tensor:
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 3] = x
    return pose


def test_samples_of_parallel_cameras_lie_on_rows_and_know_their_depth():
    """Two cameras side by side: a point at distance d along a cell's ray is f b / z further left in the right camera."""
    K = torch.tensor([[0.9, 0, 0.5], [0, 0.9, 0.5], [0, 0, 1]], dtype=torch.float64).expand(2, 3, 3)
    found = pair_samples(torch.stack([looking_along_z(0), looking_along_z(1)]), K, 1.0, 50.0, 8, 8, samples=16)
    x = (torch.arange(8, dtype=torch.float64).repeat(8) + 0.5) / 8
    y = (torch.arange(8, dtype=torch.float64).repeat_interleave(8) + 0.5) / 8
    valid = found.valid[0]
    assert valid.any()
    torch.testing.assert_close(found.xy[0, valid, :, 1], y[valid, None].expand(-1, 16), rtol=0, atol=1e-6)
    disparity = x[valid, None] - found.xy[0, valid, :, 0]
    length = torch.stack([(x - 0.5) / 0.9, (y - 0.5) / 0.9, torch.ones_like(x)]).norm(dim=0)[valid, None]
    want = relative_disparity((0.9 / disparity * length).clamp(1.0, 50.0), 1.0, 50.0)
    torch.testing.assert_close(found.disparity[0, valid], want, rtol=0, atol=1e-5)


def test_rays_that_the_other_camera_cannot_see_are_not_valid():
    behind = torch.diag(torch.tensor([-1.0, 1, -1, 1], dtype=torch.float64))  # looks the other way
    behind[2, 3] = -1
    K = torch.tensor([[0.9, 0, 0.5], [0, 0.9, 0.5], [0, 0, 1]], dtype=torch.float64).expand(2, 3, 3)
    found = pair_samples(torch.stack([looking_along_z(0), behind]), K, 0.3, 400.0, 4, 4, samples=3)
    assert not found.valid.any() and not found.xy.any() and found.disparity.isfinite().all()


def test_relative_disparity_is_undone():
    depth = torch.tensor([0.3, 1.0, 20.0, 448.0], dtype=torch.float64)
    relative = relative_disparity(depth, 0.3, 448.0)
    assert (relative[0], relative[-1]) == pytest.approx((0, 1), abs=1e-6)
    torch.testing.assert_close(depth_of(relative, 0.3, 448.0), depth, rtol=1e-6, atol=0)


def test_depth_range_is_from_three_image_sides_to_half_a_pixel():
    K = torch.tensor([[1.2, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]]).expand(2, 3, 3)
    frame = pair_frame(torch.stack([looking_along_z(3), looking_along_z(7)]).float(), K, 256, 256)
    focal_px = 1.2 * 256
    assert (frame.near, frame.far) == pytest.approx((focal_px / (3 * 256), focal_px / 0.5), rel=1e-5)
    assert frame.baseline == 4 and frame.c2w[1, 0, 3] - frame.c2w[0, 0, 3] == 1


# Parts of the network ---------------------------------------------------------------------------------------------------


def test_epipolar_attention_is_plain_attention_with_one_query():
    torch.manual_seed(1)
    layer = EpipolarAttention(8, 2, 6).double()
    x, samples = torch.randn(3, 5, 8).double(), torch.randn(3, 5, 7, 8).double()
    q = layer.to_q(x)[..., None, :].unflatten(-1, (2, 6)).transpose(-3, -2)
    k, v = (part.unflatten(-1, (2, 6)).transpose(-3, -2) for part in layer.to_kv(samples).chunk(2, dim=-1))
    want = layer.to_out(torch.nn.functional.scaled_dot_product_attention(q, k, v)[..., 0, :].flatten(-2))
    torch.testing.assert_close(layer(x, samples), want, rtol=0, atol=1e-12)


def test_first_release_convolves_the_block_s_output():
    torch.manual_seed(2)
    block = ImageBlock(8, 2, 8, convolutions=True)
    u = torch.randn(1, 64, 8)
    image = u.transpose(1, 2).unflatten(2, (8, 8))
    y = block.self_attention(image) + image
    first, second = block.layers[0], block.layers[2]
    want = second(torch.nn.functional.gelu(first(y))).flatten(2).transpose(1, 2)
    torch.testing.assert_close(block(u, 8), want)


def test_buckets_are_drawn_as_often_as_they_are_likely():
    probabilities = torch.tensor([0.2, 0.0, 0.5, 0.3])
    buckets = DepthBuckets(probabilities.expand(1, 1, 4), torch.full((1, 1, 4), 0.5))
    count = 10_000
    uniform = (torch.arange(count) + 0.5) / count
    distances, chosen = buckets.drawn(uniform[None, None], 1.0, 10.0)
    middles = depth_of((torch.arange(4) + 0.5) / 4, 1.0, 10.0)
    share = torch.stack([(distances - middle).abs() < 1e-4 for middle in middles]).float().mean((1, 2, 3))
    torch.testing.assert_close(share, probabilities, rtol=0, atol=2 / count)
    assert chosen.unique().tolist() == pytest.approx([0.2, 0.3, 0.5], abs=1e-6)
    likeliest, probability = buckets.most_likely(1.0, 10.0)
    assert likeliest.item() == pytest.approx(middles[2].item()) and probability.item() == pytest.approx(0.5)
    last, _ = buckets.drawn(torch.ones(1, 1, 1), 1.0, 10.0)  # past the end by rounding
    assert last.item() == pytest.approx(middles[3].item())


# Weights ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_a_published_checkpoint_loads_into_the_whole_network(tmp_path, prefix):
    with torch.device("meta"):
        state = state_of(published(first_release=False))
    state = {
        name: torch.tensor(0.1 if value.is_floating_point() else 0).expand(value.shape) for name, value in state.items()
    }
    assert len(state) == 574
    torch.save(
        {"state_dict": {prefix + name: value for name, value in state.items()}, "epoch": 3}, tmp_path / "re10k.ckpt"
    )
    network = load_network(tmp_path / "re10k.ckpt")
    assert sum(value.numel() for value in network.state_dict().values()) < 119e6 - 14e6, "the last stage is not kept"
    assert all((value == 0.1).all() for value in network.state_dict().values()) and not network.training
    assert network.epipolar_transformer.transformer.layers[0][1].fn.layers is None


def test_tensors_alone_and_without_what_is_not_read(tmp_path):
    kept = {name: value.clone() for name, value in tiny().state_dict().items()}
    save_file(kept, tmp_path / "tiny.safetensors")
    found = with_state(read_state(tmp_path / "tiny.safetensors"), "tiny", tiny)
    assert all(torch.equal(found.state_dict()[name], value) for name, value in kept.items())


def test_the_first_release_is_told_by_its_tensors():
    old = state_of(tiny(first_release=True))
    assert with_state(old, "old", tiny).epipolar_transformer.transformer.layers[1][1].fn.layers is not None
    one = next(name for name in old if ".layers.1.1.fn.layers." in name)
    with pytest.raises(UserError, match=f"old do not fit the network. missing: {one}"):
        with_state({name: value for name, value in old.items() if name != one}, "old", tiny)


def test_other_tensors_are_named():
    good = state_of(tiny())
    bias = "to_gaussians.1.bias"
    with pytest.raises(UserError, match=f"missing: {bias}"):
        with_state({name: value for name, value in good.items() if name != bias}, "w", tiny)
    with pytest.raises(UserError, match="not expected: decoder.weight"):
        with_state({**good, "decoder.weight": torch.zeros(1)}, "w", tiny)
    with pytest.raises(UserError, match=rf"other shape: {bias} \(3,\) instead of \(84,\)"):
        with_state({**good, bias: torch.zeros(3)}, "w", tiny)
    unread = "backbone.resnet_backbone.model.layer4.0.conv1.weight"
    with pytest.raises(UserError, match=f"other shape: {unread}"):
        with_state({**good, unread: torch.zeros(3)}, "w", tiny)
    with pytest.raises(UserError, match="model for three views.*re10k.ckpt"):
        with_state({**good, "epipolar_transformer.view_embeddings.weight": torch.zeros(3, 8)}, "w", tiny)


def test_a_cut_off_file_and_one_with_code_are_refused(tmp_path, views):
    file, made = tmp_path / "re10k.ckpt", tmp_path / "made"
    torch.save({"state_dict": {name: value.clone() for name, value in tiny().state_dict().items()}}, file)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"re10k.ckpt is cut off"):
        predict(views, file, IN_TURN, RANGES, PROGRESS)

    class Malice:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(made),)

    torch.save({"state_dict": Malice()}, file)
    with pytest.raises(UserError, match="cannot be read without running code"):
        predict(views, file, IN_TURN, RANGES, PROGRESS)
    assert not made.exists()


def test_a_file_of_the_authors_is_imported(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE3D_CACHE", str(tmp_path / "cache"))
    given = tmp_path / "re10k.ckpt"
    torch.save({"state_dict": tiny().state_dict()}, given)
    import_weights("pixelsplat", given)
    assert with_state(read_state(store.require("pixelsplat")), "pixelsplat", tiny)


# Gaussians in the world -------------------------------------------------------------------------------------------------


def test_every_view_gets_its_gaussians_once(network, views):
    found = drawn(network, views)
    assert len(found.gaussians) == 3 * 32 * 48 * 3 and found.gaussians.sh_degree == 3
    assert found.depths.shape == found.confidences.shape == (3, 32, 48)
    assert (found.depths > 0).all() and (found.confidences > 1 / 33).all()
    sure = predict_with(network, views, IN_TURN, RANGES, PROGRESS, size=(32, 48))
    assert len(sure.gaussians) == 3 * 32 * 48 and torch.equal(sure.confidences, found.confidences)
    again = drawn(network, views)
    assert torch.equal(again.gaussians.means, found.gaussians.means)


def test_gaussians_lie_on_the_rays_of_their_pixels(network, views):
    """In front of their own camera, within a pixel of where they came from, at the depth of the map."""
    found = predict_with(network, views, IN_TURN, RANGES, PROGRESS, size=(32, 48))
    for view, means, depth in zip(found.views, found.gaussians.means.chunk(3), found.depths, strict=True):
        seen = means @ view.cameras.w2c[0, :3, :3].T + view.cameras.w2c[0, :3, 3]
        pixels = (seen @ view.K.T)[:, :2] / seen[:, 2:]
        v, u = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(48) + 0.5, indexing="ij")
        assert (pixels - torch.stack([u, v], -1).flatten(0, 1)).abs().max() < 0.51
        torch.testing.assert_close(seen[:, 2], depth.flatten(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("scale", [4.0, 1 / 64])
def test_scaling_the_world_scales_the_gaussians_exactly(network, views, scale):
    plain, large = drawn(network, views), drawn(network, moved(views, scale))
    assert torch.equal(large.gaussians.means, plain.gaussians.means * scale)
    assert torch.equal(large.depths, plain.depths * scale)
    torch.testing.assert_close(
        large.gaussians.log_scales, plain.gaussians.log_scales + math.log(scale), rtol=0, atol=2e-6
    )
    for name in ("quats", "logit_opacities", "sh"):
        assert torch.equal(getattr(large.gaussians, name), getattr(plain.gaussians, name)), name


def test_turning_and_moving_the_world_takes_the_gaussians_along(network, views):
    turn = rotation_from_quat(torch.tensor([0.5, -0.5, 0.1, 0.7]))
    move = torch.eye(4)
    move[:3, :3], move[:3, 3] = turn, torch.tensor([20.0, -3.0, 7.0])
    plain, there = drawn(network, views), drawn(network, [replace(view, c2w=move @ view.c2w) for view in views])
    off = (there.gaussians.means - (plain.gaussians.means @ turn.T + move[:3, 3])).norm(dim=1)
    reach = (plain.gaussians.means - views[0].c2w[:3, 3]).norm(dim=1)
    # poses in float32 are off by 1e-6 of the shift here, which the epipolar geometry enlarges
    assert (off < 0.01 * reach + 1e-3).float().mean() > 0.99


def test_masked_pixels_have_no_gaussians(network, views):
    mask = torch.ones(views[0].height, views[0].width, dtype=torch.bool)
    mask[:, : views[0].width // 2] = False
    found = drawn(network, [replace(views[0], mask=mask), *views[1:]])
    kept = found.views[0].mask
    assert 0.4 < kept.float().mean() < 0.6
    assert len(found.gaussians) == 3 * (int(kept.sum()) + 2 * 32 * 48)
    assert ((found.depths[0] > 0) == kept).all()


def test_a_scene_out_of_reach_is_noted(network, views):
    found = predict_with(network, views, IN_TURN, [(1e-4, 1e5)] * 3, PROGRESS, size=(32, 48))
    assert any("the scene reaches from 0.0001" in note for note in found.notes)
    assert drawn(network, views).notes == ()


def test_views_that_cannot_work_are_refused(network, views):
    with pytest.raises(UserError, match="needs at least 2 views, found 1"):
        predict_with(network, views[:1], [[]], RANGES[:1], PROGRESS)
    same = replace(views[1], c2w=views[0].c2w.clone())
    with pytest.raises(UserError, match=f"{views[0].name} and {views[1].name} were taken from the same place"):
        predict_with(network, [views[0], same], [[1], [0]], RANGES[:2], PROGRESS)
    with pytest.raises(UserError, match="multiples of 16"):
        predict_with(network, views, IN_TURN, RANGES, PROGRESS, size=(30, 48))


def test_files_are_named_in_messages(views):
    with pytest.raises(UserError, match="nowhere.ckpt does not exist"):
        predict(views, Path("nowhere.ckpt"), IN_TURN, RANGES, PROGRESS)

"""Depth of one photo: relative and metric, from files and from networks."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.tiny_depth import tiny_depth_anything, tiny_depth_pro, tiny_zoedepth

from sparse3d.errors import UserError
from sparse3d.io.images import write_depth
from sparse3d.lift.depth import PhotoDepth, from_disparity, resized
from sparse3d.lift.depth_file import depth_of_file
from sparse3d.lift.depth_networks import NetworkDepth


def ramp(height: int = 40, width: int = 60) -> torch.Tensor:
    """2 to 6 metres from left to right."""
    return torch.linspace(2, 6, width).expand(height, width).contiguous()


def test_disparity_becomes_depth_of_median_one_whatever_its_gain_and_offset():
    true = ramp()
    depth = from_disparity(1 / true)
    finite = depth[depth.isfinite()]
    assert finite.median() == pytest.approx(1) and finite.max() / finite.min() == pytest.approx(10, rel=1e-4)
    assert torch.allclose(from_disparity(7 / true + 3), depth, rtol=1e-4)
    order = depth[0].argsort(stable=True)
    assert torch.equal(order, torch.arange(60))
    inverse = (1 / depth)[0, 5:-5]  # linear in inverse depth
    wanted = (1 / true)[0, 5:-5]
    gain, offset = np.polyfit(wanted.numpy(), inverse.numpy(), 1)
    assert np.allclose(gain * wanted.numpy() + offset, inverse.numpy(), rtol=1e-3)


def test_what_a_network_calls_infinitely_far_is_sky():
    disparity = 1 / ramp()
    disparity[:10] = 0
    depth = from_disparity(disparity)
    assert depth[:10].isinf().all() and depth[10:].isfinite().all()
    with pytest.raises(ValueError, match="0 all over"):
        from_disparity(torch.zeros(4, 4))
    with pytest.raises(ValueError, match="not above 0"):
        PhotoDepth(torch.zeros(4, 4), True, "", "")


def test_resizing_keeps_planes_and_the_sky():
    columns = torch.arange(60) + 0.5
    plane = (1 / (0.2 + 0.003 * columns)).expand(40, 60).contiguous()
    plane[:8] = torch.inf
    half = resized(plane, 20, 30)
    wanted = 1 / (0.2 + 0.003 * (2 * (torch.arange(30) + 0.5)))
    assert half[:3].isinf().all() and torch.allclose(half[8:, 2:-2], wanted[2:-2].expand(12, 26), rtol=1e-3)


@pytest.mark.parametrize("kind", ["npy", "exr", "millimetres", "ours"])
def test_metric_files_are_read_in_metres(tmp_path, kind):
    depth = ramp()
    path = tmp_path / f"depth.{'png' if kind in ('millimetres', 'ours') else kind}"
    if kind == "npy":
        np.save(path, depth.numpy())
    elif kind == "ours":
        write_depth(path, depth)
    elif kind == "exr":
        exr = pytest.importorskip("OpenEXR")
        header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
        with exr.File(header, {"R": np.zeros((40, 60), np.float32), "Z": depth.numpy()}) as file:
            file.write(str(path))
    else:
        cv2.imwrite(str(path), (1000 * depth.numpy()).round().astype(np.uint16))
    found = depth_of_file(path, 40, 60, pytest.fail)
    assert found.metric and torch.allclose(found.depth, depth, atol=1e-3)


def test_eight_bits_are_inverse_depth_without_unit(tmp_path):
    cv2.imwrite(str(tmp_path / "d.png"), (255 * 2 / ramp()).numpy().astype(np.uint8))
    found = depth_of_file(tmp_path / "d.png", 40, 60, pytest.fail)
    assert not found.metric and bool((found.depth.diff(dim=1) >= -1e-6).all())


def test_unknown_depths_are_filled_and_other_sizes_resized_and_both_said(tmp_path):
    depth = torch.full((80, 120), 3.0)
    depth[10:20, 10:20], depth[30:40, 30:40], depth[50:60, 50:60] = 0, torch.nan, -1
    depth[:5] = torch.inf
    np.save(tmp_path / "d.npy", depth.numpy())
    said: list[str] = []
    found = depth_of_file(tmp_path / "d.npy", 40, 60, said.append)
    assert found.depth[:2].isinf().all() and torch.allclose(found.depth[4:], torch.tensor(3.0), rtol=1e-3)
    assert "3.1 % of the depths" in said[0] and "resized to the photo's 60x40" in said[1]


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((40, 60), np.float32), "too little depth"),
        (np.ones((60, 40), np.float32), "give a depth map of the photo as a whole"),
        (np.ones((40, 60, 5), np.float32), "needed numbers of shape"),
        (np.array([["a"] * 60] * 40), "needed numbers of shape"),
        (np.array([{}], dtype=object), "no array of numbers"),
    ],
)
def test_unfit_maps_are_refused(tmp_path, array, said):
    np.save(tmp_path / "d.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=said):
        depth_of_file(tmp_path / "d.npy", 40, 60, pytest.fail)


def test_missing_broken_and_strange_files_are_refused(tmp_path):
    (tmp_path / "d.png").write_bytes(b"no png")
    (tmp_path / "d.exr").write_bytes(b"no exr")
    (tmp_path / "d.tif").write_bytes(b"")
    for name, said in (
        ("none.npy", "no such depth map"),
        ("d.png", "cannot be read"),
        ("d.exr", "cannot be read|pip install"),
        ("d.tif", "are .npy, .exr or .png"),
    ):
        with pytest.raises(UserError, match=said):
            depth_of_file(tmp_path / name, 40, 60, pytest.fail)


@pytest.mark.parametrize("kind", ["relative", "metric"])
def test_depth_anything_is_read_from_a_folder(tmp_path, kind):
    pytest.importorskip("transformers")
    model, processor = tiny_depth_anything(kind)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    image = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))
    network = NetworkDepth.load(str(tmp_path))
    found = network(image)
    assert found.depth.shape == (48, 64) and found.metric == (kind == "metric") and found.focal is None
    from transformers import pipeline

    stock = pipeline("depth-estimation", model=model.eval(), image_processor=processor, device="cpu")
    from sparse3d.priors.pipelines import as_pil

    values = stock(as_pil(image))["predicted_depth"].reshape(48, 64)
    wanted = values.clamp(min=1e-3) if kind == "metric" else from_disparity(values)
    assert torch.allclose(found.depth, wanted, rtol=1e-4)


def test_depth_pro_tells_metres_and_the_focal_length(tmp_path):
    pytest.importorskip("transformers")
    model = tiny_depth_pro().eval()
    model.save_pretrained(tmp_path)
    network = NetworkDepth.load(str(tmp_path))
    image = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))
    found, told = network(image), network(image, 50.0)
    fed = torch.nn.functional.interpolate(2 * image[None] - 1, (64, 64), mode="bilinear", antialias=True)
    with torch.no_grad():
        output = model(pixel_values=fed)
    assert found.metric and found.focal == pytest.approx(
        32 / math.tan(math.radians(float(output.field_of_view)) / 2), rel=1e-4
    )
    assert told.focal == 50 and torch.allclose(told.depth / found.depth, torch.tensor(50 / found.focal), rtol=1e-3)


def test_zoedepth_tells_metres_of_the_picture_without_its_padding(tmp_path):
    pytest.importorskip("transformers")
    model, processor = tiny_zoedepth()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    network = NetworkDepth.load(str(tmp_path))
    image = torch.rand(3, 72, 128, generator=torch.Generator().manual_seed(0))
    found = network(image)
    assert found.metric and found.depth.shape == (72, 128) and bool((found.depth > 0).all())
    pad = 24  # 3 sqrt(128 / 2), of the longer side

    def ramp(pixel_values: torch.Tensor) -> SimpleNamespace:
        """The column in the photo that each pixel of the padded one belongs to, 10 more."""
        columns = pixel_values.shape[3]
        values = (torch.arange(columns) + 0.5) * (128 + 2 * pad) / columns - pad + 10
        return SimpleNamespace(predicted_depth=values.expand(1, pixel_values.shape[2], columns))

    network.model = Stub(network.model, ramp)
    wanted = torch.arange(128) + 0.5 + 10
    assert torch.allclose(network(image).depth, wanted.expand(72, 128), atol=0.2)  # bicubic ripples


class Stub:
    """A model with another forward pass."""

    def __init__(self, model: Any, call: Any) -> None:
        self.config, self.device, self.call = model.config, model.device, call

    def __call__(self, **inputs: Any) -> Any:
        return self.call(**inputs)


def test_networks_of_another_kind_are_refused(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.PromptDepthAnythingConfig(
        backbone_config=tiny_depth_anything()[0].config.backbone_config,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    transformers.PromptDepthAnythingForDepthEstimation(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="it is a prompt_depth_anything; known here are depth_anything"):
        NetworkDepth.load(str(tmp_path))


def test_folders_without_a_depth_network_are_refused(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    with pytest.raises(UserError, match="--depth-model geometric"):
        NetworkDepth.load(str(tmp_path))
    monkeypatch.setenv("SPARSE3D_OFFLINE", "1")
    with pytest.raises(UserError, match="sparse3d models fetch depth-anything-v2-small"):
        NetworkDepth.load("someone/depth")

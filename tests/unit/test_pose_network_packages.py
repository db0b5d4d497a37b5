"""The real packages of pose networks, where they are installed, with random weights: their sizes, conventions and layouts.

The networks' own weights are not needed: where a camera matters, it is put in place of what the random head gives.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.fake_networks import Rig, random_cameras
from torch import Tensor, nn

from sparse3d.geometry import pixel_rays
from sparse3d.io._pycolmap import cv2
from sparse3d.io.images import write_image
from sparse3d.pose.networks import depth_anything3, mapanything, pose_network, vggt
from sparse3d.pose.networks.placement import Placement, to_photos

pytestmark = pytest.mark.slow

SIZES = [
    [(300, 400), (480, 320), (270, 480)],
    [(300, 400), (270, 480)],
    [(480, 320)],
    [(301, 399), (479, 321)],
    [(361, 504), (357, 504)],
]
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]  # of ImageNet, which DINOv2 is normalized with
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def package(module: str) -> Any:
    """The module, or a skip that says why there is none."""
    cv2()
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{module} cannot be imported: {error}")


def coordinates(height: int, width: int) -> Tensor:
    """A photo whose red is x and whose green is y, both from 0 to 1."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, 0.5)])


def as_bytes(photo: Tensor) -> np.ndarray:
    return (photo * 255).round().byte().permute(1, 2, 0).numpy()


def check_placement(picture: Tensor, placed: Placement) -> None:
    """The photo lies in the picture where it is said to: its colours tell which of its points each pixel shows."""
    assert tuple(picture.shape[1:]) == placed.picture
    photographed = (picture[2] - 0.5).abs() < 0.01  # padding is white
    assert (photographed == placed.inside).all()
    v, u = torch.meshgrid(*((torch.arange(n) + 0.5).double() for n in placed.picture), indexing="ij")
    axes = ((u, placed.scale_x, placed.left), (v, placed.scale_y, placed.top))
    for channel, (pixel, scale, shift) in enumerate(axes):
        size = placed.photo[1 - channel]
        color = picture[channel].double()
        clear = photographed & (color > 0.05) & (color < 0.95)  # interpolation stops at the border
        off = color[clear] * size * scale + shift - pixel[clear]
        # rounding to 8 bits, up to three times, is at most a step and a half; it hardly moves or stretches the whole
        assert off.abs().max() < 1.5 * size * scale / 255 and off.mean().abs() < 0.2
        centred = pixel[clear] - pixel[clear].mean()
        assert ((off * centred).sum() / (centred * centred).sum()).abs() < 1e-3


class Fixed(nn.Module):
    """Gives the same whatever it is asked."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, *_: Any, **__: Any) -> Any:
        return self.value


def picture_K(rig: Rig, placements: Sequence[Placement]) -> Tensor:
    """Intrinsics of the rig in pixels of the pictures, (1, V, 3, 3)."""
    return torch.stack([p.matrix @ k for p, k in zip(placements, rig.K, strict=True)])[None].float()


def check_cameras(got: Any, rig: Rig) -> None:
    torch.testing.assert_close(got.w2c.double(), rig.w2c, rtol=0, atol=1e-4)
    torch.testing.assert_close(got.K.double(), rig.K, rtol=0, atol=0.01)
    assert got.depth is not None and got.depth.isfinite().all()


@pytest.mark.parametrize("sizes", SIZES)
def test_depth_anything3_pictures(sizes):
    """And the intrinsics that the package itself carries along."""
    processor = package("depth_anything_3.utils.io.input_processor").InputProcessor()
    K = random_cameras(sizes, centred=False).K
    images = [as_bytes(coordinates(*size)) for size in sizes]
    pictures, _, carried = processor(images, None, K.numpy(), 504, "upper_bound_resize")
    placements = depth_anything3.placed(sizes)
    for picture, placed in zip(pictures, placements, strict=True):
        check_placement(picture * STD + MEAN, placed)
    torch.testing.assert_close(to_photos(carried, placements), K, rtol=0, atol=1e-3)


def test_depth_anything3_cameras(tmp_path: Path):
    api = package("depth_anything_3.api")
    encode = package("depth_anything_3.model.utils.transform").extri_intri_to_pose_encoding
    api.DepthAnything3(model_name="da3-small").save_pretrained(tmp_path, config={"model_name": "da3-small"})
    network = pose_network("da3-base", tmp_path)
    rig = random_cameras(SIZES[0])
    placements = depth_anything3.placed(SIZES[0])
    code = encode(torch.linalg.inv(rig.w2c)[None].float(), picture_K(rig, placements), placements[0].picture)
    network._model.model.cam_dec = Fixed(code)  # type: ignore[attr-defined]
    check_cameras(network.predict(rig.photos, "cpu"), rig)


@pytest.mark.parametrize("mode", ["crop", "pad"])
@pytest.mark.parametrize("sizes", SIZES)
def test_vggt_pictures(sizes, mode, tmp_path):
    load = package("vggt.utils.load_fn").load_and_preprocess_images
    paths = [tmp_path / f"{index}.png" for index in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        write_image(path, coordinates(*size))
    for picture, placed in zip(load([str(path) for path in paths], mode=mode), vggt.placed(sizes, mode), strict=True):
        check_placement(picture, placed)


@pytest.mark.parametrize("sizes", SIZES[:2])
def test_vggt_cameras(sizes, monkeypatch, tmp_path):
    model = package("vggt.models.vggt")
    encode = package("vggt.utils.pose_enc").extri_intri_to_pose_encoding
    # a narrow network: 64 features instead of 1024, patches embedded by one convolution
    narrow = functools.partial(model.Aggregator, patch_embed="conv", num_heads=4)
    monkeypatch.setattr(model, "Aggregator", narrow)
    model.VGGT(embed_dim=64).save_pretrained(tmp_path, config={"embed_dim": 64})
    network = pose_network("vggt", tmp_path)
    rig = random_cameras(sizes)
    placements = vggt.placed(sizes, "pad" if len(sizes) == 3 else "crop")
    code = encode(rig.w2c[None, :, :3].float(), picture_K(rig, placements), placements[0].picture)
    network._model.camera_head = Fixed([code])  # type: ignore[attr-defined]
    check_cameras(network.predict(rig.photos, "cpu"), rig)


@pytest.mark.parametrize("sizes", SIZES)
def test_mapanything_pictures(sizes):
    preprocess = package("mapanything.utils.image").preprocess_inputs
    views = preprocess([{"img": as_bytes(coordinates(*size))} for size in sizes])
    placements = mapanything.placed(sizes, *views[0]["img"].shape[-2:])
    for view, placed in zip(views, placements, strict=True):
        check_placement(view["img"][0] * STD + MEAN, placed)


def test_mapanything_counts_from_pixel_centres():
    """The rays of our intrinsics are, to the package, those of a principal point half a pixel less."""
    recover = package("mapanything.utils.geometry").recover_pinhole_intrinsics_from_ray_directions
    K = torch.tensor([[300.0, 0, 130], [0, 310, 90], [0, 0, 1]])
    rays = pixel_rays(K, 168, 252)
    torch.testing.assert_close(
        recover(rays / rays.norm(dim=-1, keepdim=True)) + mapanything._HALF_PIXEL, K, rtol=0, atol=1e-3
    )

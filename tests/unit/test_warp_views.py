"""Warping views: photos of the example room with true depth, masks, types, and mistakes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from support.synthetic import textured_plane
from torch import Tensor

from sparse3d.types import Cameras, View
from sparse3d.warp import warp_views

EXAMPLES = Path(__file__).parents[2] / "examples"


def photo(name: str) -> tuple[View, Tensor]:
    """An example photo at a quarter of its size, and its true depth."""
    layout = json.loads((EXAMPLES / "ground_truth" / "transforms.json").read_text())
    frame = next(f for f in layout["frames"] if Path(f["file_path"]).stem == name)
    picture = (
        ImageOps.exif_transpose(Image.open(EXAMPLES / "ground_truth" / frame["file_path"])).convert("RGB").reduce(4)
    )
    stored = np.asarray(Image.open(EXAMPLES / "ground_truth" / frame["depth_file_path"])).astype(np.float32)
    c2w = np.array(frame["transform_matrix"]) @ np.diag([1.0, -1, -1, 1])
    focal = layout["fl_x"] / 4
    K = torch.tensor([[focal, 0, layout["cx"] / 4], [0, focal, layout["cy"] / 4], [0, 0, 1]])
    image = torch.from_numpy(np.asarray(picture, np.float32) / 255).permute(2, 0, 1)
    depth = torch.from_numpy(stored * np.float32(frame["depth_unit_scale_factor"]))
    return View(name, image, K, torch.from_numpy(c2w).float()), depth


@pytest.mark.skipif(
    not (EXAMPLES / "photos" / "room_01.jpg").exists(),
    reason="examples/photos is not in source archives; run python examples/make_photos.py",
)
@pytest.mark.parametrize("index", [2, 4, 6])
def test_a_room_seen_from_between_two_photos(index):
    """Ray-cast photos with true depth, half a metre and seven degrees to either side of the one they are compared with."""
    (left, left_depth), (truth, depth), (right, right_depth) = (photo(f"room_{index + k:02d}") for k in (-1, 0, 1))
    got = warp_views([left, right], [left_depth, right_depth], truth.cameras)
    seen = got.validity > 0.5
    psnr = -10 * torch.log10(((got.color - truth.image) ** 2)[:, seen].mean())
    # 28.5 to 29.1 dB over the photos: two bilinear samplings, exposure that differs by up to 5 % and sensor noise remain
    assert psnr > 28 and seen.double().mean() > 0.93  # 0.94 to 0.99
    assert ((got.depth / depth - 1).abs() < 0.01)[seen].double().mean() > 0.975  # 0.983 and more; the rest are edges


def test_views_with_masks_and_float64():
    views, depths = textured_plane()
    source, target = views.views[0], views.views[1]
    mask = torch.ones(source.height, source.width, dtype=torch.bool)
    mask[:, :50] = False
    got = warp_views([replace(source, mask=mask)], depths[:1], target.cameras)
    hidden = torch.where(mask, depths[0], torch.zeros_like(depths[0]))
    want = warp_views([source], [hidden], target.cameras)
    assert torch.equal(got.color, want.color) and 0.3 < (got.validity > 0).double().mean() < 0.6
    double = [replace(v, image=v.image.double(), K=v.K.double(), c2w=v.c2w.double()) for v in (source, target)]
    exact = warp_views(double[:1], [depths[0].double()], double[1].cameras)
    assert exact.color.dtype == torch.float64
    both = (exact.validity > 0) & (warp_views([source], depths[:1], target.cameras).validity > 0)
    torch.testing.assert_close(
        warp_views([source], depths[:1], target.cameras).color[:, both].double(),
        exact.color[:, both],
        rtol=0,
        atol=1e-3,
    )


def test_mistakes_of_views_are_named():
    views, depths = textured_plane()
    camera = views.views[0].cameras
    with pytest.raises(ValueError, match="camera holds 2 cameras"):
        warp_views(views.views, depths, Cameras(camera.c2w.repeat(2, 1, 1), camera.K.repeat(2, 1, 1), 4, 4))
    with pytest.raises(ValueError, match="depths holds 2 maps for 3 views"):
        warp_views(views.views, depths[:2], camera)
    with pytest.raises(ValueError, match=r"depths\[1\] has shape \(72, 95\)"):
        warp_views(views.views, [depths[0], depths[1][:, 1:], depths[2]], camera)
    with pytest.raises(ValueError, match="views is empty"):
        warp_views([], [], camera)

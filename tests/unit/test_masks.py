"""What a mask leaves out is neither matched nor placed."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.synthetic import textured_plane
from torch import Tensor

from sparse3d.config import InitConfig, PoseConfig
from sparse3d.errors import UserError
from sparse3d.geometry import project
from sparse3d.init.planesweep import estimate_depths, world_points
from sparse3d.io._pycolmap import pycolmap
from sparse3d.pose import colmap
from sparse3d.pose.features import extract_features, write_photos
from sparse3d.pose.triangulate import triangulate
from sparse3d.progress import StageReporter
from sparse3d.types import Photo, PosedViews

SWEEP = InitConfig(max_size=96, planes=48, sources=2, near=2.0, far=8.0)


def photos_of(posed: PosedViews, masks: list[Tensor | None]) -> list[Photo]:
    return [Photo(v.name, v.image, v.K, "given", "", mask) for v, mask in zip(posed.views, masks, strict=True)]


def keypoints(database: Path) -> list[np.ndarray]:
    """(M, 2) pixels of each image in COLMAP's database, in the order of their names."""
    connection = sqlite3.connect(database)
    query = "SELECT rows, cols, data FROM keypoints JOIN images USING (image_id) ORDER BY name"
    found = [np.frombuffer(d, np.float32).reshape(n, c)[:, :2] for n, c, d in connection.execute(query)]
    connection.close()
    return found


def masked_out(points: np.ndarray, mask: Tensor) -> int:
    """How many points lie on pixels that the mask leaves out."""
    column, row = points.astype(int).T
    return int((~mask.numpy()[row, column]).sum())


def right_half(height: int, width: int) -> Tensor:
    return (torch.arange(width) >= width // 2).expand(height, width)


def test_no_features_where_a_mask_leaves_out(tmp_path):
    posed, _ = textured_plane(240, 320, views=2)
    mask = right_half(240, 320)
    found = {}
    for name, masks in (("with", [mask, None]), ("without", [None, None])):
        photos = photos_of(posed, masks)
        write_photos(tmp_path / name, photos)
        assert (tmp_path / name / "masks").exists() == (name == "with")
        extract_features(pycolmap(), tmp_path / name, photos, PoseConfig())
        found[name] = keypoints(tmp_path / name / "database.db")
    assert masked_out(found["with"][0], mask) == 0
    assert masked_out(found["without"][0], mask) > 50  # there was something to leave out
    kept = len(found["without"][0]) - masked_out(found["without"][0], mask)
    assert len(found["with"][0]) == kept  # and nothing else went
    np.testing.assert_array_equal(found["with"][1], found["without"][1])  # the photo without a mask is whole


def test_pose_estimation_hands_the_masks_on(monkeypatch):
    posed, _ = textured_plane(120, 160, views=2)
    mask = right_half(120, 160)
    found: list[np.ndarray] = []

    def no_map(_colmap, folder, *_rest):
        found.extend(keypoints(folder / "database.db"))

    monkeypatch.setattr(colmap, "_map", no_map)
    with pytest.raises(UserError):
        colmap.estimate(photos_of(posed, [mask, mask]), PoseConfig(), 0, StageReporter("pose"))
    assert len(found) == 2 and all(len(points) > 50 and masked_out(points, mask) == 0 for points in found)


def test_no_points_where_masks_leave_out():
    """The part of the plane with x < 0 is masked out in every view; no point comes to lie there."""
    posed, depths = textured_plane(180, 240)
    masks = [world_points(view, depth)[..., 0] >= 0 for view, depth in zip(posed.views, depths, strict=True)]
    views = tuple(replace(view, mask=mask) for view, mask in zip(posed.views, masks, strict=True))
    open_points = triangulate(posed, PoseConfig(), seed=0)
    points = triangulate(replace(posed, views=views), PoseConfig(), seed=0)
    assert (open_points.xyz[:, 0] < -0.1).sum() > 50
    assert len(points) > 50
    assert points.xyz[:, 0].min() > -0.04  # one pixel, at a depth of 4 and a focal length of 100 pixels


@pytest.mark.parametrize("both", [True, False])
def test_masked_pixels_of_sources_are_no_match(both):
    """A view without a mask has depth only where one of its two sources has not masked out what it sees."""
    posed, depths = textured_plane()
    points = [world_points(view, depth) for view, depth in zip(posed.views, depths, strict=True)]
    middle, *sources = (posed.views[1], replace(posed.views[0], mask=points[0][..., 0] >= 0), posed.views[2])
    if both:
        sources[1] = replace(posed.views[2], mask=points[2][..., 0] >= 0)
    plain = estimate_depths(posed, SWEEP, StageReporter("init"))[1]
    masked = estimate_depths(replace(posed, views=(sources[0], middle, sources[1])), SWEEP, StageReporter("init"))[1]

    seen = torch.zeros(72, 96, dtype=torch.bool)  # by a source, where it counts, at the depth that the sweep found
    for source in sources:
        pixels, _ = project(world_points(middle, plain.depth).reshape(-1, 3), source.cameras.w2c[0], source.K)
        column, row = pixels.floor().long().T
        inside = (column >= 0) & (column < 96) & (row >= 0) & (row < 72)
        if source.mask is not None:
            inside &= source.mask[row.clamp(0, 71), column.clamp(0, 95)]
        seen |= inside.reshape(72, 96)
    rounding = ((masked.depth > 0) != seen).float().mean()  # a projection on the border of two pixels may go either way
    assert rounding < 1e-3
    torch.testing.assert_close(masked.depth[masked.depth > 0], plain.depth[masked.depth > 0])
    background = points[1][..., 0] < -0.05
    share = (masked.depth[background] > 0).float().mean()
    assert share < 0.02 if both else share > 0.7  # the other source does not see all of it
    assert (masked.support[masked.depth == 0] == 0).all()

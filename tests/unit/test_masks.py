"""What a mask leaves out is neither matched nor placed."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.synthetic import textured_plane
from torch import Tensor

from sparse3d.config import InitConfig, PoseConfig
from sparse3d.geometry import project
from sparse3d.init.planesweep import estimate_depths, world_points
from sparse3d.pose import learned
from sparse3d.pose.ladder import climb
from sparse3d.pose.sift import Sift
from sparse3d.pose.triangulate import triangulate
from sparse3d.progress import StageReporter
from sparse3d.types import Photo, PosedViews

SWEEP = InitConfig(max_size=96, planes=48, sources=2, near=2.0, far=8.0, min_confidence=0.0)


def photos_of(posed: PosedViews, masks: list[Tensor | None]) -> list[Photo]:
    return [Photo(v.name, v.image, v.K, "given", "", mask) for v, mask in zip(posed.views, masks, strict=True)]


def masked_out(points: np.ndarray, mask: Tensor) -> int:
    """How many points lie on pixels that the mask leaves out."""
    column, row = points.astype(int).T
    return int((~mask.numpy()[row, column]).sum())


def right_half(height: int, width: int) -> Tensor:
    return (torch.arange(width) >= width // 2).expand(height, width)


def test_no_features_where_a_mask_leaves_out():
    posed, _ = textured_plane(240, 320, views=2)
    mask = right_half(240, 320)
    sift, progress = Sift(PoseConfig(), thorough=False), StageReporter("pose")
    found = {
        name: sift.match(photos_of(posed, masks), [(0, 1)], progress).keypoints
        for name, masks in (("with", [mask, None]), ("without", [None, None]))
    }
    assert masked_out(found["with"][0], mask) == 0
    assert masked_out(found["without"][0], mask) > 50  # there was something to leave out
    kept = len(found["without"][0]) - masked_out(found["without"][0], mask)
    assert len(found["with"][0]) == kept  # and nothing else went
    np.testing.assert_array_equal(found["with"][1], found["without"][1])  # the photo without a mask is whole


def test_learned_features_are_left_out_by_masks(monkeypatch):
    """Whatever the network finds; here a point on every second pixel of what it is shown, lying on its side."""

    def everywhere(pictures):
        height, width = pictures.shape[2:]
        v, u = torch.meshgrid(torch.arange(0.0, height, 2), torch.arange(0.0, width, 2), indexing="ij")
        points = torch.stack([u, v], dim=-1).reshape(-1, 2)
        return [SimpleNamespace(keypoints=points, descriptors=points)]

    def all_in_order(features):
        count = min(features[name]["keypoints"].shape[1] for name in ("image0", "image1"))
        index = torch.arange(count)
        return {"matches": [torch.stack([index, index], dim=1)], "scores": [torch.ones(count)]}

    monkeypatch.setattr(learned, "_extractor", lambda name, max_features: everywhere)
    monkeypatch.setattr(learned, "_lightglue", lambda name: all_in_order)
    posed, _ = textured_plane(24, 32, views=2)
    mask = right_half(24, 32)
    photos = [replace(photo, sha256=photo.name) for photo in photos_of(posed, [mask, None])]
    matcher = learned.KorniaMatcher("aliked", 1024)
    for turn in range(4):
        found = matcher.match(photos, [(0, 1)], StageReporter("pose"), {0: turn})
        assert masked_out(found.keypoints[0], mask) == 0
        assert (len(found.keypoints[0]), len(found.keypoints[1])) == (12 * 8, 12 * 16)
        assert found.count((0, 1)) == 12 * 8


def test_pose_estimation_hands_the_masks_on():
    posed, _ = textured_plane(120, 160, views=2)
    mask = right_half(120, 160)
    config = PoseConfig(matchers="sift")
    found = climb(photos_of(posed, [mask, mask]), config, 0, StageReporter("pose")).correspondences
    assert all(len(points) > 50 and masked_out(points, mask) == 0 for points in found.keypoints)
    assert found.count((0, 1)) > 20


def test_no_points_where_masks_leave_out():
    """The part of the plane with x < 0 is masked out in every view; no point comes to lie there."""
    posed, depths = textured_plane(180, 240)
    masks = [world_points(view, depth)[..., 0] >= 0 for view, depth in zip(posed.views, depths, strict=True)]
    views = tuple(replace(view, mask=mask) for view, mask in zip(posed.views, masks, strict=True))
    open_points = triangulate(posed, PoseConfig(), 0, StageReporter("pose"))
    points = triangulate(replace(posed, views=views), PoseConfig(), 0, StageReporter("pose"))
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
    rounding = ((masked.depth > 0) != seen).float().mean()  # borders of two pixels and specks
    assert rounding < 2e-3
    matched = (masked.depth > 0) & ~masked.filled & ~plain.filled
    torch.testing.assert_close(masked.depth[matched], plain.depth[matched])
    background = points[1][..., 0] < -0.05
    share = (masked.depth[background] > 0).float().mean()
    assert share < 0.02 if both else share > 0.7  # the other source does not see all of it
    assert (masked.support[masked.depth == 0] == 0).all()

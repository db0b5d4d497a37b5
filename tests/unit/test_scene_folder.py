from __future__ import annotations

import json

import pytest
import torch
from support.synthetic import textured_plane

from sparse3d.errors import UserError
from sparse3d.io.scene import SceneFolder, content_hash
from sparse3d.io.views import file_names, load_views, save_views, unique_stems
from sparse3d.types import Points, PosedViews


def test_a_stage_that_fails_leaves_what_was_there(tmp_path):
    scene = SceneFolder.create(tmp_path / "scene")
    with scene.write_stage("01_pose", "key") as (folder, facts):
        facts["photos"] = 3
        (folder / "result").write_text("good")
    assert scene.facts("01_pose")["photos"] == 3 and scene.facts("02_init") == {}
    assert scene.is_done("01_pose", "key") and not scene.is_done("01_pose", "other")
    with pytest.raises(RuntimeError), scene.write_stage("01_pose", "other") as (folder, _):
        (folder / "result").write_text("half")
        raise RuntimeError
    assert scene.is_done("01_pose", "key")
    assert (scene.stage_path("01_pose") / "result").read_text() == "good"
    with scene.write_stage("01_pose", "third") as (folder, _):
        (folder / "result").write_text("better")
    assert scene.is_done("01_pose", "third")
    assert [path.name for path in scene.stage_path("01_pose").parent.iterdir()] == ["01_pose"]  # leftovers are gone


def test_hash_depends_on_values_only():
    assert content_hash({"a": 1, "b": [1, 2]}) == content_hash({"b": [1, 2], "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": 2})


def test_a_spoiled_manifest_is_named(tmp_path):
    (tmp_path / "scene.json").write_text("{not json")
    with pytest.raises(UserError, match="is not a scene's manifest"):
        SceneFolder.open(tmp_path)


def test_views_come_back_as_they_were(tmp_path):
    posed, _ = textured_plane(12, 16)
    first, second, third = posed.views
    mask = torch.rand(12, 16) > 0.5
    views = (
        type(first)("a/x.jpg", first.image, first.K, first.c2w, mask),
        type(second)("b/x.png", second.image, second.K, second.c2w),
        third,
    )
    points = Points(torch.rand(3, 3), torch.rand(3, 3), torch.rand(3), (("a/x.jpg", "b/x.png"), (), ("2",)))
    save_views(tmp_path, PosedViews(views, points))
    loaded = load_views(tmp_path)
    assert loaded.names == ["a/x.jpg", "b/x.png", "2"] and loaded.points.tracks == points.tracks
    assert torch.equal(loaded.points.xyz, points.xyz) and torch.equal(loaded.points.error_px, points.error_px)
    for got, want in zip(loaded.views, views, strict=True):
        assert torch.equal(got.c2w, want.c2w) and torch.equal(got.K, want.K)
        assert (got.image - want.image).abs().max() <= 0.5 / 255 + 1e-6
    assert loaded.views[0].mask is not None and torch.equal(loaded.views[0].mask, mask) and loaded.views[1].mask is None
    assert json.loads((tmp_path / "cameras.json").read_text())[0]["file"] == "views/x.png"


def test_file_names_are_unique():
    assert file_names(["a/x.jpg", "b/x.png", "y.jpg"]) == {"a/x.jpg": "x", "b/x.png": "x_", "y.jpg": "y"}


def test_stems_are_unique_for_equal_names_too():
    assert unique_stems(["x.png", "x.png", "x_.png", "x.JPG"]) == ["x", "x_", "x__", "x___"]
    assert unique_stems(["a.png", "A.png"]) == ["a", "A_"]  # one file where the file system ignores case
    assert unique_stems(["shot.1", "shot.2", "shot.2.jpeg"]) == ["shot.1", "shot.2", "shot.2_"]  # no suffix of an image

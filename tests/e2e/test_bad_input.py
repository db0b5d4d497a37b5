"""What a user gets wrong: a message that says what to do, exit code 2, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from support.commands import SMALL

from sparse3d.io.images import read_image, write_image
from sparse3d.io.scene import FORMAT, SceneFolder


def said(result) -> str:
    """Everything the command printed, on one line."""
    return " ".join(result.output.split())


def assert_refused(result, *words: str) -> None:
    """Exit code 2, one paragraph with these words, no traceback."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in said(result), said(result)


def test_no_such_folder(run, photos, tmp_path):
    assert_refused(run("recon", tmp_path / "nothing", "-o", tmp_path / "out"), "nothing")
    assert not (tmp_path / "out").exists()


def test_empty_folder(run, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_refused(run("recon", tmp_path / "empty", "-o", tmp_path / "out"), ".jpg, .jpeg, .png", "holds nothing")


def test_one_photo_points_to_hallucinate(run, photos, tmp_path):
    assert_refused(
        run("recon", photos / "room_01.jpg", "-o", tmp_path / "out"),
        "at least 2 photos",
        "sparse3d hallucinate --single room_01.jpg",
    )


@pytest.fixture
def with_a_corrupt_one(photos, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("room_02.jpg", "room_03.jpg", "room_04.jpg"):
        shutil.copy(photos / name, folder)
    data = (photos / "room_05.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(data[: len(data) // 3])
    return folder


def test_a_corrupt_photo_is_skipped_with_a_warning(run, with_a_corrupt_one, tmp_path):
    result = run("recon", with_a_corrupt_one, "-o", tmp_path / "out", *SMALL, "--set", "optimize.steps=2")
    assert result.exit_code == 0, result.output
    assert "broken.jpg" in result.output
    manifest = json.loads((tmp_path / "out" / "scene.json").read_text())
    pose = manifest["stages"]["01_pose"]
    assert pose["photos_found"] == 3 and any("broken.jpg" in warning for warning in pose["warnings"])
    assert "broken.jpg" in (tmp_path / "out" / "report.html").read_text()
    again = run("recon", with_a_corrupt_one, "-o", tmp_path / "out", *SMALL, "--set", "optimize.steps=2", "--json")
    assert any("broken.jpg" in warning for warning in json.loads(again.stdout)["warnings"])
    assert "broken.jpg" in again.stderr


def test_a_corrupt_photo_stops_a_strict_run(run, with_a_corrupt_one, tmp_path):
    assert_refused(run("recon", with_a_corrupt_one, "-o", tmp_path / "out", *SMALL, "--strict"), "broken.jpg")


def test_photos_that_do_not_overlap(run, tmp_path):
    folder = tmp_path / "noise"
    generator = torch.Generator().manual_seed(0)
    for index in range(3):
        small = torch.rand(1, 3, 24, 32, generator=generator)
        write_image(folder / f"{index}.png", torch.nn.functional.interpolate(small, (192, 256), mode="bicubic")[0])
    assert_refused(
        run("recon", folder, "-o", tmp_path / "out", *SMALL),
        "cameras of these 3 photos could not be found",
        *("0.png: ", "1.png: ", "2.png: "),
        *("overlap by half", "--poses"),
    )


def test_known_cameras_that_name_missing_photos(run, photos, repository, tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    for name in ("room_02.jpg", "room_03.jpg"):
        shutil.copy(photos / name, folder)
    cameras = repository / "examples" / "ground_truth" / "transforms.json"
    assert_refused(
        run("recon", folder, "-o", tmp_path / "strict", *SMALL, "--poses", cameras, "--strict"), "room_01.jpg"
    )
    result = run("recon", folder, "-o", tmp_path / "out", *SMALL, "--poses", cameras, "--set", "optimize.steps=2")
    assert result.exit_code == 0, result.output
    assert "room_01.jpg" in result.output
    other = tmp_path / "other"
    other.mkdir()
    for index in (1, 2):
        shutil.copy(photos / f"room_0{index}.jpg", other / f"my_{index}.jpg")
    assert_refused(run("recon", other, "-o", tmp_path / "none", *SMALL, "--poses", cameras), "my_1.jpg")


@pytest.fixture
def room(repository):
    """Copies some photos, changed by a function, and names the options of a quick run with their cameras."""

    def copied(folder, names, changed=None):
        for name in names:
            picture = read_image(repository / "examples" / "photos" / f"{name}.jpg").image
            mask = None if changed is None else changed(name, picture)
            write_image(folder / f"{name}.png", picture, mask)
        cameras = json.loads((repository / "examples" / "ground_truth" / "transforms.json").read_text())
        for frame in cameras["frames"]:
            frame["file_path"] = frame["file_path"].replace(".jpg", ".png")
        (folder / "transforms.json").write_text(json.dumps(cameras))
        return [folder, *SMALL, "--poses", folder / "transforms.json"]

    return copied


def test_masks_that_cover_everything(run, room, tmp_path):
    """The alpha channel of one photo, then of all but one, lets nothing through."""

    def masked(covered):
        return lambda name, picture: torch.full(picture.shape[1:], name not in covered)

    names, steps = ("room_02", "room_03", "room_04"), ("--set", "optimize.steps=2")
    result = run("recon", *room(tmp_path / "one", names, masked(("room_03",))), *steps, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "room_03.png: is transparent everywhere" in said(result)
    assert json.loads((tmp_path / "out" / "scene.json").read_text())["stages"]["01_pose"]["photos_found"] == 2
    assert_refused(
        run("recon", *room(tmp_path / "all", names, masked(names)), *steps, "-o", tmp_path / "none"),
        "none of the photos",
        *(f"{name}.png: is transparent everywhere" for name in names),
    )


def test_a_photo_four_stops_darker_is_made_up_for_and_told(run, room, tmp_path):
    def darkened(name, picture):
        if name == "room_03":
            linear = torch.where(picture <= 0.04045, picture / 12.92, ((picture + 0.055) / 1.055) ** 2.4) / 16
            picture.copy_(
                torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055)
            )

    names = ("room_02", "room_03", "room_04")
    result = run("recon", *room(tmp_path / "photos", names, darkened), "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "another exposure or white balance" in said(result) and "room_03.png (red x0." in said(result)


def test_two_photos_are_enough(run, room, tmp_path):
    result = run("recon", *room(tmp_path / "photos", ("room_03", "room_04")), "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "scene.ply").is_file()


def test_missing_camera_file(run, photos, tmp_path):
    assert_refused(run("recon", photos, "-o", tmp_path / "out", "--poses", tmp_path / "no.json"), "no.json")


def test_missing_video(run, tmp_path):
    assert_refused(run("recon", tmp_path / "walk.mp4", "-o", tmp_path / "out"), "there is no video", "walk.mp4")
    assert not (tmp_path / "out").exists()


def test_output_that_cannot_be_written(run, photos, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    assert_refused(run("recon", photos, "-o", tmp_path / "file" / "scene"), "cannot write to", "-o")
    assert (tmp_path / "file").read_text() == "not a folder"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_output_without_permission(run, photos, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert_refused(run("recon", photos, "-o", locked / "scene"), "cannot write to", "-o")


def test_output_that_holds_something_else(run, photos, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert_refused(run("recon", photos, "-o", tmp_path), "holds other files", "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_scene_of_a_newer_version(run, photos, tmp_path):
    scene = tmp_path / "scene"
    scene.mkdir()
    (scene / "scene.json").write_text(json.dumps({"format": FORMAT + 1, "sparse3d": "9.9", "stages": {}}))
    before = (scene / "scene.json").read_bytes()
    for command in (
        ("recon", photos, "-o", scene),
        ("view", scene),
        ("eval", scene),
        ("render", scene, "--path", "orbit"),
    ):
        assert_refused(run(*command), f"format {FORMAT + 1}", "sparse3d 9.9", "pip install -U sparse3d")
    assert (scene / "scene.json").read_bytes() == before


def test_not_a_scene_and_not_finished(run, tmp_path):
    assert_refused(run("view", tmp_path), "is not a scene folder", "sparse3d recon")
    SceneFolder.create(tmp_path / "new").update({"format": FORMAT})
    assert_refused(run("view", tmp_path / "new"), "is not finished")


def test_two_runs_in_one_folder(run, photos, tmp_path):
    folder = SceneFolder.create(tmp_path / "scene")
    with folder.locked():
        assert_refused(run("recon", photos, "-o", tmp_path / "scene", *SMALL), "another sparse3d run")


def test_holdout_that_leaves_too_little(run, photos, tmp_path, repository):
    cameras = repository / "examples" / "ground_truth" / "transforms.json"
    assert_refused(
        run("recon", photos, "-o", tmp_path / "out", *SMALL, "--poses", cameras, "--holdout", "1"),
        "leaves 0 of 8 views",
    )


def test_wrong_settings_stop_before_any_work(run, photos, tmp_path):
    assert_refused(run("recon", photos, "-o", tmp_path / "a", "--set", "optimize.step=5"), "did you mean 'steps'")
    assert_refused(run("recon", photos, "-o", tmp_path / "b", "--preset", "fst"), "did you mean 'fast'")
    assert_refused(run("recon", photos, "-o", tmp_path / "c", "--renderer", "vulkan"), "auto, gsplat, cpu, reference")
    assert not any((tmp_path / name).exists() for name in "abc")


def test_render_needs_one_way(run, known_scene, tmp_path):
    assert_refused(run("render", known_scene, "-o", tmp_path / "o"), "--camera FILE and --path orbit")
    assert_refused(run("render", known_scene, "--path", "helix", "-o", tmp_path / "o"), "choose one of orbit")


def test_eval_needs_held_out_views(run, known_scene, photos):
    assert_refused(run("eval", known_scene), "has no held-out views", "--holdout 8")
    assert_refused(run("eval", known_scene, "--photos", photos), "--photos and --poses together")

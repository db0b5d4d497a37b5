"""Looking at a finished scene: render, eval, view."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request

import pytest
import torch
from support.commands import SMALL

from sparse3d.io.images import read_image
from sparse3d.io.views import load_views


def test_render_draws_each_frame_at_its_own_size(known_scene, run, tmp_path):
    frames = json.loads((known_scene / "cameras" / "transforms.json").read_text())
    first, second = frames["frames"][0], dict(frames["frames"][1])
    for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        second[key] = (second.get(key) or frames[key]) / 2
    file = tmp_path / "two.json"
    file.write_text(json.dumps({**frames, "frames": [first, second]}))
    result = run("render", known_scene, "--camera", file, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    drawn = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in drawn] == ["room_01.png", "room_02.png"]
    assert [tuple(read_image(path).image.shape) for path in drawn] == [(3, 189, 252), (3, 94, 126)]
    photo = read_image(known_scene / "views" / "room_01.png").image
    assert (read_image(drawn[0]).image - photo).abs().mean() < 0.1


def test_render_orbit(known_scene, run, tmp_path):
    result = run("render", known_scene, "--path", "orbit", "--frames", "3", "-o", tmp_path / "orbit", "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["files"]) == 3
    pictures = [read_image(path).image for path in sorted((tmp_path / "orbit").iterdir())]
    assert len(pictures) == 3 and all(picture.std() > 0.1 for picture in pictures)
    assert (pictures[0] - pictures[1]).abs().mean() > 0.01


def test_render_along_a_camera_path_of_nerfstudio(known_scene, run, tmp_path):
    """The same camera, once as a frame and once as a camera of a path, draws the same picture."""
    cameras = json.loads((known_scene / "cameras" / "transforms.json").read_text())
    frame = cameras["frames"][0]
    centred = {"fl_x": 200.0, "fl_y": 200.0, "cx": 60.0, "cy": 45.0, "w": 120, "h": 90}
    (tmp_path / "frame.json").write_text(json.dumps({"frames": [frame | centred]}))
    matrix = [number for row in frame["transform_matrix"] for number in row]
    camera = {"camera_to_world": matrix, "fov": math.degrees(2 * math.atan(45 / 200)), "aspect": 120 / 90}
    path = {"camera_type": "perspective", "render_height": 90, "render_width": 120, "fps": 24, "seconds": 1}
    (tmp_path / "path.json").write_text(json.dumps(path | {"camera_path": [camera, camera]}))
    for name in ("frame", "path"):
        result = run("render", known_scene, "--camera", tmp_path / f"{name}.json", "-o", tmp_path / name)
        assert result.exit_code == 0, result.output
    assert sorted(file.name for file in (tmp_path / "path").iterdir()) == ["0000.png", "0001.png"]
    (alone,) = (tmp_path / "frame").iterdir()
    # the focal length goes through an angle and back: a pixel may round to the next of 255 steps
    assert (read_image(alone).image - read_image(tmp_path / "path" / "0001.png").image).abs().max() <= 1.01 / 255


def test_frames_that_share_a_file_name_are_all_drawn(known_scene, run, tmp_path):
    cameras = json.loads((known_scene / "cameras" / "transforms.json").read_text())
    small = {"fl_x": 100.0, "fl_y": 100.0, "cx": 32.0, "cy": 24.0, "w": 64, "h": 48}
    frames = [
        cameras["frames"][i] | small | {"file_path": path} for i, path in ((0, "left/a.v2.png"), (4, "right/a.v2.png"))
    ]
    (tmp_path / "two.json").write_text(json.dumps({"frames": frames}))
    result = run("render", known_scene, "--camera", tmp_path / "two.json", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    first, second = (read_image(tmp_path / "out" / name).image for name in ("a.v2.png", "a.v2_.png"))
    assert len(list((tmp_path / "out").iterdir())) == 2 and (first - second).abs().mean() > 0.01


def test_recon_with_the_cameras_of_a_scene(scene, photos, run, tmp_path):
    """The cameras of a scene are those of its undistorted views: they come back with these, exactly."""
    again = tmp_path / "again"
    result = run("recon", photos, "-o", again, *SMALL, "--set", "optimize.steps=2", "--poses", scene)
    assert result.exit_code == 0, result.output
    want, got = (load_views(folder / "stages" / "01_pose") for folder in (scene, again))
    assert got.names == want.names and len(got.points) == len(want.points) > 0
    for a, b in zip(got.views, want.views, strict=True):
        assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("c2w", "K", "image"))
    changed = tmp_path / "changed"
    shutil.copytree(photos, changed)
    name, other = want.names[0], want.names[1]
    shutil.copy(photos / other, changed / name)
    result = run("recon", changed, "-o", tmp_path / "none", *SMALL, "--poses", scene)
    assert result.exit_code == 2 and f"other photos of the same name: {name}" in " ".join(result.output.split())


def test_eval_on_photos_with_known_cameras(known_scene, repository, run, tmp_path):
    heldout = repository / "examples" / "heldout"
    result = run(
        "eval",
        known_scene,
        "--photos",
        heldout,
        "--poses",
        heldout / "transforms.json",
        "-o",
        tmp_path / "pairs",
        "--json",
    )
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert set(answer["views"]) == {"room_heldout_1.jpg", "room_heldout_2.jpg"}
    assert (
        answer["mean"]["psnr"] > 16
    )  # drawn from a quarter-size scene at full size; a misplaced scene scores about 11
    assert "LPIPS left out" in result.stderr or "lpips" in answer["mean"]
    assert len(list((tmp_path / "pairs").iterdir())) == 2


def test_eval_needs_one_photo_only(known_scene, repository, run, tmp_path):
    heldout = repository / "examples" / "heldout"
    shutil.copy(heldout / "room_heldout_1.jpg", tmp_path)
    result = run("eval", known_scene, "--photos", tmp_path, "--poses", heldout / "transforms.json", "--json")
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.stdout)["views"]) == ["room_heldout_1.jpg"]


@pytest.mark.parametrize("command", ["eval", "render"])
def test_output_that_cannot_be_written(command, known_scene, repository, run, tmp_path):
    heldout = repository / "examples" / "heldout"
    (tmp_path / "file").write_text("not a folder")
    how = {
        "eval": ("--photos", heldout, "--poses", heldout / "transforms.json"),
        "render": ("--path", "orbit", "--frames", "2"),
    }
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        result = run(command, known_scene, *how[command], "-o", output)
        words = " ".join(result.output.split())
        assert result.exit_code == 2 and "cannot write to" in words and "Choose another folder with -o" in words
    assert (tmp_path / "file").read_text() == "not a folder"


def test_eval_does_not_write_among_the_photos(known_scene, repository, run, tmp_path):
    heldout = repository / "examples" / "heldout"
    shutil.copy(heldout / "room_heldout_1.jpg", tmp_path)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    before = sorted(tmp_path.iterdir())
    for output in (tmp_path, tmp_path / "link"):
        result = run("eval", known_scene, "--photos", tmp_path, "--poses", heldout / "transforms.json", "-o", output)
        assert result.exit_code == 2 and "is the folder of the photos" in " ".join(result.output.split())
    assert sorted(tmp_path.iterdir()) == before


def test_view_serves_the_scene_on_this_machine_only(known_scene, tmp_path):
    # a background shell, as some CI is, leaves Ctrl-C ignored for its children: set it as a terminal would
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from sparse3d.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "view", str(known_scene), "--port", "0"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if match := re.match(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            raise AssertionError(f"no address in {lines}: {process.stderr.read() if process.stderr else ''}")
        with urllib.request.urlopen(match[0], timeout=30) as page:
            assert page.status == 200 and b"viser" in page.read().lower()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0  # Ctrl-C is how a viewer ends, not an error

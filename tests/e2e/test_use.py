"""Looking at a finished scene: render, eval, view."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

from sparse3d.io.images import read_image


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


def test_view_serves_the_scene_on_this_machine_only(known_scene, tmp_path):
    command = [sys.executable, "-c", "from sparse3d.cli import main; main()", "view", str(known_scene), "--port", "0"]
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
        process.wait(30)

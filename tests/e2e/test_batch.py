"""Folders of photos to scenes by the real command: a bad one stops no other, and a second run does what is missing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparse3d.io.scene import SceneFolder

TINY = ["--preset", "fast", "--set", "photos.max_size=160", "--set", "init.planes=32", "--set", "optimize.steps=20"]
TINY += ["--set", "pose.max_size=320"]


@pytest.fixture
def sets(photos, tmp_path) -> Path:
    for name, numbers in (("one", "1"), ("three", "123")):
        (tmp_path / "sets" / name).mkdir(parents=True)
        for number in numbers:
            shutil.copy(photos / f"room_0{number}.jpg", tmp_path / "sets" / name)
    (tmp_path / "sets" / "bad").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "sets" / "bad" / name).write_text(name)
    return tmp_path / "sets"


def test_a_bad_scene_stops_no_other(sets, repository, run, tmp_path):
    out = tmp_path / "out"
    command = [
        "batch",
        sets,
        "-o",
        out,
        *TINY,
        "--poses",
        repository / "examples" / "ground_truth" / "transforms.json",
        "-j",
        2,
    ]
    planned = run(*command, "--dry-run")
    assert planned.exit_code == 0 and planned.stdout.count("run ") == 3 and not out.exists()

    result = run(*command, "--json")
    assert result.exit_code == 3, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    states = {line["name"]: line for line in lines[:-1]}
    assert {name: line["state"] for name, line in states.items()} == {"one": "done", "three": "done", "bad": "failed"}
    assert "a.jpg: is not an image" in states["bad"]["error"] and states["bad"]["code"] == 2
    assert states["three"]["facts"]["registered"] == 3 and states["three"]["facts"]["peak_mb"] > 100
    assert lines[-1] == {"batch": str(out / "batch.json"), "done": 2, "failed": 1}
    assert (out / "three" / "scene.ply").is_file() and (out / "one" / "report.html").is_file()
    recorded = {scene["name"]: scene for scene in json.loads((out / "batch.json").read_text())["scenes"]}
    assert recorded["bad"]["error"] == states["bad"]["error"] and recorded["one"]["seconds"] > 0

    before = (out / "three" / "scene.ply").stat().st_mtime_ns
    again = run(*command)
    assert again.exit_code == 3 and "2 scenes are done already" in again.stderr and "--retry-failed" in again.stderr
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(
            sets / "three" / f"room_0{1 + (name == 'b.jpg')}.jpg", sets / "bad" / f"room_0{1 + (name == 'b.jpg')}.jpg"
        )
        (sets / "bad" / name).unlink()
    last = run(*command)
    assert last.exit_code == 0, last.output
    assert (out / "three" / "scene.ply").stat().st_mtime_ns == before


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_stopped_batch_goes_on(sets, repository, tmp_path):
    out = tmp_path / "out"
    shutil.rmtree(sets / "bad")
    command = [sys.executable, "-m", "sparse3d", "batch", str(sets), "-o", str(out), *TINY, "-j", "1"]
    command += ["--poses", str(repository / "examples" / "ground_truth" / "transforms.json")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(out.glob("*/logs/*.log")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and "the same command goes on" in said, said
    for scene in out.iterdir():
        if scene.is_dir():
            with SceneFolder(scene).locked():  # no worker is left that would hold it
                pass
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "2 done" in done.stderr, done.stderr

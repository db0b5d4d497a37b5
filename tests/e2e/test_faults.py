"""A run stopped in every stage, by every signal, ends at the same bytes; a full disk leaves what was finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparse3d.io.scene import SceneFolder
from sparse3d.pipeline.log import latest_log

TINY = ["--preset", "fast", "--max-size", "160", "--set", "init.planes=32", "--set", "optimize.checkpoint_interval=10"]
TINY += ["--set", "optimize.steps=30", "--set", "pose.max_size=320"]


def command(photos: Path, repository: Path, output: Path) -> list[str]:
    cameras = repository / "examples" / "ground_truth" / "transforms.json"
    return [sys.executable, "-m", "sparse3d", "recon", *map(str, [photos, "-o", output, "--poses", cameras, *TINY])]


def stopped(arguments: list[str], log: Path, words: str, number: int) -> int:
    """Sends a signal as soon as the run's log says these words; the exit code."""
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        before = latest_log(log)
        while process.poll() is None and time.monotonic() < deadline:
            file = latest_log(log)
            if file is not None and file != before and words in file.read_text(encoding="utf-8"):
                os.kill(process.pid, number)
                break
            time.sleep(0.01)
    return process.returncode


@pytest.fixture(scope="module")
def whole(photos, repository, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "scene"
    subprocess.run(command(photos, repository, folder), check=True, capture_output=True)
    return folder


def test_stopped_in_every_stage(whole, photos, repository, tmp_path):
    folder = tmp_path / "scene"
    arguments = command(photos, repository, folder)
    assert stopped(arguments, folder, "photos start", signal.SIGKILL) == -signal.SIGKILL
    assert stopped(arguments, folder, "init start", signal.SIGINT) == 130
    assert not list((folder / "stages").glob(".02_init.*")), "Ctrl-C leaves nothing half-written"
    assert SceneFolder.open(folder).facts("01_pose") and not SceneFolder.open(folder).facts("02_init")
    assert stopped(arguments, folder, "optimize start", signal.SIGTERM) == 143
    assert stopped(arguments, folder, "optimize done", signal.SIGKILL) == -signal.SIGKILL
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert "views from an earlier run" in done.stderr
    for file in ("scene.ply", "cameras/transforms.json", "stages/02_init/init.ply", "stages/01_pose/cameras.json"):
        assert (folder / file).read_bytes() == (whole / file).read_bytes(), file
    hidden = [file.name for file in folder.rglob(".*")]
    assert hidden == [".lock"], "what killed runs left is swept up"


def test_a_disk_that_fills_up(whole, photos, repository, tmp_path):
    """On a real file system of less than the scene takes; what was finished there is kept and used on a larger one."""
    script = """
    mount -t tmpfs -o size=1200k none "$1" && shift || exit 77
    "$@" 2> "$ERRORS"; echo $? > "$ERRORS.code"
    ls "$DISK/scene/stages" > "$ERRORS.stages"
    mount -o remount,size=64m "$DISK" && "$@" > /dev/null 2>> "$ERRORS" && cp "$DISK/scene/scene.ply" "$ERRORS.ply"
    """
    disk, errors = tmp_path / "disk", tmp_path / "errors"
    disk.mkdir()
    # the estimate would stop at once
    main = "import shutil, sys; from collections import namedtuple as n; real = shutil.disk_usage; "
    main += "shutil.disk_usage = lambda p: n('u', 'total used free')(10**12, 0, 10**12); "
    main += "from sparse3d.cli import main; main()"
    arguments = [sys.executable, "-c", main, *command(photos, repository, disk / "scene")[3:]]
    try:
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", script, "sh", str(disk), *arguments],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "DISK": str(disk), "ERRORS": str(errors)},
        )
    except FileNotFoundError:
        pytest.skip("needs the program unshare (Linux)")
    if done.returncode in (1, 77) and not errors.exists():
        pytest.skip("this system lets no user mount a small file system")
    said = " ".join(errors.read_text().split())
    assert (tmp_path / "errors.code").read_text().strip() == "2", said
    assert "no space left for" in said and "finished stages are kept" in said and "Traceback" not in said
    assert "01_pose" in (tmp_path / "errors.stages").read_text() and "views from an earlier run" in said
    assert (tmp_path / "errors.ply").read_bytes() == (whole / "scene.ply").read_bytes()


def test_too_little_space_is_said_before_the_work(photos, repository, run, tmp_path, monkeypatch):
    import shutil

    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=1_000_000))
    result = run(*command(photos, repository, tmp_path / "scene")[3:])
    assert result.exit_code == 2 and "MB are needed in" in result.output and "1 MB are free" in result.output


def test_too_little_memory_lowers_the_sizes(photos, repository, run, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE3D_MEMORY", "0.1GB")
    result = run(*command(photos, repository, tmp_path / "scene")[3:])
    assert result.exit_code == 2 and "need about" in result.output and "SPARSE3D_MEMORY" in result.output

"""Disks that are full or closed, processes that are killed, folders that are in use: nothing is lost, and it is said."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.synthetic import textured_plane

from sparse3d.config import Config, load_config
from sparse3d.errors import UserError
from sparse3d.io import _atomic
from sparse3d.io._atomic import replacing
from sparse3d.io._disk import check_space, telling
from sparse3d.io.colmap import write_model
from sparse3d.io.migrate import FORMAT
from sparse3d.io.scene import SceneFolder
from sparse3d.optimize.checkpoint import load_checkpoint, save_checkpoint
from sparse3d.pipeline.budget import memory_need, parse_size, within_memory
from sparse3d.pipeline.log import latest_log, running
from sparse3d.progress import Event, silent
from sparse3d.types import Points, PosedViews

STAGES = ("a", "b", "c")


def work(scene: SceneFolder) -> None:
    """Three stages, each of which needs the one before, and a published file."""
    with scene.locked():
        scene.update({"settings": {}})
        text = "seed"
        for name in STAGES:
            if not scene.is_done(name, text):
                with scene.write_stage(name, text) as (folder, facts):
                    (folder / "result").write_text(text + name)
                    (folder / "more").mkdir()
                    (folder / "more" / "file").write_text(name * 100)
                    facts["length"] = len(text)
            text = (scene.stage_path(name) / "result").read_text()
        with replacing(scene.path / "scene.ply") as temporary:
            temporary.write_text(text)
        scene.update({"published": scene.keys()})


def contents(folder: Path) -> dict[str, str]:
    """Every file except the lock, by its path; seconds are not of the result."""
    found = {}
    for file in folder.rglob("*"):
        if file.is_file() and file.name not in (".lock", "scene.json"):
            found[file.relative_to(folder).as_posix()] = file.read_text()
    manifest = json.loads((folder / "scene.json").read_text())
    for stage in manifest["stages"].values():
        del stage["seconds"]
    return found | {"scene.json": json.dumps(manifest, sort_keys=True)}


class Broken:
    """Lets some calls through, then fails one."""

    def __init__(self, real, calls: int, error: OSError) -> None:
        self.real, self.left, self.error = real, calls, error

    def __call__(self, *arguments):
        self.left -= 1
        if self.left == -1:
            raise self.error
        return self.real(*arguments)


def count_of(name: str, monkeypatch, tmp_path) -> int:
    counter = Broken(getattr(os, name), 10**9, OSError())
    with monkeypatch.context() as patched:
        patched.setattr(_atomic.os, name, counter)
        work(SceneFolder.create(tmp_path / f"counted-{name}"))
    return 10**9 - counter.left


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_whichever_write_fails_the_next_run_ends_at_the_same_scene(name, number, monkeypatch, tmp_path):
    """Fails every single call in turn: `replace` names a file or stage, `fsync` is where a disk says that it is full."""
    monkeypatch.setattr(_atomic.os, "fsync", lambda descriptor: None)  # two thousand real ones take a minute
    work(SceneFolder.create(tmp_path / "whole"))
    want = contents(tmp_path / "whole")
    calls = count_of(name, monkeypatch, tmp_path)
    assert calls >= 9
    for failing in range(calls):
        scene = SceneFolder.create(tmp_path / f"{name}-{failing}")
        with monkeypatch.context() as patched:
            patched.setattr(_atomic.os, name, Broken(getattr(os, name), failing, OSError(number, os.strerror(number))))
            with pytest.raises(UserError, match="no space left|cannot write to"):
                work(scene)
        for stage in STAGES:  # what scene.json calls done is there and whole
            if scene.facts(stage):
                assert (scene.stage_path(stage) / "more" / "file").read_text() == stage * 100
        work(scene)
        assert contents(scene.path) == want, failing


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import test_faults
from sparse3d.io import _atomic
from sparse3d.io.scene import SceneFolder
left = int(sys.argv[3])
real = os.fsync
def fsync(descriptor):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)
_atomic.os.fsync = fsync
test_faults.work(SceneFolder.create(Path(sys.argv[2])))
"""


def test_a_killed_run_leaves_nothing_that_a_reader_takes_for_whole(tmp_path):
    work(SceneFolder.create(tmp_path / "whole"))
    for after in (3, 12):
        folder = tmp_path / f"killed-{after}"
        tests = Path(__file__).parent
        command = [sys.executable, "-c", KILLED, str(tests), str(folder), str(after)]
        path = os.pathsep.join([str(tests.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        killed = subprocess.run(command, check=False, capture_output=True, env={**os.environ, "PYTHONPATH": path})
        assert killed.returncode == -9, killed.stderr.decode()
        work(SceneFolder.create(folder))
        assert contents(folder) == contents(tmp_path / "whole")


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(monkeypatch, tmp_path):
    file = tmp_path / "a.checkpoint"
    save_checkpoint(file, {"key": "k", "step": 1})
    error = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(_atomic.os, "fsync", Broken(os.fsync, 0, error))
    with pytest.raises(OSError) as raised:
        save_checkpoint(file, {"key": "k", "step": 2})
    assert raised.value.errno == errno.ENOSPC
    assert load_checkpoint(file, "k") == {"key": "k", "step": 1} and len(list(tmp_path.iterdir())) == 1


def small_disk(megabytes: int, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs Python code on a real file system of this size, in a namespace of its own."""
    script = f'mount -t tmpfs -o size={megabytes}m none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(folder), sys.executable, code]
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(folder)]
    try:
        tried = subprocess.run(mount, check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the program unshare (Linux)")
    if tried.returncode:
        pytest.skip("this system lets no user mount a small file system")
    path = str(Path(__file__).parents[1])
    return subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})


def write_large_model(folder: Path) -> None:
    posed, _ = textured_plane(12, 16)
    count = 60_000  # 3 MB of points
    xyz = torch.rand(count, 3) + torch.tensor([0.0, 0.0, 5.0])
    tracks = tuple([tuple(posed.names[:2])] * count)
    write_model(folder, PosedViews(posed.views, Points(xyz, torch.rand(count, 3), torch.rand(count), tracks)))


def test_a_model_that_colmap_could_not_write_whole_is_noticed(tmp_path):
    """COLMAP itself says nothing, and leaves files that end early."""
    code = "import sys; sys.path.insert(0, %r); from pathlib import Path; from test_faults import write_large_model as w; w(Path(sys.argv[1]) / 'm')"
    done = small_disk(1, code % str(Path(__file__).parent), tmp_path)
    assert done.returncode and "the COLMAP model was not written whole" in done.stderr, done.stderr


def test_a_checkpoint_on_a_full_disk_says_so(tmp_path):
    """torch.save itself raises a RuntimeError about positions."""
    code = (
        "import sys, torch; from pathlib import Path; from sparse3d.optimize.checkpoint import save_checkpoint as s; "
        "s(Path(sys.argv[1]) / 'c', {'a': torch.rand(1000000)})"
    )
    done = small_disk(1, code, tmp_path)
    assert done.returncode and "No space left" in done.stderr, done.stderr


def test_disk_errors_say_what_to_do(tmp_path):
    said = "no space left for .*; all is kept.*or go elsewhere"
    with pytest.raises(UserError, match=said), telling(tmp_path, "all is kept", "go elsewhere"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="Input/output"), telling(tmp_path, "", ""):
        raise OSError(errno.EIO, "Input/output error")
    with pytest.raises(UserError, match="MB are needed .* or go elsewhere"):
        check_space(tmp_path, 10**18, "go elsewhere")
    check_space(tmp_path, 1, "go elsewhere")


def test_the_second_run_is_told_who_is_at_work(tmp_path):
    scene = SceneFolder.create(tmp_path / "scene")
    said = rf"another sparse3d run \(process {os.getpid()} on .*\) is writing to"
    with scene.locked(), pytest.raises(UserError, match=said), SceneFolder(scene.path).locked():
        pass
    with scene.locked():
        pass


def test_each_run_leaves_a_log(tmp_path):
    scene = SceneFolder.create(tmp_path / "scene")
    with running(scene, silent) as log:
        log.stage("pose").warning("blurred photo")
        for step in range(1, 101):
            log.stage("optimize").step(step, 100, loss=0.5)
    text = latest_log(scene.path).read_text()
    assert "pose warning blurred photo" in text and "optimize step 100 of 100 loss 0.5" in text
    assert text.count("optimize step") == 2 and text.rstrip().endswith("done")  # the first and the last of 100
    with pytest.raises(ZeroDivisionError), running(scene, silent):
        1 / 0  # noqa: B018
    assert "ZeroDivisionError" in latest_log(scene.path).read_text()
    with pytest.raises(UserError), running(scene, silent):
        raise UserError("too few photos")
    assert "stopped: too few photos" in latest_log(scene.path).read_text()
    for _ in range(25):
        with running(scene, silent) as log:
            log(Event("pose", "note", "again"))
    assert len(list((scene.path / "logs").iterdir())) <= 20


def test_scenes_of_the_first_format_are_read(tmp_path):
    """Format 1 was written with settings that exist no longer; they are left out, the others stay."""
    old = {
        "format": 1,
        "sparse3d": "0.1",
        "stages": {},
        "settings": {
            "pose": {"init_inliers": 30, "min_inliers": 15, "network_weights": None},
            "init": {"min_score": 0.5, "planes": 64},
            "seed": 3,
        },
    }
    (tmp_path / "scene.json").write_text(json.dumps(old))
    scene = SceneFolder.open(tmp_path)
    assert scene.manifest()["settings"] == {
        "pose": {"min_inliers": 15, "network_weights": ""},
        "init": {"planes": 64},
        "seed": 3,
    }
    assert json.loads((tmp_path / "scene.json").read_text()) == old  # reading writes nothing
    scene.update({"published": None})
    assert json.loads((tmp_path / "scene.json").read_text())["format"] == FORMAT


@pytest.mark.parametrize(
    "text", ['{"format": 0, "stages": {}}', '{"format": 1, "stages": 3}', "[]", '{"format": 1e999}', "\xff"]
)
def test_manifests_that_never_were(text, tmp_path):
    (tmp_path / "scene.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match="is not a scene's manifest"):
        SceneFolder.open(tmp_path)


PHOTOS = [(3000, 4000)] * 12


def test_memory_grows_with_what_is_asked_for():
    small, large = load_config("fast"), load_config("quality")
    assert memory_need(small, PHOTOS, 2).peak < memory_need(large, PHOTOS, 2).peak
    assert memory_need(large, PHOTOS[:2], 2).peak < memory_need(large, PHOTOS, 8).peak


def test_working_sizes_are_lowered_until_they_fit_or_it_is_said():
    warnings: list[str] = []
    config = Config()
    need = memory_need(config, PHOTOS, 2).peak
    assert within_memory(config, PHOTOS, 2, need, warnings.append) is config and not warnings
    lowered = within_memory(config, PHOTOS, 2, 0.8 * need, warnings.append)
    assert memory_need(lowered, PHOTOS, 2).peak <= 0.8 * need and len(warnings) == 1
    assert (
        lowered.photos.max_size < config.photos.max_size and f"photos.max_size={lowered.photos.max_size}" in warnings[0]
    )
    with pytest.raises(UserError, match=r"12 photos need about .* GB of memory.*0\.1 GB may be used"):
        within_memory(config, PHOTOS, 2, 1e8, warnings.append)


def test_sizes_are_read():
    assert parse_size("4GB", "x") == 4e9 and parse_size("512 MB", "x") == 512e6 and parse_size("1000", "x") == 1000
    assert parse_size("1.5GiB", "x") == 1.5e9
    for wrong in ("", "GB", "-1GB", "four", "0", "1..2GB"):
        with pytest.raises(UserError, match="x is .*needed a size"):
            parse_size(wrong, "x")

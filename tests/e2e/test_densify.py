"""`sparse3d densify` and `recon --prior`: drawn views by the real commands."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil

import pytest
from harness.oracle import Oracle
from PIL import Image
from support.commands import SMALL
from support.tiny_pipelines import tiny_inpaint, tiny_svd, tiny_wan_vace

from sparse3d.io.nerfstudio import read_transforms
from sparse3d.io.ply import read_gaussians
from sparse3d.io.views import load_views
from sparse3d.priors import names

STAGE = "03_densify"


@pytest.fixture
def copied(known_scene, tmp_path):
    """A scene of its own for each test."""
    return shutil.copytree(known_scene, tmp_path / "scene")


@pytest.fixture
def oracle(monkeypatch):
    """The name "classical" stands for a prior that draws the room as it is."""
    monkeypatch.setitem(names._LOADERS, "classical", lambda config, warn: Oracle())


def test_views_that_uncover_something_are_kept_with_confidence_and_who_drew_them(copied, run, oracle):
    done = run("densify", copied, "--prior", "classical", "--views", 5, "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["provenance"]["prior"] == "oracle" and len(facts["views"]) == 5
    drawn = load_views(copied / "stages" / STAGE).views
    assert [view.name for view in drawn] == [name for name, of in facts["views"].items() if of["kept"]]
    assert drawn and all(view.generated and view.confidence is not None for view in drawn)
    assert all(of["agreement"] >= 0.5 for of in facts["views"].values() if of["kept"])
    assert all(float(view.confidence.median()) <= 0.21 for view in drawn)  # photos show most of them
    assert json.loads((copied / "stages" / STAGE / "provenance.json").read_text())["seed"] == 0


def test_recon_takes_drawn_views_and_goes_back_to_none(photos, repository, run, copied, oracle):
    cameras = repository / "examples" / "ground_truth" / "transforms.json"
    command = ("recon", photos, "-o", copied, *SMALL, "--poses", cameras)
    before = (copied / "scene.ply").read_bytes()
    made = run(*command, "--prior", "classical", "--set", "densify.views=4")
    assert made.exit_code == 0, made.output
    assert "views kept" in made.stderr and "first Gaussians from an earlier run" in made.stderr
    manifest = json.loads((copied / "scene.json").read_text())
    assert STAGE in manifest["stages"] and manifest["published"].keys() == manifest["stages"].keys()
    assert (copied / "scene.ply").read_bytes() != before and len(read_gaussians(copied / "scene.ply")) > 1000
    assert len(read_transforms(copied / "cameras" / "transforms.json")) == 8  # photographed ones
    report = (copied / "report.html").read_text()
    film = base64.b64decode(re.search(r"data:image/webp;base64,([^\"]+)", report)[1])
    with Image.open(io.BytesIO(film)) as picture:
        assert picture.n_frames == len(load_views(copied / "stages" / STAGE).views)
    assert "oracle drew are kept" in report and "Licence: none" in report
    again = run(*command, "--prior", "classical", "--set", "densify.views=4")
    assert "drawn views from an earlier run" in again.stderr
    back = run(*command)
    assert back.exit_code == 0 and (copied / "scene.ply").read_bytes() == before
    assert STAGE not in json.loads((copied / "scene.json").read_text())["stages"]


def test_classical_views_repeat_the_photos_and_change_nothing(photos, repository, run, copied):
    cameras = repository / "examples" / "ground_truth" / "transforms.json"
    before = (copied / "scene.ply").read_bytes()
    options = (*SMALL, "--poses", cameras, "--prior", "classical", "--set", "densify.views=4")
    made = run("recon", photos, "-o", copied, *options)
    assert made.exit_code == 0, made.output
    assert "4 of 4 drawn views are left out: they show nothing" in " ".join(made.stderr.split())
    assert (copied / "scene.ply").read_bytes() == before
    assert "left out" in (copied / "report.html").read_text()


def test_a_dry_run_tells_and_draws_nothing(copied, run):
    told = run("densify", copied, "--prior", "classical", "--views", 7, "--path", "spline", "--dry-run")
    assert told.exit_code == 0 and not (copied / "stages" / STAGE).exists()
    text = " ".join(told.stderr.split())
    assert (
        "7 views of" in text
        and "7 calls of classical, which needs no GPU" in text
        and "licence:" in text
        and "about 0.1 minutes" in text
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--prior", "clasical"), "unknown prior 'clasical'"),
        (("--prior", "none"), "say who draws the views with --prior: classical"),
        (("--prior", "wan-vace"), "sparse3d models fetch wan-vace"),
        (("--prior", "classical", "--path", "circle"), "unknown path 'circle'"),
        (("--prior", "classical", "--path", "missing.json"), "missing.json"),
        (("--prior", "classical", "--set", "densify.share=1"), "densify.share"),
        (("--prior", "seva"), "--set densify.accept_license=true"),
        (("--prior", "svd", "--weights", "no/such"), "--prior classical works without any"),
    ],
)
def test_wrong_requests_are_told_and_leave_the_scene_as_it_is(copied, run, options, said, monkeypatch):
    monkeypatch.setenv("SPARSE3D_OFFLINE", "1")
    before = (copied / "scene.json").read_bytes()
    done = run("densify", copied, *options)
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())
    assert (copied / "scene.json").read_bytes() == before


@pytest.mark.parametrize("name", ["svd", "wan-vace", "inpaint"])
def test_published_pipelines_draw_from_a_folder_of_weights(copied, run, tmp_path, name):
    """The real classes with random weights: their pictures are nonsense, so that what they invent is left out or trusted little."""
    pytest.importorskip("diffusers")
    {"svd": tiny_svd, "wan-vace": tiny_wan_vace, "inpaint": tiny_inpaint}[name]().save_pretrained(tmp_path / "weights")
    options = ("--prior", name, "--weights", tmp_path / "weights", "--views", 3, "--set", "densify.steps=2")
    told = run("densify", copied, *options, "--dry-run", "--json")
    assert told.exit_code == 0, told.output
    plan = json.loads(told.stdout)
    assert plan["calls"] >= 1 and plan["min_vram_gb"] >= 4 and plan["licence"]
    done = run("densify", copied, *options, "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["provenance"]["prior"] == name and facts["provenance"]["weights"] == str(tmp_path / "weights")
    assert facts["provenance"]["calls"] >= 2 and not facts["provenance"]["verified"]


def test_a_path_through_a_wall_is_refused_by_name(copied, run, tmp_path):
    frames = json.loads((copied / "cameras" / "transforms.json").read_text())
    keyframe = frames["frames"][0]["transform_matrix"]
    far = [row[:] for row in keyframe]
    for axis in range(3):
        far[axis][3] -= 8 * keyframe[axis][2]  # ahead, through the wall: nerfstudio's cameras look along -z
    path = tmp_path / "path.json"
    shots = [{"camera_to_world": [x for row in far for x in row], "fov": 50.0, "aspect": 4 / 3}] * 2
    path.write_text(
        json.dumps({"camera_type": "perspective", "render_height": 300, "render_width": 400, "camera_path": shots})
    )
    done = run("densify", copied, "--prior", "classical", "--path", path)
    assert done.exit_code == 2 and "none of the 2 cameras can be drawn" in " ".join(done.stderr.split()), done.output


def test_a_scene_without_depth_is_told_what_to_do(photos, run, tmp_path):
    made = run("pose", photos, "-o", tmp_path / "scene", *SMALL)
    assert made.exit_code == 0, made.output
    done = run("densify", tmp_path / "scene", "--prior", "classical")
    assert done.exit_code == 2 and "sparse3d init" in done.stderr

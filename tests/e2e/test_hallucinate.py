"""`sparse3d hallucinate`: a scene of one photo by the real command."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_depth import tiny_depth_anything
from support.tiny_pipelines import tiny_inpaint
from support.tiny_zeronvs import tiny_state

from sparse3d.io.images import read_image
from sparse3d.io.load import load_scene
from sparse3d.io.nerfstudio import read_transforms
from sparse3d.io.ply import read_gaussians
from sparse3d.metrics.image import psnr

SMALL = ("--max-size", 160)


@pytest.fixture
def made(run, photos, tmp_path):
    done = run("hallucinate", "--single", photos / "room_01.jpg", "-o", tmp_path / "scene", *SMALL, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), tmp_path / "scene"


def test_a_photo_becomes_a_scene_like_any_other(made, run, photos, tmp_path):
    facts, scene = made
    assert (
        facts["lift"]["approximate"] and not facts["lift"]["metric"] and facts["lift"]["radius"] == pytest.approx(0.1)
    )
    assert 0 < facts["lift"]["invented"] < 0.2 and len(read_gaussians(scene / "scene.ply")) == facts["gaussians"]
    assert len(read_transforms(scene / "cameras" / "transforms.json")) == 1
    drawn = run("render", scene, "--camera", scene / "cameras" / "transforms.json", "-o", tmp_path / "out")
    assert drawn.exit_code == 0, drawn.output
    (picture,) = sorted((tmp_path / "out").glob("*.png"))
    (photo,) = sorted((scene / "views").glob("*.png"))
    assert psnr(read_image(picture).image, read_image(photo).image) > 30
    assert "guessed from the picture&#x27;s geometry" in (scene / "report.html").read_text(encoding="utf-8")
    manifest = json.loads((scene / "scene.json").read_text())
    drawn = manifest["stages"]["03_densify"]
    assert drawn["provenance"]["prior"] == "classical" and len(drawn["views"]) == 13 and drawn["added"] > 100
    measured = run(
        "eval", scene, "--photos", scene / "views", "--poses", scene / "cameras" / "transforms.json", "--json"
    )
    assert measured.exit_code == 0, measured.output
    assert json.loads(measured.stdout)["mean"]["psnr"] > 30


def test_a_second_run_does_what_is_missing_and_no_more(made, run, photos):
    _, scene = made
    before = (scene / "scene.ply").read_bytes()
    again = run("hallucinate", "--single", photos / "room_01.jpg", "-o", scene, *SMALL)
    assert again.exit_code == 0 and again.stderr.count("from an earlier run") == 3, again.output
    assert (scene / "scene.ply").read_bytes() == before
    fewer = run("hallucinate", "--single", photos / "room_01.jpg", "-o", scene, *SMALL, "--views", 2, "--json")
    assert fewer.exit_code == 0 and "layers from an earlier run" in fewer.stderr
    assert len(json.loads((scene / "scene.json").read_text())["stages"]["03_densify"]["views"]) == 3
    alone = run("hallucinate", "--single", photos / "room_01.jpg", "-o", scene, *SMALL, "--prior", "none", "--json")
    assert alone.exit_code == 0 and "03_densify" not in json.loads((scene / "scene.json").read_text())["stages"]


def test_an_orbit_of_one_photo_goes_as_far_as_the_scene_reaches(made, run, tmp_path):
    facts, scene = made
    done = run("render", scene, "--path", "orbit", "--frames", 4, "-o", tmp_path / "orbit")
    assert done.exit_code == 0, done.output
    frames = [read_image(file).image for file in sorted((tmp_path / "orbit").glob("*.png"))]
    assert len(frames) == 4 and psnr(frames[0], frames[2]) < 25  # it moves
    seen = load_scene(scene).viewpoints()[:, :3, 3].norm(dim=1)
    assert float(seen.max()) <= 1.1 * facts["lift"]["radius"]


def test_networks_and_inpainting_pipelines_of_the_published_classes_go_through(run, photos, tmp_path):
    """Random weights: what they say is nonsense, and none of it may break what the photo shows."""
    pytest.importorskip("diffusers")
    model, processor = tiny_depth_anything("metric")
    model.save_pretrained(tmp_path / "depth")
    processor.save_pretrained(tmp_path / "depth")
    tiny_inpaint().save_pretrained(tmp_path / "inpaint")
    options = ("--depth-model", tmp_path / "depth", "--prior", "inpaint", "--weights", tmp_path / "inpaint")
    more = ("--views", 2, "--set", "densify.steps=2", "--set", "densify.prompt=a room", "--preset", "fast", "--json")
    done = run("hallucinate", "--single", photos / "room_01.jpg", "-o", tmp_path / "scene", *SMALL, *options, *more)
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["lift"]["metric"] and not facts["lift"]["approximate"]
    manifest = json.loads((tmp_path / "scene" / "scene.json").read_text())
    drawn = manifest["stages"]["03_densify"]
    assert drawn["provenance"]["weights"] == str(tmp_path / "inpaint") and drawn["provenance"]["calls"] >= 2
    gaussians = read_gaussians(tmp_path / "scene" / "scene.ply")
    assert all(bool(torch.isfinite(values).all()) for values in gaussians.values())


def test_a_depth_map_is_taken_as_it_is(run, photos, tmp_path):
    with Image.open(photos / "room_01.jpg") as picture:
        width, height = picture.size
    np.save(tmp_path / "depth.npy", np.linspace(2, 4, height, dtype=np.float32)[:, None].repeat(width, 1))
    options = ("--depth", tmp_path / "depth.npy", "--intrinsics", "1000", "--travel", 0.2, "--json")
    done = run("hallucinate", "--single", photos / "room_01.jpg", "-o", tmp_path / "scene", *SMALL, *options)
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)["lift"]
    assert facts["metric"] and not facts["approximate"] and facts["intrinsics"] == "given"
    assert facts["radius"] == pytest.approx(0.6, rel=0.01) and facts["unit"] == "metres"
    z = read_gaussians(tmp_path / "scene" / "scene.ply").means[:, 2]
    assert 1.9 < float(z.min()) and float(z.max()) < 4.1  # optimization moves them a little


def test_zeronvs_draws_from_its_checkpoint(run, photos, tmp_path):
    pytest.importorskip("diffusers")
    torch.save({"state_dict": tiny_state()}, tmp_path / "zeronvs.ckpt")
    options = ("--prior", "zeronvs", "--weights", tmp_path / "zeronvs.ckpt", "--views", 1, "--set", "densify.steps=1")
    done = run("hallucinate", "--single", photos / "room_01.jpg", "-o", tmp_path / "scene", *SMALL, *options)
    assert done.exit_code == 0, done.output
    drawn = json.loads((tmp_path / "scene" / "scene.json").read_text())["stages"]["03_densify"]
    assert drawn["provenance"]["prior"] == "zeronvs" and not drawn["provenance"]["commercial"]


@pytest.mark.parametrize("kind", ["grey", "alpha", "portrait", "black", "night", "small", "no sky", "no ground"])
def test_photos_of_all_kinds_are_taken(run, tmp_path, kind):
    generator = np.random.default_rng(0)
    size = (120, 90) if kind != "portrait" else (90, 120)
    array = generator.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    if kind == "small":
        array = array[:75, :100]
    if kind == "night":  # a few lights in the dark
        array = np.where(array > 252, 255, array // 40).astype(np.uint8)
    if kind == "no sky":  # bricks all over
        array = np.kron(generator.integers(80, 140, (9, 12, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    if kind == "no ground":  # a bright gradient
        array = np.linspace(250, 180, size[1])[:, None, None].repeat(size[0], 1).repeat(3, 2).astype(np.uint8)
    picture = Image.fromarray(array * (kind != "black"))
    if kind == "grey":
        picture = picture.convert("L")
    if kind == "alpha":
        mask = np.full(array.shape[:2], 255, np.uint8)
        mask[:, :40] = 0
        picture.putalpha(Image.fromarray(mask))
    picture.save(tmp_path / "photo.png")
    done = run("hallucinate", "--single", tmp_path / "photo.png", "-o", tmp_path / "scene", "--json")
    assert done.exit_code == 0, done.output
    gaussians = read_gaussians(tmp_path / "scene" / "scene.ply")
    assert len(gaussians) > 500 and all(bool(torch.isfinite(values).all()) for values in gaussians.values())
    if kind == "alpha":
        assert "nothing is drawn around" in done.stderr
        pixels = gaussians.means[:, 0] / gaussians.means[:, 2]
        assert float(pixels.min()) > -0.35 * (float(pixels.max()) - float(pixels.min()))


@pytest.mark.parametrize(
    ("size", "options", "said"),
    [
        ((40, 20), (), "needed 32 or more"),
        ((400, 200), (), "looks like an equirectangular panorama"),
        ((120, 90), ("--depth", "none.npy"), "no such depth map"),
        ((120, 90), ("--depth-model", "someone/depth"), "--depth-model geometric"),
        ((120, 90), ("--depth-model", "depth-anything-v2-small"), "sparse3d models fetch depth-anything-v2-small"),
        ((120, 90), ("--travel", 0), "lift.travel"),
        ((120, 90), ("--views", 0), "--views"),
        ((120, 90), ("--prior", "clasical"), "did you mean 'classical'"),
        ((120, 90), ("--prior", "inpaint"), "sparse3d models fetch sd-inpainting"),
    ],
)
def test_wrong_requests_are_told(run, tmp_path, size, options, said, monkeypatch):
    monkeypatch.setenv("SPARSE3D_OFFLINE", "1")
    monkeypatch.setenv("SPARSE3D_CACHE", str(tmp_path / "cache"))
    angle = 2 * np.pi * np.arange(size[0]) / size[0]
    row = (127 + 100 * np.cos(angle)).astype(np.uint8)
    Image.fromarray(row[None, :, None].repeat(size[1], 0).repeat(3, 2)).save(tmp_path / "photo.png")
    done = run("hallucinate", "--single", tmp_path / "photo.png", "-o", tmp_path / "scene", *options)
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())


def test_a_missing_photo_is_told(run, tmp_path):
    done = run("hallucinate", "--single", tmp_path / "none.jpg", "-o", tmp_path / "scene")
    assert done.exit_code == 2 and "none.jpg" in done.stderr

"""`sparse3d render`: paths, sizes, films, depth, alpha, and going on after an interruption."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from sparse3d import sequence
from sparse3d.io.images import read_depth, read_image
from sparse3d.io.load import load_scene
from sparse3d.metrics.image import psnr
from sparse3d.progress import silent
from sparse3d.render import drawer
from sparse3d.types import Cameras


@pytest.mark.parametrize("path", sorted(sequence.PATHS))
def test_named_paths(known_scene, run, tmp_path, path):
    done = run("render", known_scene, "--path", path, "--frames", 3, "--size", 96, "-o", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    files = json.loads(done.stdout)["files"]
    assert [file.rsplit("/", 1)[1] for file in files] == ["0000.png", "0001.png", "0002.png"]
    pictures = [read_image(tmp_path / "out" / f"{i:04d}.png").image for i in range(3)]
    assert max(pictures[0].shape) == 96
    assert psnr(pictures[0], pictures[1]) < 40  # they move
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["0000.png", "0001.png", "0002.png"]


def test_a_film_shows_what_the_pictures_show(known_scene, run, tmp_path):
    options = ("render", known_scene, "--path", "orbit", "--frames", 4, "--size", "101x75")
    assert run(*options, "-o", tmp_path / "out").exit_code == 0
    done = run(*options, "--fps", 5, "-o", tmp_path / "film.mp4")
    assert done.exit_code == 0, done.output
    film = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(5)
    for index in range(4):
        there, array = film.read()
        assert there
        found = torch.from_numpy(array[..., ::-1].copy()).permute(2, 0, 1)[:, :75, :101] / 255
        wanted = read_image(tmp_path / "out" / f"{index:04d}.png").image
        assert wanted.shape == (3, 75, 101) and psnr(found, wanted) > 27
    assert sorted(file.name for file in tmp_path.iterdir()) == ["film.mp4", "out"]


def test_depth_and_alpha(known_scene, run, tmp_path):
    camera = known_scene / "cameras" / "transforms.json"
    for kind in ("--depth", "--alpha"):
        done = run("render", known_scene, "--camera", camera, "--size", 64, kind, "-o", tmp_path / kind)
        assert done.exit_code == 0, done.output
    scene = load_scene(known_scene)
    view = scene.posed.views[0]
    file = min((tmp_path / "--depth").iterdir())
    depth = read_depth(file)
    drawn = drawer(scene.gaussians, scene.look)(view.cameras.scaled_to(*depth.shape))
    wanted = drawn.median_depth[0]
    assert torch.allclose(depth[wanted > 0], wanted[wanted > 0], rtol=1e-3)
    with Image.open(min((tmp_path / "--alpha").iterdir())) as picture:
        assert picture.mode == "RGBA"
        rgba = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    background = torch.tensor(scene.look.background)[:, None, None]
    assert psnr(rgba[3] * rgba[:3] + (1 - rgba[3]) * background, drawn.image[0].clamp(0, 1)) > 40
    film = run(
        "render", known_scene, "--path", "orbit", "--frames", 2, "--depth", "--size", 64, "-o", tmp_path / "d.gif"
    )
    assert film.exit_code == 0, film.output


def test_an_interrupted_run_goes_on(known_scene, tmp_path, monkeypatch):
    """Two pictures drawn, then Ctrl-C: the second run draws the other two alone, and leaves no other file."""
    cameras = lambda scene: sequence.cameras_of_path(scene, "orbit", 4, (48, 64))
    drawn = []

    def counting(*arguments):
        draw = drawer(*arguments)

        def counted(camera: Cameras):
            if len(drawn) == 2 and not resumed:
                raise KeyboardInterrupt
            drawn.append(camera)
            return draw(camera)

        return counted

    resumed = False
    monkeypatch.setattr(sequence, "drawer", counting)
    with pytest.raises(KeyboardInterrupt):
        sequence.render(known_scene, tmp_path / "film.gif", cameras, report=silent)
    assert not (tmp_path / "film.gif").exists()
    resumed = True
    sequence.render(known_scene, tmp_path / "film.gif", cameras, report=silent)
    assert len(drawn) == 4
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 4
    assert [file.name for file in tmp_path.iterdir()] == ["film.gif"]


def test_another_shape_keeps_the_vertical_angle():
    K = torch.tensor([[[80.0, 0, 50], [0, 80, 45], [0, 0, 1]]])
    wide = sequence.reframed(Cameras(torch.eye(4)[None], K, 80, 100), 40, 100)
    assert wide.K[0].tolist() == [[40, 0, 50], [0, 40, 22.5], [0, 0, 1]] and (wide.height, wide.width) == (40, 100)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "one of --camera FILE and --path orbit"),
        (("--path", "orbti"), "did you mean 'orbit'"),
        (("--path", "orbit", "--depth", "--alpha"), "choose one of the two"),
        (("--path", "orbit", "--alpha", "-o", "film.mp4"), "films have no alpha channel"),
        (("--path", "orbit", "--size", "big"), "needed WIDTHxHEIGHT"),
        (("--path", "orbit", "--size", "4x4"), "needed WIDTHxHEIGHT"),
        (("--path", "none.json"), "none.json"),
        (("--path", "orbit", "-o", "/proc/none"), "Choose another folder with -o"),
    ],
)
def test_wrong_requests_are_told(known_scene, run, tmp_path, options, said, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("render", known_scene, *options)
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())
    assert not [file for file in tmp_path.iterdir() if file.name != "renders"]

"""The few-view protocol on the bundled photos: nothing of the test photos gets into a scene, and the script prints what it promises.

The script is run, never imported: a module called "sparse" would be taken for PyData's by SciPy.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from harness import estimated_cameras, photo_sets
from harness.baselines import methods
from harness.sparse_run import Task, measure, reconstruct

from sparse3d.io.colmap import write_model
from sparse3d.io.images import read_image, write_image
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.kernels import cpu
from sparse3d.pose.known import load_known

pytestmark = pytest.mark.skipif(not cpu.available(), reason="this install has no compiled kernels (SPARSE3D_PURE)")
SCRIPT = Path(photo_sets.__file__).parents[1] / "sparse.py"
TEST, TRAIN = ["room_02.jpg", "room_07.jpg"], ["room_03.jpg", "room_04.jpg", "room_05.jpg"]
SMALL = [
    "pose.max_size=504", "pose.max_features=2048", "pose.matchers=sift", "init.max_size=126", "init.planes=32",
    "optimize.steps=12", "optimize.sh_interval=5", "renderer=cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def room(repository, tmp_path_factory) -> Path:
    """The bundled photos with their true cameras as a photo set."""
    scene = tmp_path_factory.mktemp("sets") / "room"
    shutil.copytree(repository / "examples" / "photos", scene / "images")
    photos = load_photos(find_photos([scene / "images"]), 1008, warn=pytest.fail)
    truth = repository / "examples" / "ground_truth" / "transforms.json"
    write_model(scene / "sparse" / "0", load_known(truth, photos, warn=pytest.fail))
    (scene / "split.json").write_text(json.dumps({"test": TEST, "train3": TRAIN}))
    return scene


@pytest.fixture(scope="module")
def noisy(room, tmp_path_factory) -> Path:
    """The same set with noise for test photos."""
    scene = tmp_path_factory.mktemp("noisy") / "room"
    shutil.copytree(room, scene)
    generator = torch.Generator().manual_seed(0)
    for name in TEST:
        shape = read_image(scene / "images" / name).image.shape
        write_image(scene / "images" / name, torch.rand(shape, generator=generator))
    return scene


def task_of(scene: Path, method: str = "sparse3d", **options: bool) -> Task:
    found = {found.name: found for found in methods("balanced", SMALL, ["plain", "first"])}[method]
    short = replace(found.config, optimize=replace(found.config.optimize, steps=12, refine_interval=4))
    return Task(scene, photo_sets.fold_of(scene, 3), 126, replace(found, config=short), **options)


def once(estimate):
    """COLMAP's threads decide the last bits of a camera: who shows the same photos a second time gets the first cameras."""
    first = []

    def estimated(photos, *arguments, **options):
        if not first:
            first.append((photos, estimate(photos, *arguments, **options)))
        shown, found = first[0]
        assert [photo.name for photo in photos] == [photo.name for photo in shown] == TRAIN
        assert all(torch.equal(a.image, b.image) for a, b in zip(photos, shown, strict=True))
        return found

    return estimated


@pytest.mark.parametrize("method", ["sparse3d", "plain"])
@pytest.mark.parametrize("estimated", [False, True], ids=["given", "estimated"])
def test_test_photos_do_not_leak(room, noisy, method, estimated, monkeypatch):
    """With noise in their place the scene is the same to the last bit; only what is measured on differs."""
    monkeypatch.setattr(estimated_cameras, "estimate_poses", once(estimated_cameras.estimate_poses))
    made, blind = (reconstruct(task_of(scene, method, estimated=estimated)) for scene in (room, noisy))
    assert [view.name for view in made.photos.training.views] == TRAIN
    assert len(made.photos.training.points) > 20
    for before, after in ((made.start.gaussians, blind.start.gaussians), (made.fit.gaussians, blind.fit.gaussians)):
        assert all(torch.equal(a, b) for a, b in zip(before.values(), after.values(), strict=True))
    for seen, unseen in zip(made.photos.test, blind.photos.test, strict=True):
        assert torch.equal(seen.c2w, unseen.c2w) and torch.equal(seen.K, unseen.K)
        assert (seen.image - unseen.image).abs().mean() > 0.1


def test_leaving_one_out_does_not_read_the_test_photos(room, tmp_path):
    scene = tmp_path / "room"
    shutil.copytree(room, scene)
    for name in TEST:
        (scene / "images" / name).unlink()
    folds = photo_sets.folds_of(scene, 3, leave_one_out=True)
    assert [fold.held_out for fold in folds] == [(name,) for name in TRAIN]
    assert all(set(fold.training) == set(TRAIN) - set(fold.held_out) for fold in folds)
    config = task_of(scene).method.config
    loaded = photo_sets.with_given_cameras(scene, folds[0], 126, config)
    assert [view.name for view in loaded.test] == [TRAIN[0]]
    assert {name for track in loaded.training.points.tracks for name in track} <= set(TRAIN[1:])


def test_estimated_cameras_are_measured_twice(room, tmp_path):
    """Test views brought over by a similarity are off by a little; aligned to the scene they fit it better."""
    sheet = tmp_path / "sheet.png"
    task = replace(task_of(room, estimated=True), sheet=sheet)
    values = measure(task).values
    assert values["psnr aligned"] > values["psnr"] > 10
    assert values["rotation deg before"] < 3  # degrees; these photos are placed well
    assert read_image(sheet).image.shape == (3, 2 * (94 + 16), 3 * 126)  # two rows with labels, three pictures


def test_script_prints_its_table(room, tmp_path):
    arguments = [room, "--views", "3", "9", "--size", "126", "--seeds", "2", "--leave-one-out", "--output", tmp_path]
    for setting in SMALL:
        arguments += ["--set", setting]
    environment = os.environ | {"SPARSE3D_LPIPS": str(tmp_path), "SPARSE3D_CACHE": str(tmp_path)}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    head, *rows = (line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| "))
    assert [row[0] for row in rows] == ["| room"] and len(rows[0]) == len(head)
    assert " ± " in rows[0][head.index("PSNR")] and rows[0][head.index("LPIPS")] == "-"
    assert "room: its split.json has no train9" in done.stdout
    assert len(list(tmp_path.glob("room_3_sparse3d_seed?_room_0?.png"))) == 2 * 3

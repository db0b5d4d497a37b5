"""`sparse3d init`: from cameras to first Gaussians by the real command."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.commands import SMALL

from sparse3d.init.initialization import Origin
from sparse3d.init.networks.mvsplat.encoder import Encoder
from sparse3d.io.images import read_image
from sparse3d.io.load import load_scene


@pytest.fixture
def posed_scene(known_scene, tmp_path):
    """A copy, so that each test starts from cameras of its own."""
    return shutil.copytree(known_scene, tmp_path / "scene")


def test_from_pose_to_init_to_recon(photos, repository, run, tmp_path):
    """Each command goes on from the one before; depth is compared with the exact one."""
    scene, truth = tmp_path / "scene", repository / "examples" / "ground_truth"
    made = run("pose", photos, "-o", scene, *SMALL, "--poses", truth / "transforms.json")
    assert made.exit_code == 0, made.output
    started = run("init", scene, "--json")
    assert started.exit_code == 0, started.output
    facts = json.loads(started.stdout)
    assert facts["initializer"] == "planesweep" and "no weights" in facts["why"]
    assert set(facts["depth"]) == {f"room_0{k}.jpg" for k in range(1, 9)}
    support = facts["support"]
    assert set(support["views"]) == set(facts["depth"]) and support["sentence"] in " ".join(started.stderr.split())
    assert all(view["twice"] > 0.5 and view["weight"] == 1 for view in support["views"].values())

    loaded = load_scene(scene)
    assert len(loaded.gaussians) == facts["gaussians"] and not loaded.refined
    origin = np.load(scene / "stages" / "02_init" / "origin.npy")
    assert len(origin) == len(loaded.gaussians)
    assert (origin == Origin.MATCHED).mean() > 0.5 and set(np.unique(origin)) <= set(Origin)
    unit = json.loads((truth / "transforms.json").read_text())["frames"][0]["depth_unit_scale_factor"]
    errors = []
    for name, depth in loaded.depths.items():
        exact = unit * torch.from_numpy(_steps(truth / f"{name[:-4]}_depth.png"))
        exact = torch.nn.functional.interpolate(exact[None, None], depth.shape, mode="nearest")[0, 0]
        assert (depth > 0).float().mean() > 0.7
        errors.append(((depth - exact).abs() / exact)[depth > 0])
        picture = read_image(scene / "stages" / "02_init" / "pictures" / f"{name[:-4]}.jpg").image
        assert picture.shape[1:] == (depth.shape[0], 3 * depth.shape[1])
    error = torch.cat(errors)
    assert error.median() < 0.01 and (error < 0.05).float().mean() > 0.85

    finished = run("recon", photos, "-o", scene, *SMALL, "--poses", truth / "transforms.json")
    assert finished.exit_code == 0, finished.output
    assert "first Gaussians from an earlier run" in finished.stderr
    assert json.loads((scene / "scene.json").read_text())["shown"] == "04_optimize"
    assert support["sentence"][1:] in (scene / "report.html").read_text()


def _steps(path):
    from PIL import Image

    return np.asarray(Image.open(path)).astype(np.float32)


def test_a_network_by_a_file_of_weights(posed_scene, run, tmp_path):
    """Weights that nobody trained: what is checked is the way from the command to Gaussians and back to the viewer."""
    torch.manual_seed(0)
    save_file(Encoder().state_dict(), tmp_path / "weights.safetensors")
    result = run(
        "init", posed_scene, "--init", "mvsplat", "--weights", tmp_path / "weights.safetensors", "--set", "init.network_size=32", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["initializer"] == "mvsplat" and "weights.safetensors" in facts["why"]
    views, (height, width) = len(facts["depth"]), (32, 32)  # 3:2 photos: 32 x 48 is no multiple of 32
    assert facts["gaussians"] % views == 0 and facts["gaussians"] >= views * height * width
    loaded = load_scene(posed_scene)
    assert loaded.gaussians.sh_degree == 3 and len(loaded.depths) == views


def test_what_a_user_can_put_right(posed_scene, run, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE3D_CACHE", str(tmp_path / "cache"))
    for arguments, words in (
        (["init", tmp_path / "nowhere"], "does not exist"),
        (["init", posed_scene, "--init", "planeswep"], "init.method is 'planeswep', needed one of"),
        (["init", posed_scene, "--init", "mvsplat"], "sparse3d models fetch mvsplat"),
        (["init", posed_scene, "--init", "mvsplat", "--weights", "mvsplat-acdi"], "did you mean 'mvsplat-acid'"),
        (["init", posed_scene, "--init", "pixelsplat", "--weights", tmp_path / "none.ckpt"], "no weights"),
    ):
        before = (posed_scene / "scene.ply").read_bytes()
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert words in " ".join(result.stderr.split()), result.stderr
        assert (posed_scene / "scene.ply").read_bytes() == before
        load_scene(posed_scene)  # nothing is lost

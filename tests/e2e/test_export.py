"""`sparse3d export`: what other programs find in the files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import plyfile
import pycolmap
import pytest
import torch
import trimesh
from support.splat_files import glb
from support.synthetic import Plane, pictured, pinhole

from sparse3d.export import FORMATS
from sparse3d.io.images import read_image
from sparse3d.io.load import load_scene
from sparse3d.io.ply import read_gaussians
from sparse3d.lift.layers import gaussians_of
from sparse3d.mesh import fused
from sparse3d.progress import StageReporter
from sparse3d.render import Look, drawer


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_every_format_is_written_beside_the_scene(known_scene, run, kind):
    if kind in ("ksplat", "spz", "sog"):
        pytest.importorskip("gaussforge")
    if kind == "mesh":
        pytest.importorskip("skimage")
    done = run("export", known_scene, "--format", kind, "--resolution", 48, "--json")
    assert done.exit_code == 0, done.output
    written = Path(json.loads(done.stdout)["written"])
    assert written.exists() and written.parent == known_scene / "exports"


def test_colmap_reads_cameras_points_and_names(known_scene, run, tmp_path):
    assert run("export", known_scene, "-f", "colmap", "-o", tmp_path / "model").exit_code == 0
    model = pycolmap.Reconstruction(str(tmp_path / "model" / "sparse" / "0"))
    posed = load_scene(known_scene).posed
    assert len(model.images) == len(posed.views)
    for image in model.images.values():
        view = next(view for view in posed.views if Path(view.name).stem in image.name)
        matrix = np.eye(4)
        matrix[:3] = image.cam_from_world().matrix()
        assert np.allclose(np.linalg.inv(matrix), view.c2w.numpy(), atol=1e-4)
        assert np.allclose(image.camera.calibration_matrix(), view.K.numpy(), atol=1e-3)
        assert (tmp_path / "model" / "images" / image.name).is_file()


def test_nerfstudio_finds_pictures_and_seed_points(known_scene, run, tmp_path):
    assert run("export", known_scene, "-f", "nerfstudio", "-o", tmp_path / "set").exit_code == 0
    meta = json.loads((tmp_path / "set" / "transforms.json").read_text())
    posed = load_scene(known_scene).posed
    assert len(meta["frames"]) == len(posed.views)
    for frame, view in zip(meta["frames"], posed.views, strict=True):
        picture = read_image(tmp_path / "set" / frame["file_path"]).image
        assert picture.shape == view.image.shape and frame["fl_x"] == pytest.approx(float(view.K[0, 0]))
        matrix = np.array(frame["transform_matrix"]) @ np.diag([1, -1, -1, 1])
        assert np.allclose(matrix, view.c2w.numpy(), atol=1e-5)
    seeds = plyfile.PlyData.read(str(tmp_path / "set" / meta["ply_file_path"]))["vertex"].data
    assert len(seeds) > 20 and {"x", "y", "z", "red", "green", "blue"} <= set(seeds.dtype.names)


def wall_with_a_box() -> tuple[list, torch.Tensor]:
    """Views of a wall at z = 4 and a box's front of 1.2 x 0.8 at z = 3, and Gaussians of their exact depth."""
    K, planes = (
        pinhole(96, 128, 110.0),
        [Plane((0.0, 0.0, 1.0), 4.0), Plane((0.0, 0.0, 1.0), 3.0, (-0.6, -0.4, 0), (0.6, 0.4, 9))],
    )
    made = []
    for x in (-0.5, 0.0, 0.5):
        c2w = torch.eye(4)
        c2w[0, 3] = x
        made.append(pictured(str(x), c2w, K, (96, 128), planes))
    return [view for view, _ in made], made[1][1]


def test_a_mesh_lies_on_the_surfaces_and_has_their_colours(tmp_path):
    pytest.importorskip("skimage")
    views, depth = wall_with_a_box()
    splats = gaussians_of(views[1], depth, 1)
    draw = drawer(splats, Look((0.5, 0.5, 0.5), False, 0.01))
    mesh = fused([views[1]], draw, 96, None, StageReporter("test"))
    z = mesh.vertices[:, 2]
    apart = torch.minimum((z - 3).abs(), (z - 4).abs())
    assert len(mesh.faces) > 1000 and float(apart.median()) < 0.01 and float(apart.quantile(0.75)) < 0.03
    front = mesh.vertices[(z - 3).abs() < 0.02]
    assert float(front[:, 0].min()) == pytest.approx(-0.6, abs=0.06) and float(front[:, 1].max()) == pytest.approx(
        0.4, abs=0.06
    )
    pixels = mesh.vertices @ views[1].K.T / z[:, None]
    inside = (apart < 0.01) & (pixels[:, 0] > 2) & (pixels[:, 0] < 126) & (pixels[:, 1] > 2) & (pixels[:, 1] < 94)
    seen = views[1].image[:, pixels[inside, 1].long(), pixels[inside, 0].long()].T
    assert float((seen - mesh.colors[inside]).abs().mean()) < 0.08
    pytest.importorskip("fast_simplification")
    assert len(fused([views[1]], draw, 96, 500, StageReporter("test")).faces) <= 520


def test_a_mesh_is_read_by_trimesh(known_scene, run, tmp_path):
    pytest.importorskip("skimage")
    for name in ("mesh.glb", "mesh.obj"):
        done = run("export", known_scene, "-f", "mesh", "-o", tmp_path / name, "--resolution", 48, "--faces", 2000)
        assert done.exit_code == 0, done.output
        mesh = trimesh.load(tmp_path / name, force="mesh")
        assert 100 < len(mesh.faces) <= 2100 and mesh.visual.kind == "vertex"
        assert len(np.unique(mesh.visual.vertex_colors, axis=0)) > 20


def test_a_file_of_splats_is_converted(known_scene, run, tmp_path):
    pytest.importorskip("gaussforge")
    shutil.copy(known_scene / "scene.ply", tmp_path / "a.ply")
    assert run("export", tmp_path / "a.ply", "-f", "spz").exit_code == 0
    done = run("export", tmp_path / "a.spz", "-f", "gltf", "-o", tmp_path / "b.glb", "--max-sh-degree", 0)
    assert done.exit_code == 0, done.output
    want = read_gaussians(tmp_path / "a.ply")
    raw = (tmp_path / "b.glb").read_bytes()
    assert b"SH_DEGREE_0" in raw and b"SH_DEGREE_1" not in raw
    assert len(want) * 4 * 3 * 3 < len(raw)


def test_the_glb_has_the_scenes_values_and_passes_the_validator(known_scene, run, tmp_path):
    done = run("export", known_scene, "-f", "gltf", "-o", tmp_path / "scene.glb", "--max-sh-degree", 2)
    assert done.exit_code == 0, done.output
    scene = load_scene(known_scene).gaussians
    if scene.sh_degree == 2:
        assert np.allclose(glb(tmp_path / "scene.glb")["means"], scene.means.numpy(), atol=1e-6)
    validator = Path(__file__).resolve().parents[1] / "node_modules" / "gltf-validator"
    if not (shutil.which("node") and validator.is_dir()):
        pytest.skip("the glTF validator is not installed (npm install --prefix tests gltf-validator)")
    script = f"""const v = require({json.dumps(str(validator))}), fs = require("fs");
v.validateBytes(new Uint8Array(fs.readFileSync({json.dumps(str(tmp_path / "scene.glb"))}))).then(r => console.log(JSON.stringify(r.issues)))"""
    answer = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True, timeout=60)
    issues = json.loads(answer.stdout)
    # the validator is older than the extension, whose attribute names are all that it does not know
    unknown = [m for m in issues["messages"] if m["severity"] == 0 and "KHR_gaussian_splatting:" not in m["pointer"]]
    assert not unknown and not any("ACCESSOR" in m["code"] or "GLB" in m["code"] for m in issues["messages"])


def test_y_up_is_half_a_turn(known_scene, run, tmp_path):
    assert run("export", known_scene, "-f", "ply", "-o", tmp_path / "up.ply", "--up", "y").exit_code == 0
    up, own = read_gaussians(tmp_path / "up.ply"), load_scene(known_scene).gaussians
    assert torch.equal(up.means, own.means * torch.tensor([1.0, -1, -1]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-f", "fbx"), "unknown format 'fbx'"),
        (("-f", "spx"), "did you mean 'spz'"),
        (("-f", "spz", "-o", "scene.ply"), "format spz is written as .spz"),
        (("-f", "ply", "--up", "z"), "choose as-is or y"),
        (("-f", "ply", "-o", "/proc/none/scene.ply"), "Choose another folder with -o"),
    ],
)
def test_wrong_requests_are_told(known_scene, run, options, said):
    done = run("export", known_scene, *options)
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())


def test_what_a_file_alone_cannot_give_is_told(known_scene, run, tmp_path):
    shutil.copy(known_scene / "scene.ply", tmp_path / "a.ply")
    done = run("export", tmp_path / "a.ply", "-f", "mesh")
    assert done.exit_code == 2 and "needs cameras" in done.stderr
    same = run("export", tmp_path / "a.ply", "-f", "ply")
    assert same.exit_code == 2 and "is the source itself" in same.stderr
    none = run("export", tmp_path / "none", "-f", "ply")
    assert none.exit_code == 2 and "does not exist" in none.stderr

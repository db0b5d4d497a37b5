"""A real scene in every format: the command, its folders read by other programs, and what it refuses."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import plyfile
import pytest
import torch
from PIL import Image

from sparse3d.export import FORMATS, ExportOptions, Source
from sparse3d.io.images import read_image
from sparse3d.io.load import load_scene
from sparse3d.io.ply import read_gaussians
from sparse3d.io.splats.read import read_splats
from sparse3d.render import drawer
from sparse3d.types import PosedViews


def test_the_help_names_every_format(run):
    said = " ".join(run("export", "--help").output.replace("│", " ").split())
    for name in FORMATS:
        assert f"{name}," in said or f"{name} (" in said or f"{name};" in said, name


@pytest.mark.parametrize(
    ("name", "floor"), [("ply", 80), ("compressed-ply", 35), ("spz", 38), ("sog", 33), ("gltf", 80)]
)
def test_a_scene_looks_the_same_in_each_format(known_scene, run, tmp_path, name, floor):
    """The file is drawn as the scene is; the floor is what the format's steps leave of it, as PSNR between the two renders."""
    file = tmp_path / f"out{FORMATS[name].suffix}"
    result = run("export", known_scene, "--format", name, "-o", file, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["path"] == str(file)
    scene = load_scene(known_scene)
    camera = scene.posed.views[2].cameras
    want = drawer(scene.gaussians, scene.look)(camera).image
    got = drawer(read_splats(file), scene.look)(camera).image
    error = float(((got - want) ** 2).mean())
    assert -10 * np.log10(max(error, 1e-10)) > floor


@pytest.mark.parametrize("antialiased", [False, True])
def test_files_say_how_they_are_to_be_drawn(known_scene, tmp_path, antialiased):
    scene = load_scene(known_scene)
    source = Source("s", scene.gaussians, scene.posed, replace(scene.look, antialiased=antialiased))
    for name in ("ply", "spz"):
        FORMATS[name].write(tmp_path / name, source, ExportOptions(), "-y")
    mode = b"mip" if antialiased else b"default"
    assert b"comment SplatRenderMode: " + mode + b"\n" in (tmp_path / "ply").read_bytes()[:300]
    assert gzip.decompress((tmp_path / "spz").read_bytes())[14] == antialiased


def test_convert_a_file_back_and_forth(known_scene, run, tmp_path):
    """From PLY through SPZ with the axes of PLY, to z up and degree 0."""
    for source, name, target, options in (
        (known_scene / "scene.ply", "spz", "a.spz", ["--spz-frame", "raw", "--min-opacity", "0"]),
        (tmp_path / "a.spz", "ply", "b.ply", ["--spz-frame", "raw", "--up", "z", "--max-sh-degree", "0", "--min-opacity", "0"]),
    ):  # fmt: skip
        result = run("export", source, "--format", name, "-o", tmp_path / target, *options)
        assert result.exit_code == 0, result.output
    before, after = read_gaussians(known_scene / "scene.ply"), read_gaussians(tmp_path / "b.ply")
    x, y, z = before.means.unbind(1)
    torch.testing.assert_close(after.means, torch.stack([x, z, -y], 1), atol=1e-4, rtol=0)
    assert after.sh_degree == 0 and b"comment up: z\n" in (tmp_path / "b.ply").read_bytes()[:300]


def test_colmap_is_read_by_pycolmap(known_scene, run, tmp_path):
    import cv2  # noqa: F401  before pycolmap: see sparse3d/io/_pycolmap.py
    import pycolmap

    result = run("export", known_scene, "--format", "colmap", "-o", tmp_path / "model")
    assert result.exit_code == 0, result.output
    model = pycolmap.Reconstruction(tmp_path / "model" / "sparse" / "0")
    scene = load_scene(known_scene)
    assert len(model.images) == len(scene.posed.views) == 8 and len(model.points3D) == len(scene.posed.points)
    for view in scene.posed.views:
        (image,) = (i for i in model.images.values() if Path(i.name).stem == Path(view.name).stem)
        np.testing.assert_allclose(image.cam_from_world().matrix(), view.cameras.w2c[0, :3], atol=1e-5)
        np.testing.assert_allclose(model.cameras[image.camera_id].calibration_matrix(), view.K, rtol=1e-5)
        assert (read_image(tmp_path / "model" / "images" / image.name).image - view.image).abs().max() < 1 / 255


def test_nerfstudio_folder(known_scene, run, tmp_path):
    """By its words: OpenGL cameras, an image for each, points in the same world. The points lie where the cameras look."""
    result = run("export", known_scene, "--format", "nerfstudio", "-o", tmp_path / "set")
    assert result.exit_code == 0, result.output
    meta = json.loads((tmp_path / "set" / "transforms.json").read_text())
    scene = load_scene(known_scene)
    points = plyfile.PlyData.read(str(tmp_path / "set" / meta["ply_file_path"]))["vertex"].data
    xyz = np.stack([points[axis] for axis in "xyz"], axis=1)
    assert len(meta["frames"]) == 8 and 1000 < len(xyz) <= 200_000
    for frame, view in zip(meta["frames"], scene.posed.views, strict=True):
        image = read_image(tmp_path / "set" / frame["file_path"]).image
        assert tuple(image.shape[1:]) == (frame["h"], frame["w"])
        matrix = np.array(frame["transform_matrix"])
        np.testing.assert_allclose(matrix[:3, 3], view.c2w[:3, 3], atol=1e-6)
        camera = (np.c_[xyz, np.ones(len(xyz))] @ np.linalg.inv(matrix).T)[:, :3]
        ahead = -camera[:, 2] > 0  # OpenGL looks along -z
        u = frame["cx"] + frame["fl_x"] * camera[ahead, 0] / -camera[ahead, 2]
        v = frame["cy"] - frame["fl_y"] * camera[ahead, 1] / -camera[ahead, 2]
        inside = (u > 0) & (u < frame["w"]) & (v > 0) & (v < frame["h"])
        assert ahead.mean() > 0.9 and inside.mean() > 0.4
        # the colours of the points are those of the photo where they appear, more so than of the photo turned round
        picked = image[:, v[inside].astype(int), u[inside].astype(int)].numpy()
        rgb = np.stack([points[c] for c in ("red", "green", "blue")])[:, ahead][:, inside] / 255
        turned = image.flip(1, 2)[:, v[inside].astype(int), u[inside].astype(int)].numpy()
        assert np.abs(picked - rgb).mean() < 0.7 * np.abs(turned - rgb).mean()


def test_nerfstudio_s_own_dataparser_reads_it(known_scene, repository, run, tmp_path):
    python = os.environ.get("SPARSE3D_NERFSTUDIO_PYTHON")
    if not python:
        pytest.skip("no nerfstudio: SPARSE3D_NERFSTUDIO_PYTHON names no Python that has it")
    assert run("export", known_scene, "--format", "nerfstudio", "-o", tmp_path / "set").exit_code == 0
    script = repository / "tests" / "support" / "read_with_nerfstudio.py"
    done = subprocess.run([python, script, tmp_path / "set"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    got = json.loads(done.stdout.splitlines()[-1])
    scene = load_scene(known_scene)
    views = {Path(view.name).stem: view for view in scene.posed.views}
    assert sorted(Path(name).stem for name in got["names"]) == sorted(views)
    for name, pose, fx, size in zip(got["names"], got["poses"], got["fx"], got["sizes"], strict=True):
        view = views[Path(name).stem]
        in_opengl = view.c2w[:3] * torch.tensor([1.0, -1.0, -1.0, 1.0])
        torch.testing.assert_close(torch.tensor(pose), in_opengl, atol=1e-6, rtol=0)
        assert fx == pytest.approx(float(view.K[0, 0])) and size == [view.height, view.width]
    kept = scene.gaussians[scene.gaussians.opacities >= 0.1]
    torch.testing.assert_close(torch.tensor(got["points"]), kept.means)


def test_masks_go_with_the_photos(known_scene, tmp_path):
    scene = load_scene(known_scene)
    mask = torch.zeros(scene.posed.views[0].height, scene.posed.views[0].width, dtype=torch.bool)
    mask[:50] = True
    views = (replace(scene.posed.views[0], mask=mask), *scene.posed.views[1:], replace(scene.posed.views[1], name="drawn", generated=True))  # fmt: skip
    source = Source("s", scene.gaussians, PosedViews(views, scene.posed.points), scene.look)
    FORMATS["nerfstudio"].write(tmp_path / "set", source, ExportOptions(), "-y")
    frames = json.loads((tmp_path / "set" / "transforms.json").read_text())["frames"]
    assert len(frames) == 8, "a view that a prior drew is no photo"
    assert [("mask_path" in frame) for frame in frames] == [True] + [False] * 7
    stored = Image.open(tmp_path / "set" / frames[0]["mask_path"])
    assert stored.mode == "L" and np.array_equal(np.asarray(stored) > 0, mask.numpy())


def test_points(known_scene, run, tmp_path):
    result = run(
        "export", known_scene, "--format", "points", "-o", tmp_path / "p.ply", "--min-opacity", "0.2", "--up", "y"
    )
    assert result.exit_code == 0, result.output
    gaussians = read_gaussians(known_scene / "scene.ply")
    kept = gaussians[gaussians.opacities >= 0.2]
    data = plyfile.PlyData.read(str(tmp_path / "p.ply"))["vertex"].data
    assert len(data) == len(kept) < len(gaussians)
    np.testing.assert_array_equal(data["x"], kept.means[:, 0])
    np.testing.assert_array_equal(data["y"], -kept.means[:, 1])
    shown = ((0.5 + 0.28209479 * kept.sh[:, 0, 0]).clamp(0, 1) * 255).numpy()
    assert np.abs(data["red"] - shown).max() <= 0.51


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply"])
def test_mesh_is_on_the_surfaces(known_scene, repository, run, tmp_path, suffix):
    """Read by trimesh: within the budget of triangles, coloured, and its rays to the cameras meet no other surface before it."""
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    pytest.importorskip("open3d", reason="open3d is not installed")
    file = tmp_path / f"m.{suffix}"
    result = run("export", known_scene, "--format", "mesh", "-o", file, "--faces", "4000", "--up", "-y")
    assert result.exit_code == 0, result.output
    mesh = trimesh.load(file, process=False, force="mesh")
    assert 1000 < len(mesh.faces) <= 4000
    scene = load_scene(known_scene)
    view = scene.posed.views[0]
    rendering = drawer(scene.gaussians, scene.look)(view.cameras)
    camera = np.asarray(mesh.vertices) @ view.cameras.w2c[0, :3, :3].T.numpy() + view.cameras.w2c[0, :3, 3].numpy()
    K = view.K.numpy()
    u, v = (camera[:, i] / camera[:, 2] * K[i, i] + K[i, 2] for i in (0, 1))
    inside = (camera[:, 2] > 0) & (u >= 0) & (u < view.width) & (v >= 0) & (v < view.height)
    at = v[inside].astype(int), u[inside].astype(int)
    depth = rendering.median_depth[0].numpy()[at]
    seen = depth > 0
    off = np.abs(camera[inside][seen, 2] / depth[seen] - 1)
    assert np.median(off) < 0.05  # vertices behind other surfaces are among them
    colors = np.asarray(mesh.visual.vertex_colors)[inside][seen][:, :3] / 255
    photo = view.image.permute(1, 2, 0).numpy()[at][seen]
    front = off < 0.05
    assert np.abs(colors - photo)[front].mean() < 0.15
    normals = np.asarray(mesh.vertex_normals)[inside][seen][front]
    towards = view.c2w[:3, 3].numpy() - np.asarray(mesh.vertices)[inside][seen][front]
    assert ((normals * towards).sum(1) > 0).mean() > 0.8  # faces look outwards


def test_mesh_without_open3d_says_how_to_install(known_scene, run, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "open3d", None)
    result = run("export", known_scene, "--format", "mesh", "-o", tmp_path / "m.glb")
    assert result.exit_code == 2 and "pip install 'sparse3d[mesh]'" in " ".join(result.output.split())


def test_what_is_no_scene_is_refused(run, tmp_path):
    result = run("export", tmp_path / "nothing", "--format", "ply")
    assert result.exit_code == 2 and "does not exist" in result.output
    (tmp_path / "a.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 3\n")
    result = run("export", tmp_path / "a.ply", "--format", "spz", "-o", tmp_path / "a.spz")
    assert result.exit_code == 2 and "not a whole PLY" in " ".join(result.output.split())
    assert not (tmp_path / "a.spz").exists()

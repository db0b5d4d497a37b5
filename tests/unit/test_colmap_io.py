"""COLMAP models: ours read by pycolmap, others' read by us, one by hand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.synthetic import textured_plane

from sparse3d.errors import UserError
from sparse3d.geometry import invert_rigid, project, rotation_from_quat
from sparse3d.io._pycolmap import pycolmap
from sparse3d.io.colmap import find_model, read_model, write_model
from sparse3d.io.lens import Lens
from sparse3d.types import Points, PosedViews, View

CAMERAS = (
    "# id model width height params\n1 PINHOLE 640 480 500 510 320 240\n"
    "7 OPENCV 1280 960 900 910 640 480 0.1 -0.02 0.001 0.002\n"
)
# the second camera is turned by 90 degrees around z: (x, y, z) -> (-y, x, z)
IMAGES = (
    "# id qw qx qy qz tx ty tz camera name\n"
    "2 0.70710678118654752 0 0 0.70710678118654752 1 2 3 7 b.jpg\n10 20 5 30 40 -1\n"
    "9 1 0 0 0 0.5 0 0 1 sub/a.jpg\n11 21 5 31 41 6\n"
)
POINTS = "# id xyz rgb error track\n6 1 1 9 0 0 0 0.25 9 1\n5 0.5 -1 4 255 51 0 0.75 9 0 2 0\n"


def write_text(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"cameras": CAMERAS, "images": IMAGES, "points3D": POINTS}.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def posed_views() -> PosedViews:
    """Three views of different sizes, points with and without observations."""
    generator = torch.Generator().manual_seed(0)
    views = []
    for i, name in enumerate(("c.png", "a.png", "b.png")):
        c2w = torch.eye(4)
        c2w[:3, :3] = rotation_from_quat(torch.randn(4, generator=generator))
        c2w[:3, 3] = torch.randn(3, generator=generator)
        K = torch.tensor([[50.0 + i, 0, 20.5], [0, 52.0, 14.25], [0, 0, 1]])
        views.append(View(name, torch.zeros(3, 30 + i, 40), K, c2w))
    xyz = torch.randn(4, 3, generator=generator)
    rgb = torch.tensor([[0, 1, 0.2], [0.4, 0.6, 0.8], [1, 1, 1], [0, 0, 0]])
    tracks = (("a.png", "c.png"), ("b.png",), (), ("c.png", "a.png", "b.png"))
    return PosedViews(tuple(views), Points(xyz, rgb, torch.tensor([0.5, 1.5, 0.0, 2.0]), tracks))


def test_a_model_by_hand(tmp_path: Path) -> None:
    model = read_model(write_text(tmp_path))
    assert model.names == ("b.jpg", "sub/a.jpg")  # by image id
    assert model.lenses[0] == Lens("OPENCV", (900, 910, 640, 480, 0.1, -0.02, 0.001, 0.002), 960, 1280)
    assert model.lenses[1] == Lens("PINHOLE", (500, 510, 320, 240), 480, 640)
    turned = [[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    torch.testing.assert_close(model.w2c[0], torch.tensor(turned, dtype=torch.float64))
    assert model.w2c[1].tolist() == [[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert model.points.xyz.tolist() == [[0.5, -1, 4], [1, 1, 9]]  # by point id
    torch.testing.assert_close(model.points.rgb, torch.tensor([[1.0, 0.2, 0], [0, 0, 0]]))
    assert model.points.error_px.tolist() == [0.75, 0.25]
    assert model.points.tracks == (("sub/a.jpg", "b.jpg"), ("sub/a.jpg",))


@pytest.mark.parametrize("binary", [True, False])
def test_round_trip_and_pycolmap_agrees(tmp_path: Path, binary: bool) -> None:
    posed = posed_views()
    write_model(tmp_path / "m", posed, binary)
    got = read_model(tmp_path / "m")
    assert list(got.names) == posed.names
    for view, lens, w2c in zip(posed.views, got.lenses, got.w2c, strict=True):
        assert lens == Lens.pinhole(view.K, view.height, view.width)
        torch.testing.assert_close(invert_rigid(w2c), view.c2w.double(), rtol=0, atol=1e-6)
    assert torch.equal(got.points.xyz, posed.points.xyz) and torch.equal(got.points.error_px, posed.points.error_px)
    torch.testing.assert_close(got.points.rgb, posed.points.rgb, rtol=0, atol=1e-6)
    assert [sorted(track) for track in got.points.tracks] == [sorted(track) for track in posed.points.tracks]

    model = pycolmap().Reconstruction(tmp_path / "m")
    assert model.num_points3D() == 4 and model.compute_num_observations() == 6 and model.is_valid()
    for view in posed.views:
        image = model.find_image_with_name(view.name)
        camera = model.camera(image.camera_id)
        assert camera.model.name == "PINHOLE" and (camera.height, camera.width) == (view.height, view.width)
        seen = [i for i, track in enumerate(posed.points.tracks) if view.name in track]
        observed = [(point.point3D_id - 1, point.xy) for point in image.points2D]
        assert [i for i, _ in observed] == seen
        pixels, _ = project(posed.points.xyz[seen], invert_rigid(view.c2w), view.K)
        np.testing.assert_allclose(np.array([xy for _, xy in observed]), pixels.numpy(), rtol=1e-3, atol=1e-3)


def test_the_other_format_does_not_stay_behind(tmp_path: Path) -> None:
    write_text(tmp_path)
    write_model(tmp_path, posed_views(), binary=True)
    assert all(path.suffix == ".bin" for path in tmp_path.iterdir())
    write_model(tmp_path, posed_views(), binary=False)
    assert {path.name for path in tmp_path.iterdir()} >= {"cameras.txt", "images.txt", "points3D.txt"}
    assert all(path.suffix == ".txt" for path in tmp_path.iterdir())


def test_models_without_rigs_and_frames_are_read(tmp_path: Path) -> None:
    """COLMAP before 3.12 wrote three files."""
    write_model(tmp_path, posed_views(), binary=True)
    for name in ("rigs.bin", "frames.bin"):
        (tmp_path / name).unlink()
    assert list(read_model(tmp_path).names) == posed_views().names


def test_views_that_are_not_there_leave_the_tracks(tmp_path: Path) -> None:
    posed = posed_views()
    write_model(tmp_path, PosedViews(posed.views[:1], posed.points))
    assert read_model(tmp_path).points.tracks == (("c.png",), (), (), ("c.png",))
    write_model(tmp_path, PosedViews(posed.views, Points.none()))
    assert len(read_model(tmp_path).points) == 0


def test_a_model_is_found_where_people_keep_it(tmp_path: Path) -> None:
    write_text(tmp_path / "a")
    write_text(tmp_path / "b" / "sparse" / "0")
    write_text(tmp_path / "c" / "sparse")
    assert find_model(tmp_path / "a") == tmp_path / "a"
    assert find_model(tmp_path / "b") == tmp_path / "b" / "sparse" / "0"
    assert find_model(tmp_path / "c") == tmp_path / "c" / "sparse"
    assert find_model(tmp_path) is None


def test_broken_models_say_so(tmp_path: Path) -> None:
    write_text(tmp_path)
    (tmp_path / "points3D.txt").unlink()
    with pytest.raises(UserError, match=r"points3D\.txt missing"):
        read_model(tmp_path)
    write_text(tmp_path)
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 640 480 500\n")
    with pytest.raises(UserError, match="damaged"):
        read_model(tmp_path)
    write_model(tmp_path / "bin", posed_views())
    whole = (tmp_path / "bin" / "images.bin").read_bytes()
    (tmp_path / "bin" / "images.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged"):
        read_model(tmp_path / "bin")


def test_lenses_scale_like_images() -> None:
    lens = Lens("OPENCV", (100, 110, 60, 40, 0.1, 0.2, 0.3, 0.4), 80, 120)
    assert lens.scaled_to(40, 60) == Lens("OPENCV", (50, 55, 30, 20, 0.1, 0.2, 0.3, 0.4), 40, 60)
    assert lens.K.tolist() == [[100, 0, 60], [0, 110, 40], [0, 0, 1]] and lens.is_distorted
    assert not Lens("SIMPLE_RADIAL", (100, 60, 40, 0), 80, 120).is_distorted
    assert Lens("OPENCV_FISHEYE", (100, 100, 60, 40, 0, 0, 0, 0), 80, 120).is_distorted
    with pytest.raises(ValueError, match="there is no camera model 'OPENVC'"):
        Lens("OPENVC", (1.0,), 2, 2).camera()
    with pytest.raises(ValueError, match="needed fx, fy, cx, cy"):
        Lens("PINHOLE", (1.0,), 2, 2).camera()


def test_cv2_can_write_a_png_after_our_import(tmp_path: Path) -> None:
    """With pycolmap imported first, cv2's PNG writer aborts; in a process of its own, for it is about order."""
    code = (
        "import sys; from sparse3d.io._pycolmap import pycolmap, cv2; import sparse3d.io.colmap\n"
        "assert 'cv2' not in sys.modules and 'pycolmap' not in sys.modules, 'imported too early'\n"
        "pycolmap(); import numpy as np\n"
        f"assert cv2().imwrite({str(tmp_path / 'a.png')!r}, np.zeros((64, 64, 3), np.uint8))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "a.png").stat().st_size > 0, done.stderr


def test_nothing_else_imports_pycolmap_or_cv2(repository: Path) -> None:
    pattern = re.compile(r"^\s*(import|from)\s+(pycolmap|cv2)\b", re.MULTILINE)
    files = [
        file for folder in ("sparse3d", "kernels", "viewer", "cli") for file in (repository / folder).rglob("*.py")
    ]
    assert len(files) > 10
    assert [file.name for file in files if pattern.search(file.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("libGL.so.1: cannot open shared object file", "apt install libgl1"),
        ("No module named 'cv2'", "pip install opencv-python"),
    ],
)
def test_opencv_that_cannot_start_says_what_to_do(monkeypatch: pytest.MonkeyPatch, message: str, advice: str) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError(message) if "module" in message else ImportError(message)

    monkeypatch.setattr("sparse3d.io._pycolmap.importlib.import_module", fail)
    with pytest.raises(UserError, match=advice):
        pycolmap()


def test_real_model(real_data: Path) -> None:
    """Numbers of its README: 20 images, 8020 points seen 5.3 times each, 837 pixels, 0.62 pixels of error."""
    folder = real_data / "fern"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    found = find_model(folder)
    assert found is not None
    model = read_model(found)
    assert len(model.names) == 20 and len(model.points) == 8020
    assert abs(model.lenses[0].params[0] - 837) < 1 and (model.lenses[0].height, model.lenses[0].width) == (756, 1008)
    lengths = [len(track) for track in model.points.tracks]
    assert abs(sum(lengths) / len(lengths) - 5.3) < 0.1 and abs(model.points.error_px.mean().item() - 0.62) < 0.01
    # every point lies before the cameras that see it, and inside their images
    for i in range(0, 20, 7):
        seen = [p for p, track in enumerate(model.points.tracks) if model.names[i] in track]
        pixels, depth = project(model.points.xyz[seen], model.w2c[i].float(), model.lenses[i].K)
        assert len(seen) > 500 and (depth > 0).all()
        assert (pixels > -5).all() and (pixels < torch.tensor([1013.0, 761.0])).all()


@pytest.mark.parametrize("name", ["images.bin", "points3D.bin"])
def test_a_cut_off_file_is_told(name, tmp_path):
    """Of a name cut off in images.bin, COLMAP itself reads for ever."""
    posed, _ = textured_plane(12, 16)
    points = Points(torch.rand(2, 3) + 3, torch.rand(2, 3), torch.rand(2), (tuple(posed.names[:2]), ()))
    write_model(tmp_path, PosedViews(posed.views, points))
    whole = (tmp_path / name).read_bytes()
    assert len(read_model(tmp_path).names) == 3
    for length in range(len(whole)):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(UserError, match="is damaged"):
            read_model(tmp_path)

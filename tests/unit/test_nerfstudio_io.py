"""nerfstudio's files: axes and intrinsics by hand, and what is wrong is named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.foreign import brown, points_before

from sparse3d.errors import UserError
from sparse3d.geometry import rotation_from_quat
from sparse3d.io.images import write_image
from sparse3d.io.lens import Lens
from sparse3d.io.nerfstudio import read_camera_path, read_transforms, write_transforms
from sparse3d.types import View

# a camera at (1, 2, 3) in a z-up world, looking along +x, upright: in OpenGL axes its x (right) is -y of the world,
# its y (up) is z, and its z (backwards) is -x
LOOKING_ALONG_X = [[0, 0, -1, 1], [-1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 0, 1]]
# in OpenCV axes: right is -y, down is -z, forward is +x; the columns of the matrix
IN_OPENCV = [[0.0, 0, 1, 1], [-1, 0, 0, 2], [0, -1, 0, 3], [0, 0, 0, 1]]


def write(folder: Path, meta: dict[str, Any], name: str = "transforms.json") -> Path:
    (folder / name).write_text(json.dumps(meta))
    return folder / name


def frame(**keys: Any) -> dict[str, Any]:
    return {"file_path": "images/a.jpg", "transform_matrix": LOOKING_ALONG_X, **keys}


def test_axes_and_global_intrinsics_by_hand(tmp_path: Path) -> None:
    meta = {"camera_model": "OPENCV", "fl_x": 500, "fl_y": 510, "cx": 321, "cy": 241, "w": 640.0, "h": 480.0}
    meta |= {"k1": 0.1, "k2": -0.2, "p1": 0.01, "p2": 0.02}
    (got,) = read_transforms(write(tmp_path, {**meta, "frames": [frame()]}))
    assert got.name == "a.jpg" and got.path == tmp_path / "images" / "a.jpg" and not got.generated
    assert got.c2w.tolist() == IN_OPENCV
    assert got.lens == Lens("OPENCV", (500, 510, 321, 241, 0.1, -0.2, 0.01, 0.02), 480, 640)


def test_frames_have_their_own_intrinsics(tmp_path: Path) -> None:
    frames = [frame(), frame(file_path="b.png", fl_x=99, fl_y=98, cx=11, cy=12, w=40, h=30)]
    a, b = read_transforms(write(tmp_path, {"fl_x": 500, "w": 640, "h": 480, "frames": frames}))
    assert a.lens == Lens("PINHOLE", (500, 500, 320, 240), 480, 640)  # the centre, and square pixels
    assert b.lens == Lens("PINHOLE", (99, 98, 11, 12), 30, 40)


@pytest.mark.parametrize(
    ("keys", "want"),
    [
        ({"camera_model": "OPENCV_FISHEYE", "k1": 1, "k2": 2, "k3": 3, "k4": 4}, ("OPENCV_FISHEYE", (1, 2, 3, 4))),
        ({"camera_model": "OPENCV", "k1": 1, "k3": 3, "p2": 5}, ("FULL_OPENCV", (1, 0, 0, 5, 3, 0, 0, 0))),
        ({"camera_model": "OPENCV", "k1": 0.0}, ("PINHOLE", ())),
        ({"camera_model": "SIMPLE_PINHOLE", "k1": 1}, ("PINHOLE", ())),
        ({"k1": 1}, ("OPENCV", (1, 0, 0, 0))),
        ({"k1": 1, "aabb_scale": 16, "scale": 0.3, "offset": [1, 2, 3]}, ("OPENCV", (1, 0, 0, 0))),  # instant-ngp's box
        ({"is_fisheye": True, "k1": 1, "k2": 2, "k3": 3, "k4": 4}, ("OPENCV_FISHEYE", (1, 2, 3, 4))),
        ({"is_fisheye": False, "k1": 1}, ("OPENCV", (1, 0, 0, 0))),
        ({"distortion_params": [1, 2, 0, 0, 5, 6]}, ("OPENCV", (1, 2, 5, 6))),
        (
            {"camera_model": "FISHEYE624", "distortion_params": list(range(12))},
            ("RAD_TAN_THIN_PRISM_FISHEYE", tuple(range(12))),
        ),
    ],
)
def test_lens_models(tmp_path: Path, keys: dict[str, Any], want: tuple[str, tuple[float, ...]]) -> None:
    (got,) = read_transforms(write(tmp_path, {"fl_x": 5, "w": 8, "h": 6, **keys, "frames": [frame()]}))
    assert got.lens == Lens(want[0], (5, 5, 4, 3, *want[1]), 6, 8)
    got.lens.camera()  # pycolmap accepts it


def test_nerf_synthetic_files(tmp_path: Path) -> None:
    """Only an angle; image names without suffix; the size is that of the images, or of photos read elsewhere."""
    write_image(tmp_path / "train" / "r_0.png", torch.zeros(3, 20, 40))
    meta = {"camera_angle_x": 2 * math.atan(0.5), "frames": [frame(file_path="./train/r_0")]}
    path = write(tmp_path, meta, "transforms_train.json")
    (got,) = read_transforms(path)
    assert got.name == "r_0.png" and got.path.is_file()
    assert got.lens.model == "PINHOLE" and got.lens.params == pytest.approx((40, 40, 20, 10))
    (tmp_path / "train" / "r_0.png").unlink()
    with pytest.raises(UserError, match="'w' and 'h'"):
        read_transforms(path)
    (got,) = read_transforms(path, sizes={"r_0": (50, 80)})
    assert got.lens.params == pytest.approx((80, 80, 40, 25)) and (got.lens.height, got.lens.width) == (50, 80)


def without(keys: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if key not in names}


GOOD = {"fl_x": 500, "w": 640, "h": 480}


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({**GOOD}, "no 'frames'"),
        ({**GOOD, "frames": [without(frame(), "file_path")]}, "frame 0 has no 'file_path'"),
        (
            {**GOOD, "frames": [frame(), without(frame(), "transform_matrix")]},
            r"frame 1 \(images/a\.jpg\) has no 'transform_matrix'",
        ),
        ({**GOOD, "frames": [frame(transform_matrix=[[1, 2], [3, 4]])]}, "has 4 numbers, needed 12 or 16 finite"),
        ({**GOOD, "frames": [frame(transform_matrix="abc")]}, "not made of numbers"),
        (
            {**GOOD, "frames": [frame(transform_matrix=[[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])]},
            "scales",
        ),
        (
            {**GOOD, "frames": [frame(transform_matrix=[[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])]},
            "mirrors",
        ),
        ({**without(GOOD, "fl_x"), "frames": [frame()]}, "no 'fl_x'.*camera_angle_x"),
        ({**without(GOOD, "h"), "frames": [frame()]}, "no 'h'"),
        ({**GOOD, "fl_x": "wide", "frames": [frame()]}, "'fl_x' is 'wide', needed a number"),
        ({**GOOD, "fl_x": -3, "frames": [frame()]}, "focal length is -3"),
        ({**GOOD, "camera_model": "EQUIRECTANGULAR", "frames": [frame()]}, "EQUIRECTANGULAR"),
        (
            {**GOOD, "camera_model": "OMNIDIRECTIONALSTEREO_L", "frames": [frame()]},
            "'OMNIDIRECTIONALSTEREO_L' is not read",
        ),
        ({**GOOD, "camera_model": "FISHEYE624", "frames": [frame()]}, "no 'distortion_params'"),
        ({**GOOD, "distortion_params": [1, 2], "frames": [frame()]}, "'distortion_params' has 2 numbers, needed 6"),
        ({**GOOD, "k4": 1e3, "frames": [frame()]}, "k4 is 1000.0.*off by .* pixels"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, meta: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"transforms\.json.*{message}"):
        read_transforms(write(tmp_path, meta))


def test_files_that_are_not_json(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{")
    with pytest.raises(UserError, match=r"t\.json: is not JSON"):
        read_transforms(tmp_path / "t.json")
    (tmp_path / "t.json").write_text("[]")
    with pytest.raises(UserError, match="holds a list"):
        read_transforms(tmp_path / "t.json")
    with pytest.raises(UserError, match="No such file"):
        read_transforms(tmp_path / "absent.json")


def test_round_trip_is_exact(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    views = []
    for i in range(3):
        c2w = torch.eye(4)
        c2w[:3, :3] = rotation_from_quat(torch.randn(4, generator=generator))
        c2w[:3, 3] = torch.randn(3, generator=generator)
        K = torch.tensor([[50.0 + i, 0, 20.1], [0, 52.3, 14.7], [0, 0, 1]])
        views.append(View(f"{i}.png", torch.zeros(3, 30, 40 + i), K, c2w, generated=i == 1))
    write_transforms(tmp_path / "new" / "transforms.json", views)
    frames = read_transforms(tmp_path / "new" / "transforms.json")
    for view, got in zip(views, frames, strict=True):
        assert got.name == view.name and got.path == tmp_path / "new" / "images" / view.name
        assert torch.equal(got.c2w.float(), view.c2w) and got.lens == Lens.pinhole(view.K, view.height, view.width)
        assert got.generated == view.generated
    write_transforms(tmp_path / "t.json", views, file_paths=[f"../views/{i}.jpg" for i in range(3)])
    assert [got.name for got in read_transforms(tmp_path / "t.json")] == ["0.jpg", "1.jpg", "2.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "t.json"]


def test_written_file_by_hand(tmp_path: Path) -> None:
    K = torch.tensor([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])
    write_transforms(tmp_path / "t.json", [View("a.jpg", torch.zeros(3, 480, 640), K, torch.tensor(IN_OPENCV))])
    intrinsics = {"w": 640, "h": 480, "fl_x": 500.0, "fl_y": 510.0, "cx": 320.0, "cy": 240.0}
    assert json.loads((tmp_path / "t.json").read_text()) == {
        "camera_model": "PINHOLE",
        "frames": [{"file_path": "images/a.jpg", **intrinsics, "transform_matrix": LOOKING_ALONG_X}],
    }


def test_camera_path_by_hand(tmp_path: Path) -> None:
    """90 degrees of vertical view: the focal length is half the height."""
    flat = [number for row in LOOKING_ALONG_X for number in row]
    meta: dict[str, Any] = {
        "camera_type": "perspective",
        "render_height": 100,
        "render_width": 200,
        "fps": 30,
        "seconds": 4,
    }
    meta["camera_path"] = [{"camera_to_world": flat, "fov": 90, "aspect": 2.0}, {"camera_to_world": flat, "fov": 60}]
    path = read_camera_path(write(tmp_path, meta))
    assert path.fps == 30 and len(path.cameras) == 2 and (path.cameras.height, path.cameras.width) == (100, 200)
    assert path.cameras.c2w[0].tolist() == IN_OPENCV
    torch.testing.assert_close(path.cameras.K[0], torch.tensor([[50.0, 0, 100], [0, 50, 50], [0, 0, 1]]))
    assert path.cameras.K[1, 0, 0].item() == pytest.approx(50 * math.sqrt(3))
    assert read_camera_path(write(tmp_path, without(meta, "fps"))).fps == 0.5  # 2 frames in 4 seconds
    for change, message in [
        ({"camera_type": "fisheye"}, "'fisheye'"),
        ({"camera_path": []}, "no 'camera_path'"),
        ({"camera_path": [{"fov": 3}]}, "camera 0 .*no 'camera_to_world'"),
        ({"camera_path": [{"camera_to_world": flat}]}, "no 'fov'"),
        ({"camera_path": [{"camera_to_world": flat, "fov": 180}]}, "'fov' is 180"),
        ({"render_height": 0}, "'render_height' is 0"),
    ]:
        with pytest.raises(UserError, match=message):
            read_camera_path(write(tmp_path, {**meta, **change}))
    with pytest.raises(UserError, match="no 'render_width'"):
        read_camera_path(write(tmp_path, without(meta, "render_width")))


def test_real_file(real_data: Path) -> None:
    """instant-ngp's fox: the numbers that stand in the file, and cameras that look at the fox between them."""
    path = real_data / "fox" / "source_transforms.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    frames = read_transforms(path)
    lens = Lens(
        "OPENCV", (1375.52, 1374.49, 554.558, 965.268, 0.0578421, -0.0805099, -0.000980296, 0.00015575), 1920, 1080
    )
    assert len(frames) >= 50 and all(frame.lens == lens for frame in frames)
    centres = torch.stack([frame.c2w[:3, 3] for frame in frames])
    forward = torch.stack([frame.c2w[:3, 2] for frame in frames])
    down = torch.stack([frame.c2w[:3, 1] for frame in frames])
    assert ((-centres * forward).sum(1) > 0).all()  # the world's origin is before every camera
    assert (down[:, 2] < -0.8).all()  # z is up and the phone was upright


def pixels(path: Path, points: np.ndarray) -> np.ndarray:
    """Where COLMAP's model sees points of the camera's frame, for the only frame of a file. (N, 2)"""
    (got,) = read_transforms(path)
    return got.lens.camera().img_from_cam(points)


PINHOLE = {"fl_x": 500.0, "fl_y": 510.0, "cx": 321.0, "cy": 241.0, "w": 640, "h": 480}
IN_CAMERA = points_before(*np.eye(3), np.zeros(3), fov=0.45)


@pytest.mark.parametrize("k4", [0.0, 0.02])
def test_perspective_distortion_is_nerfstudios(tmp_path: Path, k4: float) -> None:
    """x (1 + k1 r^2 + ... + k4 r^8) + 2 p1 xy + p2 (r^2 + 2 x^2), as nerfstudio's own undistortion has it."""
    keys = {"k1": -0.2, "k2": 0.07, "k3": -0.02, "k4": k4, "p1": 0.003, "p2": -0.002}
    x, y = (IN_CAMERA[:, :2] / IN_CAMERA[:, 2:]).T
    x, y = brown(x, y, (-0.2, 0.07, -0.02, k4), -0.002, 0.003)
    path = write(tmp_path, {**PINHOLE, **keys, "camera_model": "OPENCV", "frames": [frame()]})
    np.testing.assert_allclose(pixels(path, IN_CAMERA), np.stack([500 * x + 321, 510 * y + 241], 1), rtol=0, atol=1e-3)


def test_fisheye624_is_project_arias(tmp_path: Path) -> None:
    """Project Aria's documentation: radial on the angle, then tangential and thin prism on what that gives."""
    k, p, s = (0.4, -0.5, 0.2, 0.1, -0.06, 0.01), (0.002, -0.003), (0.001, -0.002, 0.003, 0.0005)
    a, b = (IN_CAMERA[:, :2] / IN_CAMERA[:, 2:]).T
    r = np.hypot(a, b)
    angle = np.arctan(r)
    radius = angle + sum(kn * angle ** (2 * n + 3) for n, kn in enumerate(k))
    x, y = a / r * radius, b / r * radius
    r2 = x * x + y * y
    dx = p[0] * (r2 + 2 * x * x) + 2 * p[1] * x * y + s[0] * r2 + s[1] * r2 * r2
    dy = p[1] * (r2 + 2 * y * y) + 2 * p[0] * x * y + s[2] * r2 + s[3] * r2 * r2
    keys = {**PINHOLE, "camera_model": "FISHEYE624", "distortion_params": [*k, *p, *s]}
    path = write(tmp_path, {**keys, "frames": [frame()]})
    want = np.stack([500 * (x + dx) + 321, 510 * (y + dy) + 241], 1)
    np.testing.assert_allclose(pixels(path, IN_CAMERA), want, rtol=0, atol=1e-3)


def test_instant_ngp_files(tmp_path: Path) -> None:
    """Angles in degrees, names without suffix and with backslashes, a score of sharpness in each frame."""
    write_image(tmp_path / "images" / "0001.png", torch.zeros(3, 20, 40))
    frames = [frame(file_path="images\\0001", sharpness=31.5, x_fov=90)]
    (got,) = read_transforms(write(tmp_path, {"aabb_scale": 4, "frames": frames}))
    assert got.name == "0001.png" and got.path.is_file() and got.lens.params == pytest.approx((20, 20, 20, 10))

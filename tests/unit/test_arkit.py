"""Polycam, Record3D and 3D Scanner App: pixels by ARKit's conventions against our lens and pose."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.foreign import points_before, rotation, seen_by

from sparse3d.errors import UserError
from sparse3d.io.arkit import (
    find_polycam,
    find_record3d,
    find_scanner_app,
    read_polycam,
    read_record3d,
    read_scanner_app,
)
from sparse3d.io.cameras import camera_files, read_cameras
from sparse3d.io.lens import KnownCamera
from sparse3d.types import Photo

FX, FY, CX, CY, WIDTH, HEIGHT = 700.0, 702.0, 512.0, 380.0, 1024, 768


def pose(seed: int) -> np.ndarray:
    """ARKit's camera transform: its columns are right, up, backward and the place, in a world with y up."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(seed), np.random.default_rng(seed).normal(size=3)
    return matrix


def check(camera: KnownCamera, matrix: np.ndarray) -> None:
    """A point is projected as ARKit's documentation has it: right and down from the axis, over the distance before it."""
    right, up, back, center = matrix[:3].T
    world = points_before(right, -up, -back, center)
    local = (world - center) @ np.stack([right, up, back], 1)
    want = np.stack([CX + FX * local[:, 0] / -local[:, 2], CY + FY * local[:, 1] / local[:, 2]], 1)
    np.testing.assert_allclose(seen_by(camera, world), want, rtol=0, atol=1e-3)
    assert (camera.lens.height, camera.lens.width) == (HEIGHT, WIDTH)


def polycam(path: Path, matrix: np.ndarray, **changes: Any) -> None:
    keys: dict[str, Any] = {f"t_{i}{j}": matrix[i, j] for i in range(3) for j in range(4)}
    keys |= {"fx": FX, "fy": FY, "cx": CX, "cy": CY, "width": WIDTH, "height": HEIGHT, "blur_score": 90.0}
    keys |= changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({key: value for key, value in keys.items() if value is not None}))


def photo(path: Path) -> Photo:
    image = torch.zeros(3, HEIGHT // 4, WIDTH // 4)
    return Photo(path.name, image, torch.eye(3), "default", "", path=path, original=(HEIGHT, WIDTH))


def test_polycam(tmp_path: Path) -> None:
    frames = tmp_path / "keyframes"
    for i in (10, 20):
        polycam(frames / "cameras" / f"{i}.json", pose(i))
        polycam(frames / "corrected_cameras" / f"{i}.json", pose(i + 1))
    for path in (tmp_path, frames, frames / "corrected_cameras"):
        found = read_cameras(path, [photo(tmp_path / "elsewhere" / "10.jpg")], lambda _: None)
        assert [camera.name for camera in found.cameras] == ["10", "20"] and found.in_metres
        check(found.cameras[0], pose(11))
    raw = read_cameras(tmp_path, [photo(frames / "images" / "10.jpg")], lambda _: None)  # their own cameras
    check(raw.cameras[0], pose(10))
    assert len(camera_files(tmp_path)) == 4  # a change in either is noticed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fx": None}, "has no 'fx'"),
        ({"t_11": None}, "has no 't_11'"),
        ({"t_00": 7.0}, "t_00 to t_23 is not a rotation and a translation"),
        ({"width": 0}, "'width' is 0"),
        ({"cx": "middle"}, "'cx' is 'middle', needed a number"),
        ({"fy": -1.0}, "focal length is 700.0 x -1.0"),
    ],
)
def test_wrong_polycam_files_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    polycam(tmp_path / "cameras" / "1.json", pose(1), **changes)
    with pytest.raises(UserError, match=rf"1\.json.*{message}"):
        read_polycam(find_polycam(tmp_path))


def quaternion(turn: np.ndarray) -> list[float]:
    """x y z w of a rotation: the axis is what the matrix leaves in place, the angle stands in its trace."""
    values, vectors = np.linalg.eig(turn)
    axis = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    skew = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    angle = np.arctan2(axis @ skew / 2, (np.trace(turn) - 1) / 2)
    return [*(axis * np.sin(angle / 2)), np.cos(angle / 2)]


def record3d(matrices: list[np.ndarray], **changes: Any) -> str:
    keys: dict[str, Any] = {
        "w": WIDTH,
        "h": HEIGHT,
        "K": [FX, 0, 0, 0, FY, 0, CX, CY, 1],
        "poses": [[*quaternion(matrix[:3, :3]), *matrix[:3, 3]] for matrix in matrices],
        "fps": 60,
    }
    return json.dumps(keys | changes)


def test_record3d(tmp_path: Path) -> None:
    poses = [pose(1), pose(2)]
    (tmp_path / "metadata.json").write_text(record3d(poses))
    with zipfile.ZipFile(tmp_path / "a.r3d", "w") as archive:
        own = [[FX, FY, CX, CY]] * 2
        archive.writestr("metadata", record3d(poses, K=[1, 0, 0, 0, 1, 0, 0, 0, 1], perFrameIntrinsicCoeffs=own))
    for path in (tmp_path, tmp_path / "metadata.json", tmp_path / "a.r3d"):
        found = read_cameras(path, [], lambda _: None)
        assert [camera.name for camera in found.cameras] == ["0", "1"] and found.in_metres
        for camera, matrix in zip(found.cameras, poses, strict=True):
            check(camera, matrix)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poses": []}, "has no 'poses'"),
        ({"poses": [[0, 0, 0, 1, 0, 0]]}, "frame 0: its pose has 6 numbers, needed 7"),
        ({"poses": [[0, 0, 0, 2, 0, 0, 0]]}, "is not of length 1"),
        ({"K": [1, 2]}, "'K' has 2 numbers"),
        ({"perFrameIntrinsicCoeffs": [[1, 1, 1, 1]] * 3}, "as many as the 1 poses"),
        ({"h": None}, "'h' is None"),
    ],
)
def test_wrong_record3d_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "metadata.json").write_text(record3d([pose(1)], **changes))
    with pytest.raises(UserError, match=rf"metadata\.json.*{message}"):
        read_record3d(find_record3d(tmp_path)[0])


def test_r3d_that_is_no_zip_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.r3d").write_text("metadata")
    with pytest.raises(UserError, match=r"a\.r3d: is not a Record3D recording"):
        read_record3d(tmp_path / "a.r3d")


def scanner_app(path: Path, matrix: np.ndarray, **changes: Any) -> None:
    keys: dict[str, Any] = {"intrinsics": [FX, 0, CX, 0, FY, CY, 0, 0, 1], "cameraPoseARFrame": list(matrix.ravel())}
    path.write_text(json.dumps(keys | changes))


def test_scanner_app(tmp_path: Path) -> None:
    """Sizes are those of the photo files, not of the smaller images that we work with."""
    for i in range(3):
        scanner_app(tmp_path / f"frame_{i:05d}.json", pose(i))
    (tmp_path / "info.json").write_text("{}")
    photos = [photo(tmp_path / f"frame_{i:05d}.jpg") for i in (0, 2)]
    found = read_cameras(tmp_path, photos, lambda _: None)
    assert [camera.name for camera in found.cameras] == ["frame_00000", "frame_00002"] and found.in_metres
    check(found.cameras[0], pose(0))
    check(found.cameras[1], pose(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intrinsics": [1, 2, 3]}, "'intrinsics' has 3 numbers"),
        ({"cameraPoseARFrame": [2.0, *[0.0] * 15]}, "'cameraPoseARFrame' is not a rotation"),
        ({"intrinsics": [0] * 9}, "focal length is 0"),
    ],
)
def test_wrong_scanner_app_files_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    scanner_app(tmp_path / "frame_00000.json", pose(0), **changes)
    with pytest.raises(UserError, match=rf"frame_00000\.json.*{message}"):
        read_scanner_app(find_scanner_app(tmp_path), {"frame_00000": (HEIGHT, WIDTH)})

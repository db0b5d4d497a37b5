"""RealityCapture's table and XMP files: pixels by its documented conventions against our lens and pose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.foreign import brown, points_before, rotation, seen_by

from sparse3d.errors import UserError
from sparse3d.io.realitycapture import find_xmp, read_csv, read_xmp

SIZES = {"a.jpg": (600, 800), "b": (800, 600)}
HEADER = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"
DISTORTION = (-0.1, 0.04, -0.01, 0.003, 0.002, -0.004)  # k1 k2 k3 k4 t1 t2


def turned(vector: np.ndarray, axis: np.ndarray, angle_deg: float) -> np.ndarray:
    """Rodrigues' formula: counter-clockwise seen from the tip of the axis."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return vector * c + np.cross(axis, vector) * s + axis * (axis @ vector) * (1 - c)


def axes_of(heading: float, pitch: float, roll: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right, down and forward of a camera that looks down, its top to the north, then turned about its own axes.

    By heading clockwise on the map, by pitch about its right axis (the lens rises), by roll about its upper one.
    """
    right, up, back = np.eye(3)
    right, up = turned(right, back, -heading), turned(up, back, -heading)
    up, back = turned(up, right, pitch), turned(back, right, pitch)
    right, back = turned(right, up, roll), turned(back, up, roll)
    return right, -up, -back


def documented_pixels(
    world: np.ndarray,
    axes: tuple[np.ndarray, ...],
    center: np.ndarray,
    f_35mm: float,
    offset: tuple[float, float],
    distortion: tuple[float, ...],
    size: tuple[int, int],
) -> np.ndarray:
    """The 35 mm frame is 36 mm long; offsets are shares of the longer side; OpenCV's p1 and p2 are t2 and t1."""
    local = (world - center) @ np.stack(axes, 1)
    *k, t1, t2 = distortion
    x, y = brown(local[:, 0] / local[:, 2], local[:, 1] / local[:, 2], tuple(k), t1, t2)
    height, width = size
    longer = max(height, width)
    u, v = (f_35mm / 36 * x + offset[0]) * longer + width / 2, (f_35mm / 36 * y + offset[1]) * longer + height / 2
    return np.stack([u, v], 1)


def row(name: str, values: tuple[float, ...]) -> str:
    return ",".join([name, *(f"{v:.15g}" for v in values)])


@pytest.mark.parametrize("header", [HEADER, "#name,x,y,alt,yaw,pitch,roll,f_35mm,px_norm,py_norm,k1,k2,k3,k4,t1,t2"])
def test_table(tmp_path: Path, header: str) -> None:
    places = {"a.jpg": ((1.0, 2.0, 3.0), (30.0, 70.0, -12.0)), "sub\\b.png": ((-5.0, 0.0, 9.0), (-160.0, 15.0, 40.0))}
    lines = [row(name, (*xyz, *angles, 28.0, 0.01, -0.02, *DISTORTION)) for name, (xyz, angles) in places.items()]
    (tmp_path / "c.csv").write_text("\ufeff" + "\n".join(["#cameras 2", header, *lines]) + "\n", encoding="utf-8")
    cameras = read_csv(tmp_path / "c.csv", SIZES)
    assert [camera.name for camera in cameras] == ["a.jpg", "sub/b.png"]
    for camera, (xyz, angles), size in zip(cameras, places.values(), SIZES.values(), strict=True):
        axes, center = axes_of(*angles), np.array(xyz)
        world = points_before(*axes, center)
        want = documented_pixels(world, axes, center, 28.0, (0.01, -0.02), DISTORTION, size)
        assert (camera.lens.height, camera.lens.width) == size
        np.testing.assert_allclose(seen_by(camera, world), want, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("angles", "right", "forward"),
    [
        ((0, 0, 0), (1, 0, 0), (0, 0, -1)),  # straight down, the right border to the east
        ((0, 90, 0), (1, 0, 0), (0, 1, 0)),  # level, to the north
        ((90, 90, 0), (0, -1, 0), (1, 0, 0)),  # level, to the east
        ((180, 90, 0), (-1, 0, 0), (0, -1, 0)),
    ],
)
def test_angles_by_hand(
    tmp_path: Path, angles: tuple[float, ...], right: tuple[int, ...], forward: tuple[int, ...]
) -> None:
    (tmp_path / "c.csv").write_text(f"{HEADER}\n{row('a.jpg', (0, 0, 0, *angles, 36.0, 0, 0, *[0.0] * 6))}\n")
    (camera,) = read_csv(tmp_path / "c.csv", SIZES)
    np.testing.assert_allclose(camera.c2w[:3, 0].numpy(), right, atol=1e-12)
    np.testing.assert_allclose(camera.c2w[:3, 2].numpy(), forward, atol=1e-12)
    assert camera.lens.model == "PINHOLE" and camera.lens.params == (800, 800, 400, 300)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column name"),
        ("x,y\n1,2\n", "has no column name"),
        (HEADER.replace(",t1,t2", "") + "\n", "has no column t1, t2"),
        (f"{HEADER}\na.jpg,1,2,3\n", r"row 2 \(a\.jpg\): heading has 0 numbers"),
        (f"{HEADER}\n{row('a.jpg', (0,) * 15)}\n", "focal length is 0"),
        (f"{HEADER}\n{row('a.jpg', (0,) * 15)}\n".replace("0", "east", 1), "x is not made of numbers"),
        (f"{HEADER}\n{row('a.jpg', (0,) * 6 + (28, 0, 0, 0, 0, 0, 1e3, 0, 0))}\n", "k4 is 1000.0"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(UserError, match=rf"c\.csv.*{message}"):
        read_csv(tmp_path / "c.csv", SIZES)


def xmp(path: Path, elements: dict[str, str], attributes: dict[str, str]) -> Path:
    described = " ".join(f'xcr:{key}="{value}"' for key, value in attributes.items())
    inside = "".join(f"<xcr:{key}>{value}</xcr:{key}>" for key, value in elements.items())
    path.write_text(
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xcr:Version="3" {described} xmlns:xcr="http://www.capturingreality.com/ns/xcr/1.1#">{inside}'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    return path


def texts(values: np.ndarray | tuple[float, ...]) -> str:
    return " ".join(f"{v:.15g}" for v in np.ravel(values))


LENS = {"FocalLength35mm": "28", "PrincipalPointU": "0.01", "PrincipalPointV": "-0.02", "Skew": "0", "AspectRatio": "1"}


@pytest.mark.parametrize("as_attributes", [False, True])
def test_xmp(tmp_path: Path, as_attributes: bool) -> None:
    """The rotation's rows are the camera's right, down and forward in the world: x = R (X - position)."""
    turn, center = rotation(4), np.array([1.0, -2.0, 0.5])
    pose = {"Rotation": texts(turn), "Position": texts(center), "DistortionCoeficients": texts(DISTORTION)}
    lens = {**LENS, "DistortionModel": "brown4t2"}
    xmp(tmp_path / "a.xmp", {} if as_attributes else pose, {**lens, **(pose if as_attributes else {})})
    xmp(tmp_path / "unaligned.xmp", {}, lens)
    (tmp_path / "other.XMP").write_text('<x:xmpmeta xmlns:x="adobe:ns:meta/"/>')
    files = find_xmp(tmp_path)
    assert [file.name for file in files] == ["a.xmp", "unaligned.xmp"]
    (camera,) = read_xmp(files, {"a": (600, 800)})
    world = points_before(*turn, center)
    want = documented_pixels(world, tuple(turn), center, 28.0, (0.01, -0.02), DISTORTION, (600, 800))
    assert camera.name == "a"
    np.testing.assert_allclose(seen_by(camera, world), want, rtol=0, atol=1e-3)


POSE = {"Rotation": "-1 0 0 0 0 -1 0 -1 0", "Position": "0 0 0"}


@pytest.mark.parametrize(
    ("elements", "attributes", "message"),
    [
        (POSE, {}, "no FocalLength35mm"),
        ({**POSE, "Rotation": "1 2 3"}, LENS, "Rotation has 3 numbers"),
        ({**POSE, "Rotation": "2 0 0 0 2 0 0 0 2"}, LENS, "Rotation is not a rotation"),
        ({**POSE, "Position": "here"}, LENS, "Position is not made of numbers"),
        (
            {**POSE, "DistortionCoeficients": "0.1 0 0 0 0 0"},
            {**LENS, "DistortionModel": "division"},
            "'division'.*Brown3",
        ),
        (POSE, {**LENS, "Skew": "0.1"}, "skew"),
    ],
)
def test_wrong_xmp_is_refused(
    tmp_path: Path, elements: dict[str, str], attributes: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=rf"a\.xmp.*{message}"):
        read_xmp([xmp(tmp_path / "a.xmp", elements, attributes)], {})


def test_damaged_xmp_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xmp").write_text("<x:xmpmeta")
    with pytest.raises(UserError, match=r"a\.xmp: is not XML"):
        read_xmp([tmp_path / "a.xmp"], {})

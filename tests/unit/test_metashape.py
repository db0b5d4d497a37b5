"""Metashape's XML: pixels by the user manual's equations ("Camera models") against our lens and pose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.foreign import brown, equidistant, points_before, rotation, seen_by

from sparse3d.errors import UserError
from sparse3d.io.metashape import read_metashape

WIDTH, HEIGHT = 1000, 800
PLAIN = {"f": 900.0, "cx": 12.0, "cy": -7.0}
RADIAL = {"k1": -0.12, "k2": 0.05, "k3": -0.01}
ALL = {**PLAIN, **RADIAL, "k4": 0.004, "p1": 0.003, "p2": -0.002, "b1": 4.0}


def no_warning(message: str) -> None:
    raise AssertionError(f"unexpected warning: {message}")


def matrix_text(matrix: np.ndarray) -> str:
    return " ".join(f"{v:.17g}" for v in matrix.ravel())


def transform_text(turn: np.ndarray, move: np.ndarray, scale: float) -> str:
    return (
        f"<transform><rotation>{matrix_text(turn)}</rotation><translation>{matrix_text(move)}</translation>"
        f"<scale>{scale!r}</scale></transform>"
    )


def sensor_text(calibration: dict[str, float], kind: str = "frame", sensor_id: int = 0) -> str:
    terms = "".join(f"<{name}>{value!r}</{name}>" for name, value in calibration.items())
    size = f'<resolution width="{WIDTH}" height="{HEIGHT}"/>'
    return (
        f'<sensor id="{sensor_id}" label="lens {sensor_id}" type="{kind}">{size}'
        f'<calibration type="{kind}" class="initial">{size}<f>1</f></calibration>'
        f'<calibration type="{kind}" class="adjusted">{size}{terms}</calibration></sensor>'
    )


def camera_text(label: str, c2w: np.ndarray | None, component: int = 0, sensor: int = 0, more: str = "") -> str:
    pose = "" if c2w is None else f"<transform>{matrix_text(c2w)}</transform>"
    return f'<camera id="1" sensor_id="{sensor}" component_id="{component}" label="{label}" {more}>{pose}</camera>'


def document(path: Path, sensors: str, cameras: str, components: str = "", rest: str = "") -> Path:
    path.write_text(
        f'<?xml version="1.0" encoding="UTF-8"?><document version="1.5.0"><chunk label="Chunk 1"><sensors>{sensors}</sensors>'
        f"<components>{components}</components><cameras>{cameras}</cameras>{rest}</chunk></document>"
    )
    return path


def pose(seed: int) -> np.ndarray:
    c2w = np.eye(4)
    c2w[:3, :3], c2w[:3, 3] = rotation(seed), np.random.default_rng(seed).normal(size=3)
    return c2w


def manual_pixels(
    world: np.ndarray,
    c2w: np.ndarray,
    to_world: tuple[np.ndarray, np.ndarray, float],
    values: dict[str, float],
    kind: str,
) -> np.ndarray:
    """World to chunk by the inverse of scale, rotation and translation; then the manual's equations."""
    turn, move, scale = to_world
    inner = (world - move) @ turn / scale
    local = (inner - c2w[:3, 3]) @ c2w[:3, :3]
    x, y = local[:, 0] / local[:, 2], local[:, 1] / local[:, 2]
    if kind == "fisheye":
        x, y = equidistant(x, y)
    v = {name: values.get(name, 0.0) for name in ("f", "cx", "cy", "k1", "k2", "k3", "k4", "p1", "p2", "b1", "b2")}
    x, y = brown(x, y, (v["k1"], v["k2"], v["k3"], v["k4"]), v["p1"], v["p2"])
    return np.stack(
        [
            WIDTH * 0.5 + v["cx"] + x * v["f"] + x * v["b1"] + y * v["b2"],
            HEIGHT * 0.5 + v["cy"] + y * v["f"],
        ],
        1,
    )


@pytest.mark.parametrize("kind", ["frame", "fisheye"])
@pytest.mark.parametrize("values", [PLAIN, {**PLAIN, **RADIAL}, {**ALL, "p1": 0, "p2": 0}, ALL])
def test_pixels_are_those_of_the_manual(tmp_path: Path, kind: str, values: dict[str, float]) -> None:
    turn, move, scale = rotation(7), np.array([3.0, -40.0, 5.0]), 2.5
    poses = [pose(1), pose(2)]
    file = document(
        tmp_path / "cameras.xml",
        sensor_text(values, kind),
        camera_text("IMG_1", poses[0]) + f'<group label="g">{camera_text("IMG_2.JPG", poses[1])}</group>',
        f'<component id="0" label="c">{transform_text(turn, move, scale)}</component>',
    )
    cameras = read_metashape(file, no_warning)
    assert [camera.name for camera in cameras] == ["IMG_1", "IMG_2.JPG"]
    for camera, c2w in zip(cameras, poses, strict=True):
        axes = turn @ c2w[:3, :3]
        world = points_before(*axes.T, scale * turn @ c2w[:3, 3] + move)
        want = manual_pixels(world, c2w, (turn, move, scale), values, kind)
        np.testing.assert_allclose(seen_by(camera, world), want, rtol=0, atol=1e-3)


def test_transform_of_the_chunk_serves_older_files(tmp_path: Path) -> None:
    turn, move, scale, c2w = rotation(3), np.array([1.0, 2.0, 3.0]), 0.5, pose(1)
    file = document(
        tmp_path / "c.xml", sensor_text(PLAIN), camera_text("a", c2w), rest=transform_text(turn, move, scale)
    )
    (camera,) = read_metashape(file, no_warning)
    np.testing.assert_allclose(camera.c2w[:3, 3].numpy(), scale * turn @ c2w[:3, 3] + move, rtol=1e-12)
    np.testing.assert_allclose(camera.c2w[:3, :3].numpy(), turn @ c2w[:3, :3], rtol=0, atol=1e-9)


def test_cameras_without_pose_and_small_components_are_left_out(tmp_path: Path) -> None:
    cameras = (
        "".join(camera_text(f"a{i}", pose(i)) for i in range(3))
        + camera_text("lost", None)
        + camera_text("off", pose(5), more='enabled="false"')
        + camera_text("apart", pose(6), component=1)
    )
    warnings: list[str] = []
    file = document(tmp_path / "c.xml", sensor_text(PLAIN), cameras, '<component id="0"/><component id="1"/>')
    assert [camera.name for camera in read_metashape(file, warnings.append)] == ["a0", "a1", "a2"]
    assert "2 of 6 cameras" in warnings[0] and "lost, off" in warnings[0]
    assert "2 components; the 3 of the largest are used" in warnings[1]


def test_small_skew_is_left_out_with_a_warning(tmp_path: Path) -> None:
    warnings: list[str] = []
    values = {**PLAIN, "b2": 0.1}
    (camera,) = read_metashape(
        document(tmp_path / "c.xml", sensor_text(values), camera_text("a", pose(1))), warnings.append
    )
    assert camera.lens.model == "PINHOLE" and len(warnings) == 1 and "skew <b2> is 0.1" in warnings[0]


POSED = camera_text("a", pose(1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no xml", "is not XML"),
        ("<document/>", "holds 0 <chunk>"),
        ("<document><chunk><cameras/></chunk><chunk/></document>", "holds 2 <chunk>"),
        (f"<document><chunk><cameras>{POSED}</cameras></chunk></document>", "the sensor '0', which the file does not"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.xml").write_text(text)
    with pytest.raises(UserError, match=rf"c\.xml.*{message}"):
        read_metashape(tmp_path / "c.xml", no_warning)


@pytest.mark.parametrize(
    ("sensor", "camera", "message"),
    [
        (sensor_text(PLAIN, "equisolid_fisheye"), POSED, "type 'equisolid_fisheye'"),
        (sensor_text({"cx": 1.0}), POSED, "no adjusted <calibration> with <f>"),
        (sensor_text({**PLAIN, "f": -1.0}), POSED, "focal length is -1"),
        (sensor_text({**PLAIN, "p3": 0.1}), POSED, "<p3> or <p4>"),
        (sensor_text({**PLAIN, "b2": 20.0}), POSED, "skew <b2> is 20.0, which moves pixels by up to 8.9"),
        (sensor_text({**PLAIN, "k4": 1e3}), POSED, "k4 is 1000.0"),
        (sensor_text(PLAIN).replace("<f>900.0", "<f>wide"), POSED, "<f> is not made of numbers"),
        (sensor_text(PLAIN).replace(f'width="{WIDTH}"', ""), POSED, "width has 0 numbers"),
        (sensor_text(PLAIN), camera_text("a", 2 * pose(1)), "camera 'a'.*scales, shears or mirrors"),
        (sensor_text(PLAIN), camera_text("a", pose(1)[:2]), "camera 'a'.*has 8 numbers"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, sensor: str, camera: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"c\.xml.*{message}"):
        read_metashape(document(tmp_path / "c.xml", sensor, camera), no_warning)


def test_wrong_chunk_transform_is_named(tmp_path: Path) -> None:
    for change, message in [
        (transform_text(np.ones((3, 3)), np.zeros(3), 1.0), "<rotation> is not a rotation"),
        (transform_text(np.eye(3), np.zeros(3), -1.0), "<scale> is -1"),
        (transform_text(np.eye(3), np.zeros(2), 1.0), "<translation> has 2 numbers"),
    ]:
        file = document(tmp_path / "c.xml", sensor_text(PLAIN), POSED, rest=change)
        with pytest.raises(UserError, match=message):
            read_metashape(file, no_warning)

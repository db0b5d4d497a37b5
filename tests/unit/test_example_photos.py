"""The example photos and their ground truth agree: with the ray caster, with each other, and with what EXIF says."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageOps

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = [f"room_{k:02d}" for k in range(1, 9)]

pytestmark = pytest.mark.skipif(
    not (EXAMPLES / "photos" / "room_01.jpg").exists(),
    reason="examples/photos is not in source archives; run python examples/make_photos.py",
)


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """examples/make_photos.py; examples are not installed, so it is imported by its path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))  # for the modules beside it
        spec = importlib.util.spec_from_file_location("make_photos", EXAMPLES / "make_photos.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "make_photos", module)
        spec.loader.exec_module(module)
        return module


@pytest.fixture(scope="module")
def scene(maker):
    """The room with textures at half the photos' resolution, and light at two fifths of it with fewer rays."""
    baking = sys.modules["raycast"].Baking(texel_m=0.06, lamp_side=3, ambient_rays=16)
    return maker.build_room(texel_m=0.006, baking=baking)


def truth() -> dict:
    """ground_truth/transforms.json."""
    return json.loads((EXAMPLES / "ground_truth" / "transforms.json").read_text())


def frame(name: str) -> dict:
    """A photo's entry in it."""
    return next(f for f in truth()["frames"] if Path(f["file_path"]).stem == name)


def upright(path: Path) -> np.ndarray:
    """A photo as it is looked at. (height, width, 3) in [0, 1]"""
    return np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"), np.float64) / 255


def shrink(image: np.ndarray, factor: int) -> np.ndarray:
    """Means of factor x factor pixels."""
    height, width = image.shape[:2]
    return image.reshape(height // factor, factor, width // factor, factor, -1).mean(axis=(1, 3))


def linear(srgb: np.ndarray) -> np.ndarray:
    """Linear colours (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def depth_of(name: str) -> np.ndarray:
    """The stored depth of a photo, metres. (189, 252)"""
    entry = frame(name)
    stored = np.asarray(Image.open(EXAMPLES / "ground_truth" / entry["depth_file_path"]))
    assert stored.shape == (189, 252)
    return stored.astype(np.float64) * entry["depth_unit_scale_factor"]


def opencv_c2w(name: str) -> np.ndarray:
    """The stored camera of a photo, in the project's axes."""
    return np.array(frame(name)["transform_matrix"]) @ np.diag([1.0, -1, -1, 1])


@pytest.mark.parametrize("name", ["room_03", "room_06"])  # the second is stored on its side
def test_photo_is_what_the_ray_caster_sees(maker, scene, name):
    """A sixth of the size, so that noise and JPEG average out: what is left is the coarser light and texture.

    That gives 31.8 dB, and 40.9 dB with the photos' own fineness, which takes half a minute. A camera turned by a tenth
    of a degree loses 4 dB.
    """
    step = maker.PHOTOS[name]
    image = maker.Sensor().expose(scene.render(maker.camera_at(step).scaled_to(168), samples=3), step)
    photo = shrink(linear(upright(EXAMPLES / "photos" / f"{name}.jpg")), 6)
    error = maker.to_srgb(image) - maker.to_srgb(photo)
    assert -10 * np.log10(np.mean(error**2)) > 30.5


def test_depth_is_what_the_ray_caster_measures(maker, scene):
    name = "room_05"
    depth = depth_of(name)
    camera = maker.camera_at(maker.PHOTOS[name]).scaled_to(252)
    rows, columns = np.meshgrid(np.arange(3, 189, 7), np.arange(2, 252, 9), indexing="ij")
    t, _ = scene.cast(camera, columns.ravel() + 0.5, rows.ravel() + 0.5)
    # half a step, and what float32 adds
    np.testing.assert_allclose(depth[rows, columns].ravel(), t, rtol=0, atol=0.6 * maker.DEPTH_UNIT_M)


@pytest.mark.parametrize(("i", "j"), [(0, 1), (3, 4), (6, 7), (2, 5)])
def test_depths_and_colours_agree_between_photos(i, j):
    """Points of photo i, carried to photo j by the files alone: same depth and, in another exposure, same colour."""
    t = truth()
    a, b = NAMES[i], NAMES[j]
    scale = 252 / t["w"]
    K = np.array([[t["fl_x"], 0, t["cx"]], [0, t["fl_y"], t["cy"]], [0, 0, 1 / scale]]) * scale
    v, u = np.meshgrid(np.arange(189) + 0.5, np.arange(252) + 0.5, indexing="ij")
    rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(K).T
    world = rays * depth_of(a).reshape(-1, 1) @ opencv_c2w(a)[:3, :3].T + opencv_c2w(a)[:3, 3]
    w2c = np.linalg.inv(opencv_c2w(b))
    there = world @ w2c[:3, :3].T + w2c[:3, 3]
    pixel = there @ K.T
    x, y = (np.floor(pixel[:, k] / pixel[:, 2]).astype(int) for k in (0, 1))
    inside = (x >= 0) & (x < 252) & (y >= 0) & (y < 189) & (there[:, 2] > 0)
    assert inside.mean() > 0.6  # they overlap
    expected, stored = there[inside, 2], depth_of(b)[y[inside], x[inside]]
    disagreement = np.abs(expected / stored - 1)
    visible = expected < 1.05 * stored  # behind that, something of photo j stands in front
    assert visible.mean() > 0.75
    assert np.median(disagreement[visible]) < 0.01
    colours = [shrink(upright(EXAMPLES / "photos" / f"{name}.jpg"), 4).reshape(-1, 3) for name in (a, b)]
    first, second = colours[0][inside][visible], colours[1].reshape(189, 252, 3)[y[inside], x[inside]][visible]
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.8
    assert np.median(np.abs(first - second)) < 0.06


def test_exif_states_the_true_focal_length():
    """FocalLengthIn35mmFilm by the diagonal: 43.27 mm of film for the diagonal of the photo."""
    t = truth()
    turned = 0
    for name in NAMES:
        with Image.open(EXAMPLES / "photos" / f"{name}.jpg") as image:
            exif = image.getexif()
            details = exif.get_ifd(0x8769)
            assert (exif[0x010F], exif[0x0110]) == ("sparse3d", "ray caster")
            assert details[0xA405] / np.hypot(36, 24) * np.hypot(*image.size) == pytest.approx(t["fl_x"], abs=1e-6)
            assert float(details[0x920A]) == 7.0
            turned += exif[0x0112] == 6
            assert image.size == ((756, 1008) if exif[0x0112] == 6 else (1008, 756))
    assert turned == 1


def test_layout_and_sizes(maker):
    """Every path in the two transforms.json exists, every camera is the script's, and the set stays small."""
    for folder, steps in (("ground_truth", maker.PHOTOS), ("heldout", maker.HELDOUT)):
        transforms = json.loads((EXAMPLES / folder / "transforms.json").read_text())
        assert [Path(f["file_path"]).stem for f in transforms["frames"]] == list(steps)
        for entry, step in zip(transforms["frames"], steps.values(), strict=True):
            assert (EXAMPLES / folder / entry["file_path"]).exists()
            c2w = np.array(entry["transform_matrix"]) @ np.diag([1.0, -1, -1, 1])
            np.testing.assert_allclose(c2w, maker.camera_at(step).c2w, atol=1e-8)
            np.testing.assert_allclose(c2w[:3, :3].T @ c2w[:3, :3], np.eye(3), atol=1e-8)
    assert sum(p.stat().st_size for p in (EXAMPLES / "photos").iterdir()) < 3_000_000
    assert sum(p.stat().st_size for p in (EXAMPLES / "ground_truth").iterdir()) < 1_000_000


def test_same_seed_same_picture(maker):
    radiance = np.linspace(0, 1, 12 * 16 * 3, dtype=np.float32).reshape(12, 16, 3)
    sensor = maker.Sensor()
    first, again, other = (sensor.photograph(radiance, 2.0, seed) for seed in (4, 4, 5))
    assert (first == again).all() and (first != other).any()


@pytest.mark.parametrize("index", range(5))
def test_faces_map_to_points_and_back(scene, index):
    """`locate` undoes `point`, and the point lies on the surface that `hit` finds from just above it."""
    kinds = {type(shape).__name__: shape for shape in scene.shapes}
    shape = scene.shapes[0] if index == 4 else kinds[sorted(kinds)[index]]
    rng = np.random.default_rng(index)
    for face in range(len(shape.textures)):
        width, height = shape.extent(face)
        u, v = rng.uniform(0.1, 0.9, 20) * width, rng.uniform(0.35, 0.65, 20) * height
        points, normals = shape.point(face, u, v)
        t = shape.hit((points + 0.01 * normals).astype(np.float32), -normals)
        np.testing.assert_allclose(t, 0.01, atol=2e-3)  # profiles of lathes bend under smooth normals
        spot = shape.locate(points)
        assert (spot.face == face).all()
        np.testing.assert_allclose(spot.u, u, atol=1e-4)
        np.testing.assert_allclose(spot.v, v, atol=1e-4)

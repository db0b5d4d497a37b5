"""Finding photos and guessing their intrinsics."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from sparse3d.errors import UserError
from sparse3d.io.intrinsics import parse_intrinsics
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.pose.intrinsics import camera_groups
from sparse3d.types import Photo


def save(path: Path, height: int = 6, width: int = 9, seed: int = 0, **tags: float) -> Path:
    """A random photo; tags: orientation, f35, f, resolution, unit, taken (width)."""
    exif = Image.Exif()
    if "orientation" in tags:
        exif[0x0112] = int(tags["orientation"])
    lens = exif.get_ifd(0x8769)
    for name, tag in {"f35": 0xA405, "f": 0x920A, "resolution": 0xA20E, "unit": 0xA210, "taken": 0xA002}.items():
        if name in tags:
            lens[tag] = int(tags[name]) if name in ("f35", "unit", "taken") else tags[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def no_warning(message: str) -> None:
    raise AssertionError(f"unexpected warning: {message}")


def test_folder_is_sorted_and_filtered(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.webp", "d.tiff", "e.heic", ".hidden.jpg", "notes.txt", "sub/x.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in find_photos([tmp_path])] == ["a.png", "b.JPG", "c.webp", "d.tiff", "e.heic"]
    # files and folders together, each photo once
    assert [p.name for p in find_photos([tmp_path / "sub/x.jpg", tmp_path, tmp_path / "a.png"])][-1] == "x.jpg"
    assert len(find_photos([tmp_path, tmp_path / "a.png"])) == 5


def test_missing_inputs_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="did you mean 'photos'"):
        find_photos([tmp_path / "photo"])
    with pytest.raises(UserError, match="there is no folder"):
        find_photos([tmp_path / "nowhere" / "x.jpg"])
    with pytest.raises(UserError, match=r"reads \.jpg.*holds nothing"):
        find_photos([tmp_path / "photos"])
    (tmp_path / "photos" / "clip.mov").touch()
    save(tmp_path / "photos" / "inner" / "a.jpg")
    with pytest.raises(UserError, match=r"1 \.mov, 1 folder.*photos in .*inner"):
        find_photos([tmp_path / "photos"])
    with pytest.raises(UserError, match="is a video: give it alone"):
        find_photos([tmp_path / "photos" / "clip.mov"])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="not a photo by its suffix"):
        find_photos([tmp_path / "notes.txt"])
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "clip.mov").touch()
    with pytest.raises(UserError, match=r"name the file: .*clip\.mov"):
        find_photos([tmp_path / "films"])
    with pytest.raises(UserError, match="no photos given"):
        find_photos([])


def test_focal_from_35mm_equivalent(tmp_path: Path) -> None:
    """A lens of 36 mm on film of 36 x 24 mm: as long as the frame is wide, so f = 900 for 900 x 600 pixels."""
    (photo,) = load_photos([save(tmp_path / "a.jpg", 600, 900, f35=36)], 10_000, warn=no_warning)
    assert photo.intrinsics == "exif" and photo.name == "a.jpg" and photo.path == tmp_path / "a.jpg"
    want = torch.tensor([[900.0, 0, 450], [0, 900, 300], [0, 0, 1]])
    torch.testing.assert_close(photo.K, want, rtol=1e-5, atol=0)
    assert photo.sha256 == hashlib.sha256((tmp_path / "a.jpg").read_bytes()).hexdigest()


@pytest.mark.parametrize(("unit", "per_mm"), [(2, 1 / 25.4), (3, 1 / 10), (4, 1.0)])
def test_focal_from_sensor_resolution(tmp_path: Path, unit: int, per_mm: float) -> None:
    file = save(tmp_path / "a.jpg", 40, 60, f=5.0, resolution=14.0 / per_mm, unit=unit)
    (photo,) = load_photos([file], 1000, warn=no_warning)
    assert photo.intrinsics == "exif" and math.isclose(photo.K[0, 0].item(), 5.0 * 14.0, rel_tol=1e-4)


def test_focal_of_a_photo_made_smaller(tmp_path: Path) -> None:
    """18 mm on a sensor of 256 pixels per mm is 4608 pixels of the photo as taken, a hundredth of it here."""
    file = save(tmp_path / "a.jpg", 40, 60, f=18.0, resolution=256.0, unit=4, taken=6000)
    (photo,) = load_photos([file], 1000, warn=no_warning)
    assert photo.intrinsics == "exif" and photo.K[0, 0].item() == pytest.approx(46.08, rel=1e-4)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_K_is_that_of_the_upright_photo(tmp_path: Path, orientation: int) -> None:
    """Stored as 900 x 600; turned by a quarter it is 600 x 900 with the same focal length."""
    file = save(tmp_path / "a.jpg", 600, 900, f35=36, orientation=orientation)
    (photo,) = load_photos([file], 10_000, warn=no_warning)
    height, width = (600, 900) if orientation in (1, 3) else (900, 600)
    assert photo.image.shape == (3, height, width)
    want = torch.tensor([[900.0, 0, width / 2], [0, 900, height / 2], [0, 0, 1]])
    torch.testing.assert_close(photo.K, want, rtol=1e-5, atol=0)


@pytest.mark.parametrize("tags", [{}, {"f35": 0}, {"f": 4.2}])
def test_default_focal(tmp_path: Path, tags: dict[str, float]) -> None:
    (photo,) = load_photos([save(tmp_path / "a.png", 30, 20, **tags)], 100, warn=no_warning)
    assert photo.intrinsics == "default" and photo.K[0, 0].item() == pytest.approx(1.2 * 30)


@pytest.mark.parametrize("tags", [{"f35": 2000}, {"f": 5.0, "resolution": 1.0, "unit": 2}])
def test_implausible_focal_is_unknown(tmp_path: Path, tags: dict[str, float]) -> None:
    warnings: list[str] = []
    (photo,) = load_photos([save(tmp_path / "a.jpg", 30, 40, **tags)], 100, warn=warnings.append)
    assert photo.intrinsics == "default" and photo.K[0, 0].item() == pytest.approx(1.2 * 40)
    assert len(warnings) == 1 and "a.jpg" in warnings[0] and "not plausible" in warnings[0]


def test_reduction_averages_and_rescales_K_and_mask(tmp_path: Path) -> None:
    rgba = np.zeros((60, 80, 4), np.uint8)
    rgba[:, 40:, :3] = 255
    rgba[:, :60, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    (photo,) = load_photos([tmp_path / "a.png"], 20, warn=no_warning)
    assert photo.image.shape == (3, 15, 20) and photo.mask is not None
    torch.testing.assert_close(photo.image.mean(), torch.tensor(0.5), rtol=0, atol=1e-3)
    assert photo.mask[:, :15].all() and not photo.mask[:, 15:].any()
    want = torch.tensor([[24.0, 0, 10], [0, 24, 7.5], [0, 0, 1]])
    torch.testing.assert_close(photo.K, want)


def test_broken_photos_and_copies_are_left_out(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", seed=1)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    save(tmp_path / "c.jpg", 60, 60, seed=2)
    (tmp_path / "c.jpg").write_bytes((tmp_path / "c.jpg").read_bytes()[:700])
    save(tmp_path / "d.jpg", seed=3)
    warnings: list[str] = []
    photos = load_photos(find_photos([tmp_path]), 100, warn=warnings.append)
    assert [photo.name for photo in photos] == ["a.jpg", "d.jpg"]
    assert len(warnings) == 2
    assert "b.jpg has the same content as a.jpg" in warnings[0] and "c.jpg" in warnings[1] and "left out" in warnings[1]
    with pytest.raises(UserError, match=r"c\.jpg.*without strict"):
        load_photos(find_photos([tmp_path]), 100, strict=True, warn=warnings.append)
    with pytest.raises(UserError, match=r"none of the photos(.|\n)*c\.jpg"):
        load_photos([tmp_path / "c.jpg"], 100, warn=warnings.append)


def test_a_photo_that_is_transparent_everywhere_is_left_out(tmp_path: Path) -> None:
    save(tmp_path / "a.png", seed=1)
    Image.fromarray(np.zeros((30, 40, 4), dtype=np.uint8)).save(tmp_path / "b.png")
    warnings: list[str] = []
    assert [photo.name for photo in load_photos(find_photos([tmp_path]), 100, warn=warnings.append)] == ["a.png"]
    assert len(warnings) == 1 and "b.png: is transparent everywhere" in warnings[0] and "left out" in warnings[0]
    with pytest.raises(UserError, match=r"b\.png.*without strict"):
        load_photos(find_photos([tmp_path]), 100, strict=True, warn=warnings.append)
    with pytest.raises(UserError, match=r"none of the photos(.|\n)*transparent everywhere"):
        load_photos([tmp_path / "b.png"], 100, warn=warnings.append)


def test_equal_file_names_get_their_folder(tmp_path: Path) -> None:
    paths = [save(tmp_path / name, seed=i) for i, name in enumerate(("left/a.png", "right/a.png", "right/b.png"))]
    names = [photo.name for photo in load_photos(paths, 100, warn=no_warning)]
    assert names == ["left/a.png", "right/a.png", "b.png"]


def test_real_photo_has_its_focal(real_data: Path) -> None:
    """An iPhone X says 28 mm; structure from motion found 837 pixels for 1008 x 756 (its README)."""
    file = real_data / "fern" / "images" / "IMG_4026.jpg"
    if not file.is_file():
        pytest.skip(f"no {file}")
    (photo,) = load_photos([file], 4000, warn=no_warning)
    assert photo.image.shape == (3, 756, 1008) and photo.intrinsics == "exif"
    assert abs(photo.K[0, 0].item() / 837 - 1) < 0.05


def with_camera(path: Path, make: str, model: str, focal_mm: float, height: int = 30, width: int = 40) -> Path:
    """A JPEG that names the camera and the true focal length, as old cameras do."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = make, model
    exif.get_ifd(0x8769)[0x920A] = IFDRational(round(focal_mm * 100), 100)
    Image.new("RGB", (width, height)).save(path, exif=exif)
    return path


@pytest.mark.parametrize(
    ("make", "model", "focal_mm", "sensor_mm"),
    [
        ("Canon", "Canon PowerShot S300", 5.4, 5.37),  # 1/2.7": 5.37 x 4.04 mm
        ("Canon", "Canon PowerShot A80", 7.8, 7.18),  # 1/1.8": 7.18 x 5.32 mm
        ("NIKON CORPORATION", "NIKON D90", 50.0, 23.6),
    ],
)
def test_focal_from_the_table_of_sensors(
    tmp_path: Path, make: str, model: str, focal_mm: float, sensor_mm: float
) -> None:
    """The makers' sensor sizes, which tables round: f in pixels = f in mm / sensor in mm * the longer side."""
    upright = with_camera(tmp_path / "a.jpg", make, model, focal_mm, 4000, 3000)
    (photo,) = load_photos([upright], 400, warn=no_warning)
    assert photo.intrinsics == "exif" and photo.camera == f"{make} {model}" and photo.original == (4000, 3000)
    assert photo.K[1, 1].item() == pytest.approx(focal_mm / sensor_mm * 400, rel=0.015)


def test_unknown_camera_has_the_default_focal(tmp_path: Path) -> None:
    (photo,) = load_photos([with_camera(tmp_path / "a.jpg", "nobody", "n°1", 5.0)], 400, warn=no_warning)
    assert photo.intrinsics == "default" and photo.K[0, 0].item() == pytest.approx(1.2 * 40)


def test_photos_of_one_camera_share_intrinsics() -> None:
    image, K = torch.zeros(3, 6, 9), torch.eye(3)
    photos = [
        Photo(str(i), image, K, known, "", camera=camera)
        for i, (known, camera) in enumerate([("exif", "a"), ("exif", "b"), ("exif", "a"), ("default", "a")])
    ]
    assert sorted(camera_groups(photos, shared=True)) == [[0, 2], [1], [3]]
    assert sorted(camera_groups(photos, shared=False)) == [[0], [1], [2], [3]]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("900", [[900.0, 0, 450], [0, 900, 300], [0, 0, 1]]),
        ("900,440,310", [[900.0, 0, 440], [0, 900, 310], [0, 0, 1]]),
        ("900, 910, 440, 310", [[900.0, 0, 440], [0, 910, 310], [0, 0, 1]]),
    ],
)
def test_given_intrinsics(tmp_path: Path, text: str, want: list[list[float]]) -> None:
    """In pixels of the files that most photos have; a third of that for a file of a third of the size."""
    sizes = [(600, 900), (600, 900), (200, 300)]
    files = [save(tmp_path / f"{i}.jpg", *size, seed=i, f35=20) for i, size in enumerate(sizes)]
    photos = load_photos(files, 450, intrinsics=parse_intrinsics(text), warn=no_warning)
    for photo, scale in zip(photos, (0.5, 0.5, 1 / 3), strict=True):
        assert photo.intrinsics == "given"
        torch.testing.assert_close(photo.K, torch.tensor(want) * torch.tensor([[scale], [scale], [1]]))


@pytest.mark.parametrize("text", ["", "wide", "900,450", "900,900,450,300,0.1", "900,nan,300", "-3", "900,0,450,300"])
def test_intrinsics_that_are_none_say_what_is_needed(text: str) -> None:
    with pytest.raises(UserError, match=rf"--intrinsics {text}.*(1, 3 or 4 numbers|needed more than 0)"):
        parse_intrinsics(text)


def test_intrinsics_that_do_not_fit_name_the_photos(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{i}.jpg", *size, seed=i) for i, size in enumerate([(60, 90), (60, 90), (90, 60)])]
    with pytest.raises(UserError, match=r"most are 90 x 60, but not 2\.jpg \(60 x 90\)"):
        load_photos(files, 100, intrinsics=parse_intrinsics("80"), warn=no_warning)
    with pytest.raises(UserError, match=r"450,300 lies outside the photos, which are 90 x 60"):
        load_photos(files[:2], 100, intrinsics=parse_intrinsics("900,450,300"), warn=no_warning)

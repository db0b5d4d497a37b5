"""Cameras from photos of a room, against where they were taken; and from photos that make it hard, or impossible."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.sfm_truth import angle_deg, relative, turn_deg

from sparse3d.config import PoseConfig
from sparse3d.errors import UserError
from sparse3d.io.nerfstudio import read_transforms
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.pose import ladder
from sparse3d.pose.estimate import Posed, estimate_poses
from sparse3d.pose.matching import is_there
from sparse3d.progress import Event, StageReporter

Change = Callable[[Image.Image], Image.Image]

# Keypoints of photos 560 px long are good to about 0.4 px of 450 px focal length, 0.05 degrees. For a hundred points of a
# room, the Cramér-Rao bound makes 0.1 degrees of rotation and 0.2 of direction of that (as in the unit tests, where noise and
# focal length have the same ratio). Below are 4 of those standard deviations and what a wrong match may add.
ROTATION_DEG, DIRECTION_DEG = 0.5, 1.5


@dataclass(frozen=True)
class Outcome:
    posed: Posed
    warnings: list[str]

    @property
    def placed(self) -> list[str]:
        return self.posed.views.names


@pytest.fixture(scope="module")
def true_w2c(repository: Path) -> dict[str, np.ndarray]:
    """World to camera by photo, without suffix."""
    frames = read_transforms(repository / "examples" / "ground_truth" / "transforms.json")
    return {Path(frame.name).stem: np.linalg.inv(frame.c2w.double().numpy()) for frame in frames}


def upright(path: Path, size: int = 560) -> Image.Image:
    """A photo as it is looked at, without EXIF, `size` pixels long at most."""
    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    picture.info.clear()
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    return picture


@pytest.fixture
def folder(photos: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of some of the bundled photos, small and without EXIF, some of them changed."""

    def make(numbers: Sequence[int], size: int = 560, **changes: Change) -> Path:
        made = tmp_path / "photos"
        made.mkdir()
        for number in numbers:
            name = f"room_{number:02d}"
            picture = upright(photos / f"{name}.jpg", size)
            changes.get(name, lambda same: same)(picture).save(made / f"{name}.jpg", quality=92)
        return made

    return make


def pose(folder: Path, matchers: str = "auto") -> Outcome:
    """`estimate_poses` of a folder."""
    events: list[Event] = []
    loaded = load_photos(find_photos([folder]), 1008, warn=lambda message: pytest.fail(message))
    posed = estimate_poses(
        loaded,
        PoseConfig(max_features=1500, learned_features=512, matchers=matchers),
        known=None,
        max_size=1008,
        strict=False,
        seed=0,
        progress=StageReporter("pose", events.append),
    )
    return Outcome(posed, [event.message for event in events if event.kind == "warning"])


def errors(
    posed: Posed, true_w2c: dict[str, np.ndarray], turned: dict[str, np.ndarray] | None = None
) -> dict[tuple[str, str], tuple[float, float]]:
    """Rotation and direction error of all ordered pairs by names; `turned`: pixels of a photo were turned by this."""
    found = {Path(view.name).stem: np.linalg.inv(view.c2w.double().numpy()) for view in posed.views.views}
    truth = dict(true_w2c)
    for name, rotation in (turned or {}).items():
        truth[name] = np.block([[rotation, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]]) @ true_w2c[name]
    made = {}
    for a, b in permutations(found, 2):
        (R, way), (true_R, true_way) = relative(found[b], found[a]), relative(truth[b], truth[a])
        made[a, b] = turn_deg(R.T @ true_R), angle_deg(way, true_way)
    return made


def assert_right(
    outcome: Outcome,
    true_w2c: dict[str, np.ndarray],
    names: Sequence[str],
    *,
    rotation_deg: float = ROTATION_DEG,
    direction_deg: float = DIRECTION_DEG,
    turned: dict[str, np.ndarray] | None = None,
) -> None:
    assert [Path(name).stem for name in outcome.placed] == list(names)
    found = errors(outcome.posed, true_w2c, turned)
    assert max(rotation for rotation, _ in found.values()) < rotation_deg, found
    assert max(direction for _, direction in found.values()) < direction_deg, found


def room(*numbers: int) -> list[str]:
    return [f"room_{number:02d}" for number in numbers]


def test_three_photos(folder, true_w2c):
    outcome = pose(folder([2, 3, 4]))
    assert_right(outcome, true_w2c, room(2, 3, 4))
    report = outcome.posed.report
    assert report is not None and all(photo.placed and photo.matches > 50 for photo in report.photos)
    assert len(outcome.posed.views.points) > 100
    ((focal, sigma),) = report.focal
    assert focal == pytest.approx(815.41 / 1008, rel=0.05) and sigma is not None


def test_two_photos(folder, true_w2c):
    """Two views fix their focal length to a few percent only, which is a degree of direction or two."""
    outcome = pose(folder([3, 4]))
    assert_right(outcome, true_w2c, room(3, 4), rotation_deg=1, direction_deg=4)


def elsewhere(size: tuple[int, int]) -> Image.Image:
    """Another place: rectangles of many sizes and tones, corners everywhere."""
    rng = np.random.default_rng(11)
    width, height = size
    pixels = np.zeros((height, width, 3), np.float32)
    for side in (160, 80, 40, 20, 10):
        tiles = rng.uniform(0, 1, (height // side + 1, width // side + 1, 3))
        pixels += np.kron(tiles, np.ones((side, side, 1)))[:height, :width] / 5
    return Image.fromarray((255 * pixels).astype(np.uint8))


def collage(picture: Image.Image) -> Image.Image:
    """The same room torn into 48 pieces, laid anywhere: its colours and details, and no geometry."""
    rng = np.random.default_rng(12)
    width, height = picture.size[0] // 8, picture.size[1] // 6
    boxes = [(x * width, y * height) for x in range(8) for y in range(6)]
    made = picture.copy()
    for (x, y), (to_x, to_y) in zip(boxes, rng.permutation(boxes), strict=True):
        piece = picture.crop((x, y, x + width, y + height)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        made.paste(piece, (int(to_x), int(to_y)))
    return made


@pytest.mark.parametrize("kind", ["tiles", "collage", "fern"])
def test_a_photo_of_another_place_is_left_out_and_named(kind, folder, true_w2c, request):
    made = folder([2, 3, 4])
    if kind == "fern":
        file = request.getfixturevalue("real_data") / "fern" / "images" / "IMG_4026.jpg"
        if not file.is_file():
            pytest.skip(f"no {file}")
        other = upright(file)
    else:
        first = Image.open(made / "room_03.jpg")
        other = elsewhere(first.size) if kind == "tiles" else collage(first)
    other.save(made / "elsewhere.jpg", quality=92)
    outcome = pose(made, "sift" if kind == "tiles" else "auto")
    assert_right(outcome, true_w2c, room(2, 3, 4))
    assert any(re.match(r"elsewhere\.jpg has no camera: .+", warning) for warning in outcome.warnings)
    assert outcome.posed.report is not None
    (left_out,) = [photo for photo in outcome.posed.report.photos if not photo.placed]
    assert left_out.name == "elsewhere.jpg" and left_out.why


def test_a_copy_saved_anew_is_no_problem(folder, true_w2c):
    made = folder([2, 3, 4])
    Image.open(made / "room_03.jpg").save(made / "z_again.jpg", quality=80)
    outcome = pose(made, "sift")
    assert [Path(name).stem for name in outcome.placed] == [*room(2, 3, 4), "z_again"]
    found = errors(outcome.posed, {**true_w2c, "z_again": true_w2c["room_03"]})
    together = {("room_03", "z_again"), ("z_again", "room_03")}
    assert max(rotation for rotation, _ in found.values()) < ROTATION_DEG
    assert max(direction for pair, (_, direction) in found.items() if pair not in together) < DIRECTION_DEG
    centres = {view.name: view.c2w[:3, 3] for view in outcome.posed.views.views}
    baseline = (centres["room_02.jpg"] - centres["room_03.jpg"]).norm()
    assert (centres["z_again.jpg"] - centres["room_03.jpg"]).norm() < 0.05 * baseline


@pytest.mark.parametrize(("quarters", "learned"), [(1, False), (1, True), (3, True)])
def test_a_photo_lying_on_its_side(quarters, learned, folder, true_w2c, monkeypatch):
    """Turned by `quarters` counterclockwise, and no EXIF that says so. SIFT sees it anyway, ALIKED when turned back."""
    for name in ("aliked", "xfeat") if learned else ():
        if not is_there(name):
            pytest.skip(f"the weights of {name} are not on this machine: sparse3d models fetch matchers")
    if learned:
        monkeypatch.setattr(ladder, "matcher_names", lambda config, progress: ("aliked",))
    made = folder([2, 3, 4], room_03=lambda picture: picture.rotate(90 * quarters, expand=True))
    # a pixel (x, y) is seen at (y, W - x) after one quarter: camera axes turn by (x, y, z) -> (y, -x, z)
    quarter = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    outcome = pose(made, "auto" if learned else "sift")
    turned = {"room_03": np.linalg.matrix_power(quarter, quarters)}
    assert_right(outcome, true_w2c, room(2, 3, 4), turned=turned)


def test_photos_of_two_sizes(folder, true_w2c):
    """As from two telephones: each size has a camera of its own, and its own focal length."""
    smaller: Change = lambda picture: picture.resize((336, 252), Image.Resampling.LANCZOS)
    outcome = pose(folder([1, 2, 3, 4], room_02=smaller, room_04=smaller), "sift")
    assert_right(outcome, true_w2c, room(1, 2, 3, 4))
    assert {view.width for view in outcome.posed.views.views} == {336, 560}
    for view in outcome.posed.views.views:
        assert float(view.K[0, 0]) / view.width == pytest.approx(815.41 / 1008, rel=0.05)


@pytest.mark.parametrize("stops", [-2, 2])
def test_one_photo_exposed_differently(stops, folder, true_w2c):
    """Twice two, or a quarter of the light (linear by a gamma of 2.2); what is too bright is white."""

    def exposed(picture: Image.Image) -> Image.Image:
        linear = (np.asarray(picture, np.float64) / 255) ** 2.2 * 2.0**stops
        return Image.fromarray((255 * linear.clip(0, 1) ** (1 / 2.2)).round().astype(np.uint8))

    assert_right(pose(folder([2, 3, 4], room_03=exposed), "sift"), true_w2c, room(2, 3, 4))


def test_a_greyscale_photo(folder, true_w2c):
    grey: Change = lambda picture: picture.convert("L")
    assert_right(pose(folder([2, 3, 4], room_03=grey), "sift"), true_w2c, room(2, 3, 4))


@pytest.mark.parametrize("numbers", [(2, 3, 4), (1, 2, 3, 4, 5, 6, 7, 8)])
def test_thumbnails_are_placed_right_or_refused(numbers, folder, true_w2c):
    """200 pixels: what is placed is no more than 3 degrees off, whatever could not be."""
    try:
        outcome = pose(folder(numbers, size=200))
    except UserError as error:
        assert "could not be found" in str(error) and "overlap" in str(error)
        return
    found = errors(outcome.posed, true_w2c)
    assert max(rotation for rotation, _ in found.values()) < 3, found
    left_out = {f"room_{number:02d}.jpg" for number in numbers} - set(outcome.placed)
    assert all(any(warning.startswith(name) for warning in outcome.warnings) for name in left_out)


def test_photos_that_share_nothing(folder, real_data):
    made = folder([2])
    elsewhere((560, 420)).save(made / "tiles.jpg", quality=92)
    collage(Image.open(made / "room_02.jpg")).transpose(Image.Transpose.ROTATE_180).save(made / "torn.jpg")
    with pytest.raises(UserError, match=r"cameras of these 3 photos could not be found") as refused:
        pose(made)
    for words in ("room_02.jpg: ", "tiles.jpg: ", "torn.jpg: ", "overlap by half", "--poses"):
        assert words in str(refused.value)

"""Which matchers are asked for what, by matchers that know the truth; and what the report says afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from support.sfm_truth import HEIGHT, WIDTH, Truth, camera, looking_at, matched, room

from sparse3d.config import PoseConfig
from sparse3d.pose import ladder
from sparse3d.pose.correspondences import Correspondences, Pair
from sparse3d.pose.intrinsics import RADIAL_FROM, first_cameras, fixed_cameras
from sparse3d.pose.ladder import Climb, climb
from sparse3d.pose.pictures import turned_back
from sparse3d.pose.report import no_cameras, report_of, warnings_of
from sparse3d.progress import Event, StageReporter
from sparse3d.types import Photo

Sees = Callable[[int, int], bool]


def photo(
    name: str, known: str = "exif", focal: float = 0.85 * WIDTH, height: int = HEIGHT, width: int = WIDTH
) -> Photo:
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Photo(name, torch.full((3, 1, 1), 0.5).expand(3, height, width), K, known, name)


@dataclass
class Knowing:
    """Gives the matches of some pairs, random ones of the others when asked to, and remembers what it was asked."""

    truth: Truth
    sees: Sees
    random: int = 0
    seed: int = 0
    asked: list[tuple[tuple[Pair, ...], dict[int, int]]] = field(default_factory=list)
    turned: Sees | None = None  # what it sees when any photo is turned

    def match(
        self,
        photos: Sequence[Photo],
        pairs: Sequence[Pair],
        progress: StageReporter,
        turns: dict[int, int] | None = None,
    ) -> Correspondences:
        self.asked.append((tuple(pairs), dict(turns or {})))
        sees = self.turned if turns and self.turned else self.sees
        good = matched(self.truth, outliers=0.0, seed=self.seed, sees=lambda a, b: (a, b) in pairs)
        rng = np.random.default_rng(self.seed)
        keypoints = [
            np.concatenate([points, rng.uniform(0, 1, (self.random, 2)) * [WIDTH, HEIGHT]]) for points in good.keypoints
        ]
        first = len(self.truth.points)
        random = np.tile(np.arange(first, first + self.random)[:, None], 2)
        matches = {pair: found if sees(*pair) else random for pair, found in good.matches.items()}
        scores = {pair: np.full(len(found), 0.7) for pair, found in matches.items()}
        return Correspondences(tuple(keypoints), matches, scores)


@dataclass
class Stage:
    matchers: dict[str, Knowing]
    events: list[Event] = field(default_factory=list)
    turns: dict[int, int] = field(default_factory=dict)
    asked_to_turn: list[tuple[list[int], list[int]]] = field(default_factory=list)

    def climb(self, views: int, known: str = "exif", **settings: object) -> Climb:
        photos = [photo(f"{i}.jpg", known) for i in range(views)]
        return climb(photos, PoseConfig(**settings), 0, StageReporter("pose", self.events.append))


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stage]:
    """The ladder with these matchers and no others."""

    def make(turns: dict[int, int] | None = None, **matchers: Knowing) -> Stage:
        made = Stage({name.replace("_", "-"): knowing for name, knowing in matchers.items()}, turns=turns or {})

        def find_turns(photos, views, others, config, progress):
            made.asked_to_turn.append((list(views), list(others)))
            return made.turns

        monkeypatch.setattr(ladder, "matcher", lambda name, config: made.matchers[name])
        monkeypatch.setattr(ladder, "is_there", lambda name: name in made.matchers)
        monkeypatch.setattr(ladder, "find_turns", find_turns)
        return made

    return make


def everything(a: int, b: int) -> bool:
    return True


def without(view: int) -> Sees:
    return lambda a, b: view not in (a, b)


@pytest.mark.parametrize("focal", [0.5, 0.85, 2.0])
def test_unknown_focal_lengths_of_wide_and_long_lenses(stage, focal):
    """90 to 28 degrees of view, and no EXIF. What 5 % of it leave of poses is less than a degree."""
    truth = room(3, step_deg=20, focal=focal)
    found = stage(sift=Knowing(truth, everything)).climb(3, known="default", matchers="sift")
    assert found.solution.placed == {0, 1, 2}
    assert found.solution.model.camera(1).mean_focal_length() == pytest.approx(truth.focal, rel=0.05)


def test_learned_matchers_are_not_asked_where_sift_is_enough(stage):
    truth = room(3)
    made = stage(sift=Knowing(truth, everything), aliked=Knowing(truth, everything))
    found = made.climb(3)
    assert found.rungs == ("sift",) and found.solution.placed == {0, 1, 2}
    assert made.matchers["aliked"].asked == [] and made.asked_to_turn == []


def test_learned_matchers_are_asked_for_pairs_that_sift_does_not_settle(stage):
    """Photo 3 is matched by the learned one alone; the pairs with 150 matches or more are left as they are."""
    truth = room(4, points=200, step_deg=10)
    made = stage(sift=Knowing(truth, without(3)), aliked=Knowing(truth, everything, seed=1))
    found = made.climb(4)
    assert found.rungs == ("sift", "aliked") and found.solution.placed == {0, 1, 2, 3}
    assert [pairs for pairs, _ in made.matchers["aliked"].asked] == [((0, 3), (1, 3), (2, 3))]
    assert found.correspondences.count((0, 3)) > 150  # what is solved is the union


def test_without_learned_weights_sift_looks_harder_and_says_how_to_get_them(stage):
    truth = room(3)
    made = stage(sift=Knowing(truth, without(2)), sift_affine=Knowing(truth, everything, seed=1))
    found = made.climb(3)
    assert found.rungs == ("sift", "sift-affine") and found.solution.placed == {0, 1, 2}
    assert any("sparse3d models fetch matchers" in event.message for event in made.events)


def test_named_matchers_are_asked_in_order_and_no_others(stage):
    truth = room(4)
    made = stage(
        sift=Knowing(truth, without(3)), xfeat=Knowing(truth, without(3), seed=1), aliked=Knowing(truth, everything)
    )
    found = made.climb(4, matchers="xfeat+sift")
    assert found.rungs == ("xfeat", "sift") and found.solution.placed == {0, 1, 2}
    assert made.matchers["aliked"].asked == [] and made.asked_to_turn == []


def test_a_photo_left_over_is_looked_at_turned(stage):
    truth = room(4)
    aliked = Knowing(truth, without(3), turned=everything, seed=1)
    made = stage(turns={3: 1}, sift=Knowing(truth, without(3)), aliked=aliked)
    found = made.climb(4)
    assert found.solution.placed == {0, 1, 2, 3}
    assert made.asked_to_turn == [([3], [0, 1, 2])]
    assert aliked.asked[-1] == (((0, 3), (1, 3), (2, 3)), {3: 1})
    assert any(event.message.startswith("3.jpg: looked at turned") for event in made.events)


def test_a_photo_left_over_is_shown_to_another_matcher(stage):
    truth = room(4)
    made = stage(
        sift=Knowing(truth, without(3)),
        aliked=Knowing(truth, without(3), seed=1),
        xfeat=Knowing(truth, everything, seed=2),
    )
    found = made.climb(4)
    assert found.rungs == ("sift", "aliked", "xfeat") and found.solution.placed == {0, 1, 2, 3}
    assert made.matchers["xfeat"].asked == [(((0, 3), (1, 3), (2, 3)), {})]


def test_bad_matches_of_a_later_rung_take_nothing_away(stage):
    truth = room(4)
    bad = Knowing(truth, lambda a, b: False, random=300, seed=1)
    others = {name: replace(bad, asked=[]) for name in ("xfeat", "sift_affine")}
    found = stage(sift=Knowing(truth, without(3)), aliked=bad, **others).climb(4)
    assert found.solution.placed == {0, 1, 2}
    assert found.rungs == ("sift", "aliked", "xfeat", "sift-affine")


def test_no_rung_is_begun_after_the_time_limit(stage):
    truth = room(3)
    made = stage(sift=Knowing(truth, without(2)), aliked=Knowing(truth, everything))
    found = made.climb(3, time_limit_s=1e-6)
    assert found.rungs == ("sift",) and found.solution.placed == {0, 1}
    assert made.matchers["aliked"].asked == []


def outcome(stage: Callable[..., Stage], truth: Truth, sees: Sees = everything, random: int = 0):
    """The report of photos that SIFT alone looks at."""
    made = stage(sift=Knowing(truth, sees, random))
    views = len(truth.w2c)
    found = made.climb(views, matchers="sift")
    return report_of([photo(f"{i}.jpg") for i in range(views)], found, None)


def test_report_of_photos_that_are_placed(stage):
    report = outcome(stage, room(3))
    assert all(photo.placed and photo.partner for photo in report.photos) and report.how == "sift"
    assert warnings_of(report) == []
    matrix = np.array(report.matches)
    assert (matrix == matrix.T).all() and (np.diag(matrix) == 0).all()
    # a keypoint is 2.5 sigmas off at the least for an error of 2 px, so nearly all of the matches agree
    assert matrix[~np.eye(3, dtype=bool)].min() > 140
    for found in report.photos:
        assert f"{found.matches} matches with {found.partner} agree, and with 1 more" in found.why
        assert found.error_px is not None and 0.2 < found.error_px < 0.7  # half a pixel of noise per axis, fitted
    ((focal, _),) = report.focal
    assert focal == pytest.approx(0.85, rel=0.05)


def test_report_of_a_photo_that_matches_nothing(stage):
    report = outcome(stage, room(4), without(3))
    assert [photo.placed for photo in report.photos] == [True, True, True, False]
    assert report.photos[3].why.startswith("it matches no other photo") and report.photos[3].partner == ""
    (warning,) = warnings_of(report)
    assert warning.startswith("3.jpg has no camera: it matches no other photo")


def test_report_of_a_photo_with_random_matches(stage):
    report = outcome(stage, room(4), without(3), random=60)
    assert [photo.placed for photo in report.photos] == [True, True, True, False]
    assert report.photos[3].matches == 60 and "60 matches" in report.photos[3].why
    assert len(warnings_of(report)) == 1


def test_report_of_photos_taken_from_one_place(stage):
    rng = np.random.default_rng(3)
    centre = np.array([0, 0, -6.0])
    w2c = [looking_at(centre + [np.sin(turn), 0, np.cos(turn)], centre, 30 * turn) for turn in (-0.07, 0.07)]
    truth = Truth(np.stack(w2c), rng.uniform(-1, 1, (200, 3)) * [2.2, 1.6, 1.8])
    report = outcome(stage, truth)
    assert [photo.placed for photo in report.photos] == [False, False]
    assert "it was taken from the same place as 1.jpg, only turned" in report.photos[0].why
    message = no_cameras(report)
    for words in ("cameras of these 2 photos could not be found (sift)", "0.jpg: ", "1.jpg: ", "--poses"):
        assert words in message


def test_first_cameras():
    """EXIF counts, the guess is `start` times the longer side, given intrinsics are whole; a lens term from five photos."""
    tall = photo("tall.jpg", "default", height=WIDTH, width=HEIGHT)
    made = first_cameras([photo("a", "exif", 700.0), tall, photo("b", "exif", 700.0)], True, 0.6)
    assert made[0] is made[2] and made[0] is not made[1]
    np.testing.assert_allclose(made[0].params, [700, WIDTH / 2, HEIGHT / 2])
    np.testing.assert_allclose(made[1].params, [0.6 * WIDTH, HEIGHT / 2, WIDTH / 2])
    assert made[0].has_prior_focal_length and not made[1].has_prior_focal_length
    many = [photo(str(i), "default") for i in range(RADIAL_FROM)]
    assert {found.model.name for found in first_cameras(many, True, 0.85)} == {"SIMPLE_RADIAL"}
    assert {found.model.name for found in first_cameras(many[1:], True, 0.85)} == {"SIMPLE_PINHOLE"}
    alone = first_cameras(many, False, 0.85)
    assert len({found.camera_id for found in alone}) == RADIAL_FROM
    assert {found.model.name for found in alone} == {"SIMPLE_PINHOLE"}
    mixed = [photo("a", "given", 650.0), photo("b", "default"), photo("c", "given", 650.0)]
    given = first_cameras(mixed, True, 0.85)
    assert given[0].model.name == "PINHOLE" and fixed_cameras(mixed, given) == (given[0].camera_id,)
    np.testing.assert_allclose(given[0].params, [650, 650, WIDTH / 2, HEIGHT / 2])


@pytest.mark.parametrize("turn", range(4))
def test_positions_are_turned_back(turn):
    """One bright pixel, found in the turned picture."""
    height, width = 5, 8
    for row, column in ((0, 0), (1, 6), (4, 7), (3, 2)):
        picture = torch.zeros(3, height, width)
        picture[:, row, column] = 1
        found = torch.rot90(picture, turn, (1, 2))[0].nonzero()[0]
        position = np.array([[found[1] + 0.5, found[0] + 0.5]])
        np.testing.assert_allclose(turned_back(position, turn, width, height), [[column + 0.5, row + 0.5]])


def test_the_camera_of_these_tests_is_that_of_the_photos():
    np.testing.assert_allclose(first_cameras([photo("a")], True, 1.0)[0].params, camera(0.85 * WIDTH).params)

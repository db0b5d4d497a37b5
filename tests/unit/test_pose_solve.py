"""Matches of known cameras in, cameras out: as exact as the keypoints allow, and none where the matches hold none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.sfm_truth import (
    HEIGHT,
    MAX_ERROR_PX,
    WIDTH,
    Truth,
    camera,
    cramer_rao,
    errors_of,
    looking_at,
    matched,
    relative,
    room,
    solved,
    turn_deg,
)

from sparse3d.config import PoseConfig
from sparse3d.pose import solve as solving
from sparse3d.pose.budget import Budget
from sparse3d.pose.correspondences import Correspondences
from sparse3d.pose.judge import Link, poses
from sparse3d.pose.mapping import posed_model
from sparse3d.pose.refine import refine
from sparse3d.pose.solve import largest_held, solve

# An error of three numbers exceeds 4 times the root of their summed variances in far less than 1 of 1000 cases. The
# Cauchy loss costs a tenth of that, and so do random matches that happen to lie on their epipolar lines.
SIGMAS = 4.0


def assert_as_exact_as_possible(model, truth: Truth, noise_px: float, open_focal: bool) -> None:
    bound, errors = cramer_rao(truth, noise_px, open_focal), errors_of(model, truth)
    for view in range(1, len(truth.w2c)):
        rotation_deg, direction_deg = errors[0, view]
        assert rotation_deg < SIGMAS * bound.rotation_deg[view]
        assert direction_deg < SIGMAS * bound.direction_deg[view]
    if open_focal:
        assert abs(model.camera(1).mean_focal_length() - truth.focal) < SIGMAS * bound.focal_px


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("views", "open_focal"), [(2, False), (3, False), (3, True), (6, True)])
def test_cameras_are_as_exact_as_their_keypoints_allow(views, open_focal, seed):
    """Half a pixel of noise, 3 of 10 matches random; of two views the focal length is given, as few fix it."""
    truth = room(views, seed=seed)
    bound = cramer_rao(truth, 0.5, open_focal)
    assert (
        SIGMAS * bound.rotation_deg.max() < 1 and SIGMAS * bound.direction_deg.max() < 2
    )  # what is asked below is much
    start = camera(0.8 * WIDTH if open_focal else truth.focal)
    found = solved(matched(truth, seed=seed), [start] * views, fixed=() if open_focal else (1,))
    assert found.placed == set(range(views)) and not found.dropped
    assert_as_exact_as_possible(found.model, truth, 0.5, open_focal)


@pytest.mark.parametrize("focal", [0.7, 1.0, 1.2])
@pytest.mark.parametrize("views", [3, 6])
def test_unknown_focal_length_is_found(focal, views):
    """From a start of 0.85. Views 20 degrees apart fix it to 0.3 % (three) and 0.1 % (six); 5 % is what poses need."""
    truth = room(views, step_deg=20, focal=focal)
    assert SIGMAS * cramer_rao(truth, 0.5, True).focal_px < 0.02 * truth.focal
    found = solved(matched(truth), [camera(0.85 * WIDTH)] * views)
    assert len(found.placed) == views
    assert found.model.camera(1).mean_focal_length() == pytest.approx(truth.focal, rel=0.05)
    assert_as_exact_as_possible(found.model, truth, 0.5, True)


def test_each_camera_has_its_own_focal_length():
    """Two photos each of two cameras, one of them zoomed in."""
    near, far = room(4, step_deg=20), replace(room(4, step_deg=20), focal=1.1 * WIDTH)
    of = [near, near, far, far]
    rng = np.random.default_rng(0)
    pixels = [truth.seen(view) for view, truth in enumerate(of)]
    matches = {}
    for a in range(4):
        for b in range(a + 1, 4):
            both = np.flatnonzero(pixels[a][1] & pixels[b][1])
            matches[a, b] = np.stack([both, both], axis=1)
    keypoints = tuple(p + rng.normal(0, 0.5, p.shape) for p, _ in pixels)
    correspondences = Correspondences(keypoints, matches, {pair: np.full(len(m), 0.8) for pair, m in matches.items()})
    first, second = camera(0.85 * WIDTH, 1), camera(0.85 * WIDTH, 2)
    found = solved(correspondences, [first, first, second, second])
    assert len(found.placed) == 4
    assert found.model.camera(1).mean_focal_length() == pytest.approx(near.focal, rel=0.05)
    assert found.model.camera(2).mean_focal_length() == pytest.approx(far.focal, rel=0.05)


@pytest.mark.parametrize("off", [1.0, 1.02])
@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("views", [2, 3, 6])
def test_given_intrinsics_stay_exactly(views, prior, off):
    """Off by 2 %, so that the matches would have them otherwise, too: the user's word counts."""
    truth = room(views)
    found = solved(matched(truth), [camera(off * truth.focal, prior=prior)] * views, fixed=(1,))
    assert len(found.placed) == views
    np.testing.assert_array_equal(found.model.camera(1).params, [off * truth.focal, WIDTH / 2, HEIGHT / 2])


def test_one_given_camera_among_open_ones_stays():
    truth = room(4, step_deg=20)
    given, open_ = camera(truth.focal, 1, prior=True), camera(0.8 * WIDTH, 2)
    found = solved(matched(truth), [given, given, open_, open_], fixed=(1,))
    assert len(found.placed) == 4
    assert found.model.camera(1).mean_focal_length() == truth.focal
    assert found.model.camera(2).mean_focal_length() == pytest.approx(truth.focal, rel=0.05)


def test_poses_that_are_still_stay_exactly():
    """The third one starts 2 degrees and a tenth of its distance off."""
    truth = room(3)
    started = {view: truth.w2c[view].copy() for view in range(3)}
    turn = looking_at(np.array([0, 0, 1.0]), np.zeros(3), 2.0)
    started[2] = turn @ started[2]
    started[2][:3, 3] += [0.4, -0.3, 0.3]
    cameras = [camera(truth.focal)] * 3
    model = refine(
        posed_model(cameras, started),
        matched(truth),
        cameras,
        PoseConfig(),
        max_error_px=MAX_ERROR_PX * 4,  # given poses may be far off
        fixed=(1,),
        still=(0, 1),
        seed=0,
    )
    found = poses(model)
    for view in (0, 1):
        np.testing.assert_allclose(found[view], truth.w2c[view, :3], rtol=0, atol=1e-12)
    # the others hold scale and place too, so this is no more than the bound of three free views
    assert errors_of(model, truth)[0, 2][0] < SIGMAS * cramer_rao(truth, 0.5, False).rotation_deg[2]
    assert np.linalg.norm(found[2][:, 3] - truth.w2c[2, :3, 3]) < 0.1


def with_random_matches(good: Correspondences, pairs, count: int, score: float, seed: int) -> Correspondences:
    """The same with `count` random matches in each of the pairs, in place of what was there."""
    rng = np.random.default_rng(seed)
    keypoints, matches, scores = list(good.keypoints), dict(good.matches), dict(good.scores)
    for pair in pairs:
        index = []
        for view in pair:
            index.append(np.arange(count) + len(keypoints[view]))
            keypoints[view] = np.concatenate([keypoints[view], rng.uniform(0, 1, (count, 2)) * [WIDTH, HEIGHT]])
        matches[pair], scores[pair] = np.stack(index, axis=1), np.full(count, score)
    return Correspondences(tuple(keypoints), matches, scores)


@pytest.mark.parametrize(("count", "seed"), [(30, 0), (30, 1), (150, 2)])
def test_a_photo_with_random_matches_gets_no_pose(count, seed):
    truth = room(4, seed=seed)
    good = matched(truth, sees=lambda a, b: b < 3, seed=seed)
    mixed = with_random_matches(good, [(0, 3), (1, 3), (2, 3)], count, 0.5, seed)
    found = solved(mixed, [camera(0.85 * WIDTH)] * 4)
    assert found.placed == {0, 1, 2}
    assert max(error for pair in errors_of(found.model, truth).values() for error in pair) < 2


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("count", [30, 200])
def test_random_matches_alone_give_nothing(views, count):
    pairs = [(a, b) for a in range(views) for b in range(a + 1, views)]
    nothing = with_random_matches(Correspondences.none(views), pairs, count, 0.8, seed=views)
    found = solved(nothing, [camera(0.85 * WIDTH)] * views)
    assert found.model is None and found.placed == frozenset() and found.links == {}


def two_groups(score: float) -> tuple[Truth, Correspondences]:
    """Views 0 to 2 see one part of the points, views 3 to 5 another; 40 more are matched between 2 and 3.

    As where one thing stands in two places: everything agrees with one reconstruction, to the half pixel.
    """
    truth = room(6, points=300)
    whole = matched(truth, outliers=0.0)
    part = np.concatenate([np.zeros(40, int), np.ones(130, int), np.full(130, 2, int)])
    matches, scores = {}, {}
    for (a, b), found in whole.matches.items():
        seen = {True: (0, 1), False: (0, 2)}.get(a < 3) if (a < 3) == (b < 3) else (0,)
        kept = found[np.isin(part[found[:, 0]], seen)]
        if (a < 3) == (b < 3) or (a, b) == (2, 3):
            matches[a, b] = kept
            scores[a, b] = np.full(len(kept), score if (a, b) == (2, 3) else 0.8)
    return truth, Correspondences(whole.keypoints, matches, scores)


def test_unsure_matches_of_one_pair_do_not_join_two_groups():
    """40 matches at 0.4 weigh 16, where 30 is asked; all other pairs across have none."""
    truth, bridged = two_groups(score=0.4)
    assert bridged.count((2, 3)) >= 38
    found = solved(bridged, [camera(truth.focal)] * 6, fixed=(1,))
    assert found.placed in ({0, 1, 2}, {3, 4, 5})
    assert max(error for pair in errors_of(found.model, truth).values() for error in pair) < 2


def test_sure_matches_of_one_pair_join_two_groups():
    """The same at 0.9 weighs 36: no rule but the weight told them apart."""
    truth, bridged = two_groups(score=0.9)
    found = solved(bridged, [camera(truth.focal)] * 6, fixed=(1,))
    assert found.placed == set(range(6))


def link(count: int, score: float, against: int = 0) -> Link:
    """`count` agreeing matches of the same score and some that disagree."""
    consistent = np.arange(count + against) < count
    return Link(consistent, count * score, float(count))


@pytest.mark.parametrize(
    ("links", "views", "held"),
    [
        ({}, 0, set()),
        ({}, 3, {0}),  # single views: the first one is as good as any
        ({(0, 1): link(100, 0.8)}, 3, {0, 1}),
        ({(0, 1): link(19, 1.9)}, 2, {0}),  # too few, though sure: min_inliers 20
        ({(0, 1): link(60, 0.4)}, 2, {0}),  # 24 in all: min_sure 30
        ({(0, 1): link(100, 0.8, against=500)}, 2, {0}),  # a sixth agrees: min_held 0.2
        ({(0, 1): link(100, 0.8, against=390)}, 2, {0, 1}),
        # each pair alone is too weak, together they hold the third view
        ({(0, 1): link(100, 0.8), (0, 2): link(25, 0.7), (1, 2): link(25, 0.7)}, 3, {0, 1, 2}),
        # one pair agrees, the other one is against it
        ({(0, 1): link(100, 0.8), (0, 2): link(45, 0.7), (1, 2): link(0, 0.0, against=200)}, 3, {0, 1}),
        # two groups of three with one unsure pair between them; and the larger of two groups
        (
            {(a, b): link(100, 0.8) for a, b in [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)]}
            | {(2, 3): link(40, 0.4)},
            6,
            {0, 1, 2},
        ),
        ({(0, 1): link(300, 0.9), (2, 3): link(50, 0.8), (3, 4): link(50, 0.8)}, 5, {2, 3, 4}),
    ],
)
def test_groups_grow_by_what_holds_them(links, views, held):
    assert largest_held(links, set(range(views)), PoseConfig()) == held


def test_copies_of_a_view_are_no_problem():
    """View 1 again as view 3 and view 0 as view 4, each with keypoints of its own."""
    once = room(3)
    truth = replace(once, w2c=once.w2c[[0, 1, 2, 1, 0]])
    found = solved(matched(truth), [camera(0.8 * WIDTH)] * 5)
    assert found.placed == set(range(5))
    errors = errors_of(found.model, truth)
    bound = cramer_rao(once, 0.5, True)
    for a, b in ((0, 1), (0, 2), (0, 3), (3, 2)):
        assert errors[a, b][0] < SIGMAS * bound.rotation_deg.max()
        assert errors[a, b][1] < SIGMAS * bound.direction_deg.max()
    centres = {view: relative(pose, np.eye(4))[1] for view, pose in poses(found.model).items()}
    baseline = np.linalg.norm(centres[0] - centres[1])
    assert np.linalg.norm(centres[1] - centres[3]) < 0.02 * baseline
    assert np.linalg.norm(centres[0] - centres[4]) < 0.02 * baseline
    assert turn_deg(poses(found.model)[1][:, :3] @ poses(found.model)[3][:, :3].T) < 0.5


def test_two_copies_alone_give_nothing():
    once = room(2)
    truth = replace(once, w2c=once.w2c[[0, 0]])
    assert solved(matched(truth, outliers=0.0), [camera(truth.focal)] * 2, fixed=(1,)).model is None


def test_the_same_seed_gives_the_same_cameras():
    truth = room(3)
    correspondences = matched(truth)
    runs = [solved(correspondences, [camera(0.85 * WIDTH)] * 3, seed=7).model for _ in range(2)]
    for view in range(3):
        np.testing.assert_array_equal(poses(runs[0])[view], poses(runs[1])[view])
    np.testing.assert_array_equal(runs[0].camera(1).params, runs[1].camera(1).params)


def test_arguments_are_not_changed():
    truth = room(3)
    correspondences, start = matched(truth), camera(0.8 * WIDTH)
    keypoints = [found.copy() for found in correspondences.keypoints]
    solved(correspondences, [start] * 3)
    np.testing.assert_array_equal(start.params, camera(0.8 * WIDTH).params)
    for before, after in zip(keypoints, correspondences.keypoints, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("seconds", "attempts"), [(0.0, 1), (600.0, 4)])
def test_a_used_up_budget_returns_the_best_so_far(monkeypatch, seconds, attempts):
    """Without time one attempt is made; with it, of three photos, each pair is started from once more."""
    calls = []
    incremental = solving.incremental

    def counted(*arguments):
        calls.append(arguments)
        return incremental(*arguments)

    monkeypatch.setattr(solving, "incremental", counted)
    truth = room(3)
    found = solve(
        matched(truth),
        [camera(truth.focal)] * 3,
        PoseConfig(),
        max_error_px=MAX_ERROR_PX,
        fixed=(1,),
        seed=0,
        budget=Budget(seconds),
    )
    assert found.placed == {0, 1, 2} and len(calls) == attempts

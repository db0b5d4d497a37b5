"""Links between views against distances to epipolar lines and triangulation by other formulas; union of matches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.sfm_truth import HEIGHT, MAX_ERROR_PX, WIDTH, camera, cross, matched, relative, room

from sparse3d.pose.correspondences import Correspondences, union
from sparse3d.pose.judge import links, total_gain
from sparse3d.pose.mapping import posed_model


def model_of(truth):
    return posed_model([camera(truth.focal)] * len(truth.w2c), dict(enumerate(truth.w2c)))


def behind_as_well(truth, count: int = 40):
    """The same points and more of them behind all cameras, which pixels cannot tell apart."""
    rng = np.random.default_rng(5)
    back = np.array([0, 0, -13.0]) + rng.uniform(-1, 1, (count, 3))
    return replace(truth, points=np.concatenate([truth.points, back]))


def with_all_points(truth, noise_px: float, outliers: int, seed: int = 0) -> Correspondences:
    """Every point matched, be it before or behind, and random matches."""
    rng = np.random.default_rng(seed)
    keypoints, index = [], np.arange(len(truth.points) + outliers)
    for view in range(len(truth.w2c)):
        pixels = truth.seen(view)[0]
        pixels = pixels + rng.normal(0, noise_px, pixels.shape)
        keypoints.append(np.concatenate([pixels, rng.uniform(0, 1, (outliers, 2)) * [WIDTH, HEIGHT]]))
    pairs = [(a, b) for a in range(len(keypoints)) for b in range(a + 1, len(keypoints))]
    matches = {pair: np.stack([index, index], axis=1) for pair in pairs}
    return Correspondences(tuple(keypoints), matches, {pair: rng.uniform(0, 1, len(index)) for pair in pairs})


def sampson_px(truth, pair, a, b) -> np.ndarray:
    """|x_b^T F x_a| / |its gradient by both pixels|, F = K^-T [t]x R K^-1 (Hartley and Zisserman 11.9)."""
    K = np.array([[truth.focal, 0, WIDTH / 2], [0, truth.focal, HEIGHT / 2], [0, 0, 1]])
    inverse = np.linalg.inv(K)
    transform = truth.w2c[pair[1]] @ np.linalg.inv(truth.w2c[pair[0]])
    F = inverse.T @ cross(transform[:3, 3]) @ transform[:3, :3] @ inverse
    errors = []
    for xa, xb in zip(a, b, strict=True):
        xa, xb = np.append(xa, 1), np.append(xb, 1)
        gradient = np.concatenate([(F @ xa)[:2], (F.T @ xb)[:2]])
        errors.append(abs(xb @ F @ xa) / np.linalg.norm(gradient))
    return np.array(errors)


def triangulated(truth, pair, a, b) -> np.ndarray:
    """By the direct linear transform (Hartley and Zisserman 12.2), one match at a time. (M, 3)"""
    K = np.array([[truth.focal, 0, WIDTH / 2], [0, truth.focal, HEIGHT / 2], [0, 0, 1]])
    P, Q = (K @ truth.w2c[view, :3] for view in pair)
    points = []
    for xa, xb in zip(a, b, strict=True):
        rows = [xa[0] * P[2] - P[0], xa[1] * P[2] - P[1], xb[0] * Q[2] - Q[0], xb[1] * Q[2] - Q[1]]
        rows = [row / np.linalg.norm(row) for row in rows]
        X = np.linalg.svd(np.stack(rows))[2][-1]
        points.append(X[:3] / X[3])
    return np.array(points)


def test_links_are_what_brute_force_says():
    truth = behind_as_well(room(3))
    correspondences = with_all_points(truth, noise_px=1.0, outliers=60)
    found = links(model_of(truth), correspondences, MAX_ERROR_PX)
    assert set(found) == {(0, 1), (0, 2), (1, 2)}
    for pair, link in found.items():
        a, b = correspondences.points(pair)
        error, points = sampson_px(truth, pair, a, b), triangulated(truth, pair, a, b)
        depths = [points @ truth.w2c[view, 2, :3] + truth.w2c[view, 2, 3] for view in pair]
        good = (error < MAX_ERROR_PX) & (depths[0] > 0) & (depths[1] > 0)
        # the two ways to triangulate may differ on random matches far from their lines, which are out in any case
        assert 80 < good.sum() < 160 and (link.consistent != good).sum() == 0
        assert link.count == good.sum()
        assert link.sure == pytest.approx(correspondences.scores[pair][good].sum())
        assert link.gain == pytest.approx((1 - (error[good] / MAX_ERROR_PX) ** 2).sum(), rel=1e-6)
    assert total_gain(found) == pytest.approx(sum(link.gain for link in found.values()))


def test_points_behind_the_cameras_do_not_count():
    truth = behind_as_well(replace(room(2), points=np.zeros((0, 3))))
    exact = with_all_points(truth, noise_px=0.0, outliers=0)
    (link,) = links(model_of(truth), exact, MAX_ERROR_PX).values()
    assert sampson_px(truth, (0, 1), *exact.points((0, 1))).max() < 1e-6
    assert link.count == 0 and link.gain == 0 and link.sure == 0


def test_a_wrong_pose_loses_its_links():
    truth = room(3)
    correspondences = matched(truth, outliers=0.0)
    wrong = truth.w2c.copy()
    wrong[2, :3, 3] += [1.0, 0.0, 0.0]
    right, bent = (links(model_of(t), correspondences, MAX_ERROR_PX) for t in (truth, replace(truth, w2c=wrong)))
    assert bent[0, 1].count == right[0, 1].count > 140
    assert bent[0, 2].count < 0.5 * right[0, 2].count and bent[1, 2].gain < 0.5 * right[1, 2].gain


def test_views_without_a_camera_and_pairs_without_matches_have_no_link():
    truth = room(4)
    correspondences = matched(truth, sees=lambda a, b: (a, b) != (0, 1))
    model = posed_model([camera(truth.focal)] * 4, {view: truth.w2c[view] for view in (0, 1, 3)})
    assert set(links(model, correspondences, MAX_ERROR_PX)) == {(0, 3), (1, 3)}


def test_links_know_nothing_of_the_frame_or_scale():
    truth = room(3)
    correspondences = matched(truth)
    frame = np.eye(4)
    frame[:3, :3], frame[:3, 3] = relative(truth.w2c[1], truth.w2c[0])[0], [3.0, -2.0, 5.0]
    moved = truth.w2c @ frame
    moved[:, :3, 3] *= 7.0  # of world and cameras together
    here, there = (links(model_of(t), correspondences, MAX_ERROR_PX) for t in (truth, replace(truth, w2c=moved)))
    for pair in here:
        np.testing.assert_array_equal(here[pair].consistent, there[pair].consistent)
        assert here[pair].gain == pytest.approx(there[pair].gain, rel=1e-9)


def some(rng, counts, pairs, score) -> Correspondences:
    keypoints = tuple(rng.uniform(0, 100, (count, 2)) for count in counts)
    matches = {
        (a, b): np.stack([rng.integers(0, counts[a], size), rng.integers(0, counts[b], size)], axis=1)
        for (a, b), size in pairs.items()
    }
    return Correspondences(keypoints, matches, {pair: np.full(size, score) for pair, size in pairs.items()})


def test_union_keeps_every_match_at_its_place():
    rng = np.random.default_rng(0)
    parts = [
        some(rng, [5, 0, 7], {(0, 2): 4}, 0.1),
        some(rng, [3, 4, 6], {(0, 1): 2, (0, 2): 3, (1, 2): 5}, 0.2),
        some(rng, [2, 9, 1], {(0, 1): 6, (0, 2): 0}, 0.3),
    ]
    joined = union(parts)
    assert [len(points) for points in joined.keypoints] == [10, 13, 14]
    assert {pair: joined.count(pair) for pair in joined.matches} == {(0, 1): 8, (0, 2): 7, (1, 2): 5}
    for pair in joined.matches:
        have = [(*xa, *xb, score) for xa, xb, score in zip(*joined.points(pair), joined.scores[pair], strict=True)]
        want = [
            (*xa, *xb, score)
            for part in parts
            if pair in part.matches
            for xa, xb, score in zip(*part.points(pair), part.scores[pair], strict=True)
        ]
        assert have == want
    alone = union(parts[:1])
    np.testing.assert_array_equal(alone.matches[0, 2], parts[0].matches[0, 2])
    assert joined.count((1, 2)) == 5 and alone.count((1, 2)) == 0


def test_union_of_other_photos_is_an_error():
    with pytest.raises(ValueError, match=r"\[2, 3\] photos cannot be joined"):
        union([Correspondences.none(2), Correspondences.none(3)])
    with pytest.raises(ValueError, match="cannot be joined"):
        union([])


@pytest.mark.parametrize(
    ("matches", "scores", "words"),
    [
        ({(1, 0): np.zeros((0, 2), int)}, {(1, 0): np.zeros(0)}, "lower index first"),
        ({(0, 2): np.zeros((0, 2), int)}, {(0, 2): np.zeros(0)}, "no pair"),
        ({(0, 1): np.zeros((4, 3), int)}, {(0, 1): np.zeros(4)}, r"\(4, 3\), needed \(M, 2\)"),
        ({(0, 1): np.zeros((4, 2), int)}, {(0, 1): np.zeros(3)}, "one score for each of its 4"),
        ({(0, 1): np.zeros((4, 2), int)}, {}, "one score"),
    ],
)
def test_correspondences_that_make_no_sense_are_refused(matches, scores, words):
    with pytest.raises(ValueError, match=words):
        Correspondences((np.zeros((9, 2)), np.zeros((9, 2))), matches, scores)

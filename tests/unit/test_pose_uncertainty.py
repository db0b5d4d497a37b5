"""Standard deviations against a Monte Carlo and the Cramér-Rao bound; focal lengths of EXIF against the formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.sfm_truth import (
    MAX_ERROR_PX,
    WIDTH,
    Truth,
    camera,
    cramer_rao,
    errors_of,
    looking_at,
    matched,
    room,
    solved,
)

from sparse3d.config import PoseConfig
from sparse3d.io._pycolmap import pycolmap
from sparse3d.pose.judge import poses
from sparse3d.pose.mapping import posed_model
from sparse3d.pose.refine import refine
from sparse3d.pose.uncertainty import settle_focal, uncertainty

NOISE_PX = 0.5
ASSUMED_PX = 0.002 * WIDTH  # what `uncertainty` takes for the error of a keypoint
EXIF = 0.03  # relative standard deviation of a focal length by EXIF, as `settle_focal` takes it


def refined(truth: Truth, seed: int, fixed: tuple[int, ...] = (), start: float = 1.0) -> Any:
    """The model that is best for noisy keypoints, from the true poses and `start` times the focal length."""
    cameras = [camera(start * truth.focal)] * len(truth.w2c)
    model = posed_model(cameras, dict(enumerate(truth.w2c)))
    correspondences = matched(truth, noise_px=NOISE_PX, outliers=0.0, seed=seed)
    settings = {"max_error_px": MAX_ERROR_PX * (1 if start == 1.0 else 4), "fixed": fixed, "seed": 0}
    return refine(model, correspondences, cameras, PoseConfig(), **settings)


@pytest.mark.parametrize("open_focal", [True, False])
def test_uncertainty_against_monte_carlo_and_bound(open_focal):
    """The spread over 24 draws of the noise, known itself to 15 %; and what Fisher information says, without any draw."""
    truth = room(3, points=80, step_deg=20)
    fixed = () if open_focal else (1,)
    models = [refined(truth, seed, fixed) for seed in range(24)]
    found = uncertainty(models[0], MAX_ERROR_PX / 2, fixed)
    assert found is not None
    scale = NOISE_PX / ASSUMED_PX
    errors = [errors_of(model, truth) for model in models]
    bound = cramer_rao(truth, NOISE_PX, open_focal)
    # the Cauchy loss weighs what lies within its bend less too: 1 to 1.3 of the bound, which has no loss
    for view in (1, 2):
        spread = np.sqrt(np.mean([error[0, view][0] ** 2 for error in errors]))
        assert 0.6 < scale * found.rotation_deg[view] / spread < 1.7
        assert 0.95 < scale * found.rotation_deg[view] / bound.rotation_deg[view] < 1.3
        spread = np.sqrt(np.mean([error[0, view][1] ** 2 for error in errors]))
        assert 0.6 < scale * found.direction_deg[view] / spread < 1.7
        assert 0.95 < scale * found.direction_deg[view] / bound.direction_deg[view] < 1.3
    if open_focal:
        spread = np.std([model.camera(1).mean_focal_length() for model in models])
        assert 0.6 < scale * found.focal_px[1] / spread < 1.7
        assert 0.95 < scale * found.focal_px[1] / bound.focal_px < 1.3
    else:
        assert found.focal_px == {}


def test_uncertainty_knows_nothing_of_frame_and_scale():
    model = refined(room(3, points=80, step_deg=20), 0)
    before = uncertainty(model, MAX_ERROR_PX / 2, ())
    kept = {view: pose.copy() for view, pose in poses(model).items()}
    moved = pycolmap().Reconstruction(model)
    quat = np.array([0.5, -0.5, 0.5, 0.5])
    moved.transform(pycolmap().Sim3d(5.0, pycolmap().Rotation3d(quat), np.array([3.0, -20.0, 7.0])))
    after = uncertainty(moved, MAX_ERROR_PX / 2, ())
    assert before is not None and after is not None
    for view in before.rotation_deg:
        assert after.rotation_deg[view] == pytest.approx(before.rotation_deg[view], rel=1e-3)
    for view in before.direction_deg:
        assert after.direction_deg[view] == pytest.approx(before.direction_deg[view], rel=1e-3)
    assert after.focal_px[1] == pytest.approx(before.focal_px[1], rel=1e-3)
    for view, pose in poses(model).items():  # the model asked about is as it was
        np.testing.assert_array_equal(pose, kept[view])


@pytest.mark.parametrize("seed", range(4))
def test_two_views_have_an_uncertainty_each_way(seed):
    truth = room(2, points=80, step_deg=20, seed=seed)
    found = uncertainty(refined(truth, seed, (1,)), MAX_ERROR_PX / 2, (1,))
    bound = cramer_rao(truth, ASSUMED_PX, False)
    assert found is not None and set(found.rotation_deg) == set(found.direction_deg) == {1}
    assert 0.95 < found.rotation_deg[1] / bound.rotation_deg[1] < 1.3
    assert 0.95 < found.direction_deg[1] / bound.direction_deg[1] < 1.3


def test_fewer_matches_are_less_certain():
    many, few = (refined(room(3, points=points, step_deg=20), 0) for points in (200, 50))
    a, b = (uncertainty(model, MAX_ERROR_PX / 2, ()) for model in (many, few))
    assert a is not None and b is not None
    for view in (1, 2):
        assert 1.4 < b.rotation_deg[view] / a.rotation_deg[view] < 3  # twice by the count, the points are others too


def fused(found_px: float, sigma_px: float, exif_px: float) -> float:
    """Mean weighted by inverse variances."""
    weights = np.array([sigma_px**-2, (EXIF * exif_px) ** -2])
    return float(weights @ [found_px, exif_px] / weights.sum())


@pytest.mark.parametrize("off", [0.9, 1.0, 1.1])
def test_exif_is_fused_by_inverse_variances(off):
    """Six views fix their focal length: EXIF that is a tenth off moves it by a percent at most."""
    truth = room(6)
    model = refined(truth, 0)
    first = [camera(off * truth.focal, prior=True)] * 6
    sigma = uncertainty(model, MAX_ERROR_PX / 2, ())
    assert sigma is not None
    want = fused(model.camera(1).mean_focal_length(), sigma.focal_px[1], off * truth.focal)
    settle_focal(model, first, MAX_ERROR_PX / 2, ())
    assert model.camera(1).mean_focal_length() == pytest.approx(want, rel=1e-6)
    assert want == pytest.approx(truth.focal, rel=0.01)


def flat(relief: float) -> Truth:
    """A wall that cameras side by side look at straight: a longer lens from farther away sees the same."""
    rng = np.random.default_rng(4)
    x, y = rng.uniform(-1, 1, (2, 150)) * [[2.2], [1.6]]
    centres = np.array([[-1.2, 0, -6.0], [0, 0.3, -6.0], [1.2, -0.2, -6.0]])
    w2c = [looking_at(centre + [0, 0, 1], centre, 5.0 * i) for i, centre in enumerate(centres)]
    return Truth(np.stack(w2c), np.stack([x, y, relief * x * y], axis=1))


@pytest.mark.parametrize("relief", [0.0, 0.02])
@pytest.mark.parametrize("off", [0.95, 1.0, 1.05])
def test_exif_decides_where_the_matches_leave_the_focal_length_open(off, relief):
    truth = flat(relief)
    model = refined(truth, 0, start=1.2)
    settle_focal(model, [camera(off * truth.focal, prior=True)] * 3, MAX_ERROR_PX / 2, ())
    assert model.camera(1).mean_focal_length() == pytest.approx(off * truth.focal, rel=0.01)


@pytest.mark.parametrize("off", [0.95, 1.05])
def test_solving_asks_exif(off):
    """From matches alone: the flat scene takes the focal length of EXIF, the deep one keeps its own."""
    wall, box = flat(0.0), room(6)
    found = solved(matched(wall), [camera(off * wall.focal, prior=True)] * 3)
    assert len(found.placed) == 3
    assert found.model.camera(1).mean_focal_length() == pytest.approx(off * wall.focal, rel=0.015)
    found = solved(matched(box), [camera(off * box.focal, prior=True)] * 6)
    assert found.model.camera(1).mean_focal_length() == pytest.approx(box.focal, rel=0.01)


def test_focal_lengths_without_exif_and_given_ones_stay():
    truth = room(3, step_deg=20)
    model = refined(truth, 0)
    before = model.camera(1).mean_focal_length()
    settle_focal(model, [camera(1.1 * truth.focal)] * 3, MAX_ERROR_PX / 2, ())  # a guess
    assert model.camera(1).mean_focal_length() == before
    given = refined(truth, 0, fixed=(1,))
    settle_focal(given, [camera(1.1 * truth.focal, prior=True)] * 3, MAX_ERROR_PX / 2, (1,))
    assert given.camera(1).mean_focal_length() == truth.focal

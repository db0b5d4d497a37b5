"""The arithmetic of the few-view protocol."""

from dataclasses import replace

import pytest
import torch
from harness import baselines
from harness.camera_errors import Perturbation, camera_errors
from harness.contact_sheet import LABEL_PX, Row, contact_sheet
from harness.estimated_cameras import in_frame_of
from harness.photo_sets import folds_of
from harness.sparse_table import Outcome, SparseTable

from sparse3d.config import load_config
from sparse3d.geometry import project, se3_exp
from sparse3d.metrics.pose import Similarity
from sparse3d.pose.report import PoseReport
from sparse3d.types import Points, PosedViews, View


def views_around(count: int) -> tuple[View, ...]:
    """Cameras at random places, 40x30, focal length 50."""
    generator = torch.Generator().manual_seed(0)
    K = torch.tensor([[50.0, 0, 20], [0, 50, 15], [0, 0, 1]])
    c2w = se3_exp(0.3 * torch.randn(count, 6, generator=generator, dtype=torch.float64)).float()
    return tuple(View(f"{k}", torch.rand(3, 30, 40, generator=generator), K, c2w[k]) for k in range(count))


def moved(views: tuple[View, ...], into: Similarity) -> tuple[View, ...]:
    c2w = into.apply_to_cameras(torch.stack([view.c2w for view in views]).double()).float()
    return tuple(replace(view, c2w=c2w[k]) for k, view in enumerate(views))


@pytest.mark.parametrize("focal, K_focal", [(1.25, 50.0), (1.3, 52.0)])
def test_test_views_come_into_the_estimated_frame(focal, K_focal):
    """Where the estimate is the truth seen from another frame, so are the test views. Focal length: share of the longer side."""
    views = views_around(5)
    rotation = se3_exp(torch.tensor([0.4, -0.2, 0.9, 0, 0, 0], dtype=torch.float64))[:3, :3]
    into = Similarity(0.3, rotation, torch.tensor([5.0, -1, 2], dtype=torch.float64))
    report = PoseReport((), (), "sift", ((focal, None),))
    found = in_frame_of(moved(views[:3], into), views[:3], views[3:], report)
    for got, want in zip(found, moved(views[3:], into), strict=True):
        torch.testing.assert_close(got.c2w, want.c2w, rtol=0, atol=1e-5)
        assert torch.equal(got.image, want.image)
        torch.testing.assert_close(got.K, torch.tensor([[K_focal, 0, 20], [0, K_focal, 15], [0, 0, 1.0]]))


def test_perturbed_cameras_have_the_errors_that_were_asked_for():
    views = views_around(4)
    names = [view.name for view in views]
    perturbed = Perturbation(0.5, 2.0)(views, names, seed=0)
    (alone,) = Perturbation(0.5, 2.0)(views[2:3], names, seed=0)
    assert torch.equal(alone.c2w, perturbed[2].c2w)
    for before, after in zip(views, perturbed, strict=True):
        turn = before.c2w[:3, :3].T @ after.c2w[:3, :3]
        angle = torch.rad2deg(torch.arccos(((turn.double().trace() - 1) / 2).clamp(max=1)))
        assert float(angle) == pytest.approx(0.5, abs=0.02)
    assert camera_errors(perturbed, views)["focal %"] == pytest.approx(2.0, rel=1e-4)
    assert camera_errors(views, views) == pytest.approx({"rotation deg": 0, "position %": 0, "focal %": 0}, abs=1e-3)


def test_baselines_share_poses_and_renderer_and_nothing_else():
    settings = ["pose.max_size=700", "renderer=cpu", "optimize.steps=7", "init.stride=9"]
    ours, plain, first = baselines.methods("fast", settings, ["plain", "first"])
    assert ours.config == load_config("fast", settings)
    for method in (plain, first):
        assert method.config.pose == ours.config.pose and method.config.renderer == "cpu"
    assert (plain.config.optimize.steps, plain.config.optimize.strategy) == (7000, "mcmc")
    assert (first.config.optimize.steps, first.config.init.stride) == (1500, 2)


def test_random_points_lie_where_some_view_looks():
    views = PosedViews(views_around(3), Points.none())
    gaussians = baselines.random_points(views, 3000, seed=0)
    assert len(gaussians) == 3000
    seen = torch.zeros(len(gaussians), dtype=torch.bool)
    for view in views.views:
        pixels, depth = project(gaussians.means, view.cameras.w2c[0], view.K)
        # half a pixel and more off the border is where pixel centres are
        seen |= (depth > 0) & (pixels > 0.4).all(1) & (pixels < torch.tensor([39.6, 29.6])).all(1)
    assert seen.all()


def test_contact_sheet_has_photo_render_and_difference():
    photo, render = torch.full((3, 20, 30), 0.5), torch.full((3, 20, 30), 0.4)
    sheet = contact_sheet([Row("wide", photo, render), Row("näher", photo[:, :, :10], photo[:, :, :10])])
    assert sheet.shape == (3, 2 * (20 + LABEL_PX), 90)
    assert sheet[:, :LABEL_PX].amax() > 0.5  # something is written there
    first, second = sheet[:, LABEL_PX : LABEL_PX + 20], sheet[:, -20:]
    for part, value in ((first[..., :30], 0.5), (first[..., 30:60], 0.4), (first[..., 60:], 0.3)):
        torch.testing.assert_close(part, torch.full_like(part, value))
    assert not second[..., 20:].any()  # equal pictures, then nothing


def test_means_are_over_scenes_and_spreads_over_seeds(capsys):
    table = SparseTable("Title", exact=True)
    table.add(Outcome("a", 3, "sparse3d", ({"psnr": 20.0}, {"psnr": 22.0})))
    table.add(Outcome("b", 3, "sparse3d", ({"psnr": 25.0}, {"psnr": 23.0}), left_out=1))
    table.add(Outcome("c", 3, "sparse3d", ()))
    table.means()
    cells = [line.split(" | ")[:4] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert cells[1] == ["| a", "3", "sparse3d", "21.00 ± 1.41"]  # root of 2
    assert cells[2] == ["| b", "3 (2 placed)", "sparse3d", "24.00 ± 1.41"]
    assert cells[3] == ["| c", "3", "sparse3d", "-"]
    assert cells[4] == ["| mean of 2 of 3, 1 incomplete", "3", "sparse3d", "22.50 ± 0.00"]


def test_a_set_without_split_says_what_is_needed(tmp_path):
    with pytest.raises(SystemExit, match="split.json"):
        folds_of(tmp_path, 3)
    (tmp_path / "split.json").write_text('{"test": ["a.jpg"], "train3": ["b.jpg", "c.jpg", "d.jpg"]}')
    assert folds_of(tmp_path, 9) == []

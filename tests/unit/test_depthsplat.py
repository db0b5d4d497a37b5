"""Parts of DepthSplat that formulas and other forms can judge, and mistakes. Its numbers are held to goldens in tests/parity."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from support.noise_views import noise_views
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.init import depthsplat
from sparse3d.init.networks.checkpoints import read_state
from sparse3d.init.networks.depthsplat.gaussians import published_gaussians
from sparse3d.init.networks.depthsplat.layout import PRIORS, Layout, layout_of
from sparse3d.init.networks.depthsplat.matching import candidates_around, match_pixels, neighbours, uniform_candidates
from sparse3d.init.networks.depthsplat.network import DepthSplat
from sparse3d.init.networks.depthsplat.vit import VisionTransformer
from sparse3d.init.networks.mvsplat.encoder import cost_volume
from sparse3d.init.networks.pairs import Answer, predict_pairs
from sparse3d.models.registry import REGISTRY, HubFile
from sparse3d.progress import StageReporter
from sparse3d.types import View

QUIET = StageReporter("init")


def cameras_at(*places: float) -> Tensor:
    """Cameras along the x axis, all looking ahead. (V, 4, 4)"""
    c2w = torch.eye(4).repeat(len(places), 1, 1)
    c2w[:, 0, 3] = torch.tensor(places)
    return c2w


def shapes(layout: Layout) -> dict[str, Tensor]:
    with torch.device("meta"):
        return DepthSplat(layout).state_dict()


# Matching ------------------------------------------------------------------------------------------------------------


def test_views_are_matched_with_all_of_three_and_with_the_two_nearest_of_more():
    assert neighbours(cameras_at(0, 1)) == [[1], [0]]
    assert neighbours(cameras_at(0, 5, 1)) == [[1, 2], [0, 2], [0, 1]]  # in order, not by distance
    assert neighbours(cameras_at(0, 5, 1, 7)) == [[2, 1], [3, 2], [0, 1], [1, 2]]
    assert all(view not in of for view, of in enumerate(neighbours(cameras_at(2, 2, 2, 2, 9))))


def test_candidates_are_even_in_inverse_depth_and_stay_in_the_range():
    near, far = 0.5, 100.0
    planes = uniform_candidates(near, far, 128, torch.zeros(0))
    torch.testing.assert_close(planes[[0, -1]], torch.tensor([1 / far, 1 / near]))
    torch.testing.assert_close(planes.diff(), torch.full((127,), (2 - 0.01) / 127))
    estimate = torch.tensor([1.0, 0.02, 1.99]).reshape(1, 1, 1, 3)
    step = 0.01
    found = candidates_around(estimate, near, far, step, 32)[0, :, 0]  # (32, 3)
    torch.testing.assert_close(found[:, 0], 1 + step * torch.arange(-16.0, 16))
    torch.testing.assert_close(found[[0, -1], 1], torch.tensor([1 / far, 0.02 + 15 * step]))
    torch.testing.assert_close(found[[0, -1], 2], torch.tensor([1.99 - 16 * step, 1 / near]))
    for column in found.T:
        torch.testing.assert_close(column.diff(), column.diff().mean().expand(31), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_candidates_of_each_pixel_cost_what_planes_cost(dtype):
    """The same depths for all pixels: the sweep over planes, compiled in float32, must agree."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4, 8, 10, 14, generator=generator).to(dtype)
    _, c2w, K = (value.to(dtype) for value in noise_views(4, 40, 56))
    K[2, 0, 0] *= 1.2  # a view through another lens
    planes = uniform_candidates(0.5, 50.0, 9, features)
    pairs = neighbours(c2w)
    per_pixel = planes[:, None, None].expand(4, 9, 10, 14)
    want = cost_volume(features, c2w, K, 1 / planes, pairs)
    torch.testing.assert_close(match_pixels(features, c2w, K, pairs, per_pixel), want, rtol=1e-4, atol=1e-4)
    assert (want != 0).float().mean() > 0.3


def test_what_lies_behind_the_other_camera_costs_nothing():
    c2w = cameras_at(0, 0)
    c2w[1, 2, 3] = 2.0  # two units ahead of the first
    K = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).expand(2, 3, 3)
    disparities = torch.tensor([1 / 1.5, 1 / 4])[:, None, None].expand(2, 2, 6, 6)
    found = match_pixels(torch.ones(2, 4, 6, 6), c2w, K, [[1], [0]], disparities)
    assert found[0, 0].eq(0).all() and found[0, 1, 2:4, 2:4].eq(2).all()  # 4 channels of 1 over the square root of 4


# Gaussians -----------------------------------------------------------------------------------------------------------


def test_depth_is_z_and_scales_do_not_grow_with_it():
    depths = torch.tensor([2.0, 8.0]).reshape(2, 1, 1, 1).expand(2, 3, 5, 1)
    K = torch.tensor([[0.8, 0, 0.5], [0, 0.9, 0.5], [0, 0, 1]]).expand(2, 3, 3)
    raw = torch.zeros(2, 3, 5, 36)
    raw[..., 4] = 9.0  # the third scale
    made = published_gaussians(raw, depths, torch.full_like(depths, 0.5), cameras_at(0, 3), K, largest=0.1)
    torch.testing.assert_close(made.means[..., 2], depths)
    torch.testing.assert_close(made.means[:, 1, 2, 0, :2], torch.tensor([[0.0, 0], [3, 0]]))  # the middle pixel
    small = math.log1p(math.exp(-4))  # softplus of no scale at all
    torch.testing.assert_close(made.scales[..., 0, :], torch.tensor([small, small, 0.1]).expand(2, 3, 5, 3))


def test_position_code_fits_any_image():
    network = VisionTransformer(64, 1, (0,))
    assert network._positions(37, 37) is network.pos_embed
    with torch.no_grad():
        network.pos_embed[:, 0], network.pos_embed[:, 1:] = 1.0, 2.0
    code = network._positions(18, 41)
    assert code.shape == (1, 1 + 18 * 41, 64) and code[:, 0].eq(1).all()
    torch.testing.assert_close(code[:, 1:], torch.full((1, 18 * 41, 64), 2.0))


def test_groups_of_views_are_run_once_and_each_view_is_kept_where_its_best_are():
    """Five views in a row; each looks at its neighbours. Answers carry the group's number as their depth."""
    asked: list[int] = []

    def ask(images: Tensor, c2w: Tensor, K: Tensor, near: float, far: float) -> Answer:
        asked.append(len(images))
        pixels = (len(images), 32, 32)
        depths = torch.full((*pixels, 1), float(len(asked)))
        return Answer(torch.zeros(*pixels, 36), depths, torch.full_like(depths, 0.5), torch.ones(pixels), 1.0)

    images, c2w, K = noise_views(5, 32, 32)
    K = K * torch.tensor([32.0, 32, 1])[:, None]
    views = [View(f"{i}.png", images[i], K[i], c2w[i]) for i in range(5)]
    sources = [[1, 2, 3], [0, 2], [1, 3], [4, 2], []]
    found = predict_pairs(
        views, sources, [(1.0, 9.0)] * 5, (32, 32), ask, QUIET, at_once=3, publish=published_gaussians
    )
    assert asked == [3, 3, 3]  # 0 1 2 for views 0 and 1, 1 2 3, and 2 3 4
    torch.testing.assert_close(found.depths[:, 0, 0], torch.tensor([1.0, 1, 2, 3, 0]))
    assert len(found.gaussians) == 4 * 32 * 32 and "4.png" in found.notes[0]


# Checkpoints and mistakes --------------------------------------------------------------------------------------------


def test_registry_and_training_agree_with_the_names_of_the_files():
    """A file's name tells size, number of views and the beginning of its checksum."""
    rows = {name: model for name, model in REGISTRY.items() if name.startswith("depthsplat-")}
    assert set(rows) == set(depthsplat.TRAININGS)
    for name, model in rows.items():
        assert isinstance(model.source, HubFile)
        told = re.fullmatch(
            r"depthsplat-gs-(small|base|large)-\w+-(\d+)x(\d+)-(?:rand)?view(?:\d+-)?(\d+)-([0-9a-f]{8}).pth",
            model.source.path,
        )
        assert told is not None
        training = depthsplat.TRAININGS[name]
        assert training.size == (int(told[2]), int(told[3])) and training.views == int(told[4])
        assert told[5] in model.notes[0] and model.commercial == (told[1] == "small") and not model.verified


def test_other_weights_are_refused():
    small = Layout(PRIORS[384], scales=1, coarsest=4)
    depth_only = {name: value for name, value in shapes(small).items() if name.startswith("depth_predictor.")}
    for state in ({}, depth_only, {"depth_predictor.backbone.conv1.weight": torch.zeros(1)}):
        with pytest.raises(
            UserError, match=r"weights of x are not of a DepthSplat that predicts Gaussians.*models list"
        ):
            layout_of(state, "of x")
    strange = {**shapes(small), "feature_upsampler.concat_projects.0.weight": torch.zeros(48, 48 + 80, 1, 1)}
    with pytest.raises(UserError, match="a layout that was not published"):
        layout_of(strange, "of x")


@pytest.mark.parametrize(
    ("coarsest", "multiple", "size", "fitting"), [(4, 16, (40, 64), "32 x 64"), (8, 32, (80, 112), "64 x 128")]
)
def test_sizes_that_the_network_cannot_take_are_refused(monkeypatch, coarsest, multiple, size, fitting):
    state = shapes(Layout(PRIORS[384], scales=1, coarsest=coarsest))
    monkeypatch.setattr(depthsplat, "read_state", lambda path, optional: state)
    with pytest.raises(UserError, match=rf"needed multiples of {multiple} of at least 32\. Use {fitting}"):
        depthsplat.predict([], Path("x.pth"), [], [], QUIET, size=size)


def test_a_single_view_is_refused():
    with torch.device("meta"):
        network = DepthSplat(Layout(PRIORS[384], scales=1, coarsest=4))
    with pytest.raises(ValueError, match="needed at least 2 views and sides that are multiples of 16"):
        network(torch.zeros(1, 3, 32, 32), torch.eye(4)[None], torch.eye(3)[None], 0.5, 100.0)


def test_tensors_at_the_top_of_a_file_are_read(tmp_path):
    file = tmp_path / "top.pth"
    torch.save({"encoder.a": torch.ones(2)}, file)
    assert set(read_state(file, optional=True)) == {"a"}
    with pytest.raises(UserError, match="no entry 'state_dict'"):
        read_state(file)
    torch.save({"state_dict": {"encoder.b": torch.ones(2)}, "a": torch.ones(1)}, file)
    assert set(read_state(file, optional=True)) == {"b"}

"""Layers of one photo: nothing stretched over edges, a background behind them, the sky far away."""

from __future__ import annotations

import pytest
import torch

from sparse3d.init.initialization import Origin
from sparse3d.lift.layers import SHELL, layers, lifted
from sparse3d.metrics.image import psnr
from sparse3d.render import Look, drawer
from sparse3d.types import Cameras, View

SIZE, FOCAL, NEAR, FAR = 96, 90.0, 1.0, 2.0
RED, BLUE = torch.tensor([0.8, 0.2, 0.1]), torch.tensor([0.1, 0.3, 0.8])


def card(sky: bool = False) -> tuple[View, torch.Tensor]:
    """A red card at depth 1 before a blue wall at 2; the sky instead of its upper quarter."""
    depth = torch.full((SIZE, SIZE), FAR)
    depth[32:64, 32:64] = NEAR
    image = BLUE[:, None, None].expand(3, SIZE, SIZE).clone()
    image[:, 32:64, 32:64] = RED[:, None, None]
    if sky:
        depth[:24], image[:, :24] = torch.inf, 1.0
    K = torch.tensor([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]])
    return View("photo", image, K, torch.eye(4)), depth


def moved(view: View, by: float) -> Cameras:
    c2w = torch.eye(4)
    c2w[0, 3] = by
    return Cameras(c2w[None], view.K[None], SIZE, SIZE)


def test_the_background_goes_on_as_far_as_the_camera_will_see_and_no_farther():
    view, depth = card()
    travel = 0.2
    gained = FOCAL * travel * (1 / NEAR - 1 / FAR)  # 9 pixels
    found = layers(view, depth, travel)
    behind = found.behind > 0
    assert torch.equal(found.front, depth)
    assert torch.allclose(found.behind[behind], torch.tensor(FAR), rtol=1e-3)
    rows = behind[48].nonzero().flatten()
    assert rows.min() == 32 and rows.max() == 63
    inner = torch.arange(SIZE)[~behind[48] & (depth[48] == NEAR)]
    assert abs(int(inner.min()) - (32 + gained)) <= 1.5 and abs(int(inner.max()) - (63 - gained)) <= 1.5
    assert not behind[depth == FAR].any()
    assert torch.allclose(found.behind_color[:, behind], BLUE[:, None], atol=0.02)


def test_what_mixes_two_surfaces_is_dropped_and_has_the_background():
    view, depth = card()
    depth[32:64, 31] = depth[32:64, 64] = 4 / 3  # midway in inverse depth, as resized depth maps have it
    found = layers(view, depth, 0.1)
    assert (found.front[34:62, 31] == 0).all() and (found.front[34:62, 64] == 0).all()
    assert torch.allclose(found.behind[34:62, 31], torch.tensor(FAR), rtol=0.02)


def test_slanted_surfaces_are_not_cut():
    view, _ = card()
    rows = torch.arange(SIZE) + 0.5
    ground = (FOCAL / (rows - 10).clamp(min=12)).expand(SIZE, SIZE).T.contiguous()
    found = layers(view, ground, 0.2)
    assert torch.equal(found.front[30:], ground[30:]) and (found.behind[30:] == 0).all()


def test_the_photo_is_seen_again_and_a_moved_camera_sees_the_wall_behind():
    view, depth = card()
    start = lifted(view, layers(view, depth, 0.2))
    draw = drawer(start.gaussians, Look((0.0, 0.0, 0.0), False, 0.01), "auto")
    assert psnr(draw(moved(view, 0.0)).image[0], view.image) > 25  # its edges are as soft as splats of a pixel are
    for by in (-0.2, 0.2):
        seen = draw(moved(view, by))
        picture, alpha = seen.image[0], seen.alpha[0].reshape(SIZE, SIZE)
        edge = int(FOCAL * 0.2 / FAR) + 2  # beyond the photo's border nothing is known
        inside = slice(edge, SIZE - edge)
        assert float(alpha[4:-4, inside].min()) > 0.9
        shift = round(-by * FOCAL / NEAR)
        true = BLUE[:, None, None].expand(3, SIZE, SIZE).clone()
        true[:, 32:64, 32 + shift : 64 + shift] = RED[:, None, None]
        assert psnr(picture[:, 4:-4, inside], true[:, 4:-4, inside]) > 24


def test_the_sky_is_a_shell_behind_everything_and_every_gaussian_says_where_it_is_from():
    view, depth = card(sky=True)
    found = layers(view, depth, 0.1)
    assert (
        (found.sky[:24] == pytest.approx(SHELL * FAR)) and (found.sky[24:] == 0).all() and (found.front[:24] == 0).all()
    )
    start = lifted(view, found)
    z = start.gaussians.means[:, 2]
    assert (z[start.origin == Origin.GUESSED] > 2 * FAR).all() and (start.origin == Origin.GUESSED).sum() == 24 * SIZE
    assert (z[start.origin == Origin.PREDICTED] < 1.1 * FAR).all() and (start.origin == Origin.FILLED).any()


def test_a_flat_picture_has_one_layer():
    view, depth = card()
    found = layers(view, torch.full_like(depth, 3.0), 1.0)
    assert (found.behind == 0).all() and (found.sky == 0).all() and (found.front == 3).all()

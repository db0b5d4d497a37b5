"""A lifted photo grown outwards: what is new is added, where it belongs, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.synthetic import Plane, pictured, pinhole

from sparse3d.config import Config, load_config
from sparse3d.init.initialization import Origin
from sparse3d.lift.depth import PhotoDepth
from sparse3d.lift.grow import Grown, grow, unseen
from sparse3d.lift.layers import layers, lifted
from sparse3d.metrics.image import psnr
from sparse3d.priors.base import PriorCaps, Provenance, ViewQuery, ViewSamples
from sparse3d.priors.classical import Classical
from sparse3d.progress import StageReporter
from sparse3d.render import Look, drawer

SIZE, DISTANCE, RADIUS = (48, 64), 4.0, 0.6
WALL = [Plane((0.0, 0.0, 1.0), DISTANCE)]


class Truth:
    """Draws the wall as it is."""

    def __init__(self, frames: int = 1, wrong: bool = False) -> None:
        self.caps = PriorCaps("truth", "none", True, None, 1, (1, frames, 1), 1, frozenset({"cameras"}))
        self.wrong, self.asked = wrong, list[ViewQuery]()

    def generate(self, query, *, strength=1.0, steps=None, on_step=None):
        self.asked.append(query)
        cameras = query.target_cams
        pictures = [
            pictured("x", c2w, K, (cameras.height, cameras.width), WALL)[0].image
            for c2w, K in zip(cameras.c2w, cameras.K, strict=True)
        ]
        rgb = torch.stack(pictures)
        rgb = 1 - rgb if self.wrong else rgb
        return ViewSamples(rgb, torch.ones_like(rgb[:, :1]), Provenance("truth", None, "none", query.seed, 1))


class Network:
    """Knows depth but for gain and offset of its inverse."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, image: torch.Tensor, focal: float | None) -> PhotoDepth:
        self.seen += 1
        return PhotoDepth(torch.full(image.shape[1:], 7.0), False, "a test", "none")


def settings(views: int = 6) -> Config:
    config = load_config()
    return replace(config, lift=replace(config.lift, views=views, stride=1))


@pytest.fixture(scope="module")
def wall():
    view, depth = pictured("photo", torch.eye(4), pinhole(*SIZE), SIZE, WALL)
    made = layers(view, depth, RADIUS)
    return view, made, lifted(view, made)


def grown(wall, prior, network=None, views: int = 6) -> Grown:
    view, made, start = wall
    options = {"radius": RADIUS, "distance": DISTANCE, "depth_of": network, "progress": StageReporter("test")}
    return grow(view, made, start, prior, settings(views), **options)


def test_what_is_added_lies_around_the_photo_on_the_wall(wall):
    view, _, start = wall
    found = grown(wall, Truth())
    assert found.added == len(found.start) - len(start) > 500
    assert len(found.densified.views) == 7  # one of them the wider view
    added = found.start.gaussians.means[len(start) :]
    assert torch.allclose(added[:, 2], torch.full((found.added,), DISTANCE), rtol=0.02)
    pixels = added @ view.K.T / added[:, 2:]
    inside = (pixels[:, :2] > 1).all(1) & (pixels[:, :2] < torch.tensor([SIZE[1] - 1.0, SIZE[0] - 1.0])).all(1)
    assert float(inside.float().mean()) < 0.02
    assert set(found.start.origin[len(start) :].tolist()) == {int(Origin.FILLED)}


def test_the_scene_shows_from_beside_what_was_drawn(wall):
    found = grown(wall, Truth())
    c2w = torch.eye(4)
    c2w[0, 3] = RADIUS
    there, _ = pictured("there", c2w, pinhole(*SIZE), SIZE, WALL)
    look = Look((0.5, 0.5, 0.5), False, 0.01)
    before = psnr(drawer(wall[2].gaussians, look)(there.cameras).image[0], there.image)
    after = psnr(drawer(found.start.gaussians, look)(there.cameras).image[0], there.image)
    assert after > before + 3


def test_what_contradicts_the_photo_is_left_out(wall):
    found = grown(wall, Truth(wrong=True))
    assert found.added == 0 and not found.densified.views
    assert all("agrees with the photos" in verdict.why_not for verdict in found.densified.verdicts)


def test_pictures_are_drawn_one_by_one_and_know_what_was_drawn_before(wall):
    prior = Truth()
    grown(wall, prior)
    assert [len(query) for query in prior.asked] == [1] * 7
    wider, last = prior.asked[0], prior.asked[-1]
    assert wider.render_conf is not None and last.render_conf is not None
    assert float((wider.render_conf < 0.5).float().mean()) > 0.4  # all around the photo
    assert float((last.render_conf < 0.5).float().mean()) < 0.05  # the wider view has shown it, but for seams


def test_a_prior_of_videos_gets_a_path_that_begins_with_the_photo(wall):
    prior = Truth(frames=16)
    found = grown(wall, prior, views=6)
    (query,) = prior.asked
    assert len(query) == 7 and query.ordered and query.known.tolist() == [True] + [False] * 6
    assert torch.equal(query.render_rgb[0], wall[0].image)
    assert found.added > 100


def test_a_networks_depth_is_brought_to_the_scene(wall):
    network = Network()
    found = grown(wall, Truth(), network)
    assert network.seen >= 1
    assert torch.allclose(found.start.gaussians.means[len(wall[2]) :, 2], torch.tensor(DISTANCE), rtol=0.03)


def test_the_same_seed_gives_the_same_scene(wall):
    first, second = grown(wall, Classical()), grown(wall, Classical())
    assert all(
        torch.equal(a, b) for a, b in zip(first.start.gaussians.values(), second.start.gaussians.values(), strict=True)
    )


def test_the_share_that_the_photo_does_not_show_is_that_of_a_shifted_wall(wall):
    view, made, _ = wall
    # eight cameras on an ellipse that look at the middle of the wall lose a margin of it; none from the photo's own place
    near, far = unseen(view, made, 1e-4, DISTANCE), unseen(view, made, RADIUS, DISTANCE)
    assert near < 0.03 < far < 0.35
    assert unseen(view, made, 2 * RADIUS, DISTANCE) > far

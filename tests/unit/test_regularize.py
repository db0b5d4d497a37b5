"""A prior that takes part in the optimization: that it helps, resumes, and is done without when it fails."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from support.gaussian_prior import GaussianLora, GaussianScore
from support.synthetic import Plane, pictured, textured_plane

from sparse3d.config import load_config
from sparse3d.densify.densify import Plan
from sparse3d.densify.frontier import is_behind
from sparse3d.densify.known import Known
from sparse3d.errors import UserError
from sparse3d.geometry import project
from sparse3d.init.depth_map import DepthMap
from sparse3d.init.fusion import flat_gaussians
from sparse3d.init.surfels import surfels
from sparse3d.optimize.loop import optimize
from sparse3d.pipeline.regularizer import regularizer_with, views_to_ask_for
from sparse3d.priors.base import Provenance, ViewQuery, ViewSamples
from sparse3d.priors.classical import Classical
from sparse3d.priors.names import regularizing
from sparse3d.progress import Event, StageReporter
from sparse3d.render import rasterizer
from sparse3d.types import Gaussians

SIZE = (36, 48)
WALL = Plane((-0.4, 0.0, 1.0), 4.0)  # that of textured_plane
CONFIG = load_config(
    "balanced",
    [
        "optimize.steps=40",
        "optimize.sh_interval=10",
        "optimize.checkpoint_interval=10",
        "regularize.kind=refresh",
        "regularize.views=4",
        "regularize.every=8",
        "regularize.weight=1",
        "regularize.share=0.5",
        "regularize.interval=2",
    ],
)


def setting(**changes):
    return replace(CONFIG, regularize=replace(CONFIG.regularize, **changes))


class Painter:
    """Draws the plane as it is, until it is told to do something else."""

    caps = replace(Classical.caps, name="painter", score=True)

    def __init__(self, change=lambda rgb, query, call: rgb, trainable: bool = False) -> None:
        self.change, self.call = change, 0
        self.lora = GaussianLora(torch.full((1, 3, *SIZE), 0.5), 0.1) if trainable else None

    def generate(self, query: ViewQuery, *, strength=1.0, steps=None, on_step=None) -> ViewSamples:
        self.call += 1
        rgb = self.change(truth(query), query, self.call)
        return ViewSamples(rgb, torch.ones_like(rgb[:, :1]), Provenance("painter", None, "none", query.seed, 1))

    def bind(self, query: ViewQuery) -> GaussianScore:
        score = GaussianScore(truth(query), 0.1)
        score.learned = self.lora  # one for all questions
        return score


def truth(query: ViewQuery) -> torch.Tensor:
    cameras = query.target_cams
    made = [
        pictured("", c2w, K, (cameras.height, cameras.width), [WALL])
        for c2w, K in zip(cameras.c2w, cameras.K, strict=True)
    ]
    return torch.stack([view.image for view, _ in made])


def first_gaussians() -> Gaussians:
    """Of the plane as the photos show it."""
    posed, depths = textured_plane(*SIZE)
    nowhere = torch.zeros(SIZE, dtype=torch.bool)
    maps = [
        DepthMap(v, d, torch.ones(SIZE), nowhere.long(), nowhere, 8.0) for v, d in zip(posed.views, depths, strict=True)
    ]
    return flat_gaussians(surfels(maps[1], 2))


@cache
def planned(views: int) -> Plan:
    """The views that are asked for, which do not depend on what else a test sets."""
    posed, depths = textured_plane(*SIZE)
    return views_to_ask_for(Known.of(posed.views, depths), Painter(), setting(views=views))


def fit(prior=None, config=CONFIG, said=None, **options) -> tuple[Gaussians, dict]:
    posed, depths = textured_plane(*SIZE)
    progress = StageReporter("optimize", (said if said is not None else []).append)
    known = Known.of(posed.views, depths)
    regularizer = None
    if prior is not None:
        regularizer = regularizer_with(prior, known, planned(config.regularize.views), config, progress)
    arguments = {
        "generator": torch.Generator().manual_seed(0),
        "progress": progress,
        "regularizer": regularizer,
    } | options
    fitted = optimize(first_gaussians(), posed.views, config.optimize, rasterizer("cpu"), **arguments).gaussians
    return fitted, {} if regularizer is None else regularizer.facts()


def same(a: Gaussians, b: Gaussians) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


@pytest.mark.parametrize("kind", ["refresh", "sds", "sample"])
def test_a_prior_that_knows_the_plane_uncovers_it_where_no_photo_looked(kind):
    """New Gaussians lie outside of all photos, on the plane; without the prior there are none."""
    found, facts = fit(Painter(), setting(kind=kind))
    assert facts["added"] > 20 and facts["failed"] is None and facts["calls"] > 0 and facts["kind"] == kind
    new = found.means[outside(found.means)]
    assert len(new) > 20 > int(outside(fit()[0].means).sum())
    assert (new[:, 2] - 4 - 0.4 * new[:, 0]).abs().median() < 0.25


def outside(points: torch.Tensor) -> torch.Tensor:
    """Which points no photo has in its picture, with two pixels around."""
    seen = torch.zeros(len(points), dtype=torch.bool)
    for view in textured_plane(*SIZE)[0].views:
        pixels, z = project(points, view.cameras.w2c[0], view.K)
        seen |= (z > 0) & ((pixels > -2) & (pixels < torch.tensor([SIZE[1] + 2.0, SIZE[0] + 2.0]))).all(1)
    return ~seen


def raises(rgb, query, call):
    if call > 4:
        raise RuntimeError("CUDA out of memory")
    return rgb


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rgb, query, call: rgb * torch.nan, "values that are not numbers"),
        (lambda rgb, query, call: rgb[:, :, ::2], "pictures of shape"),
        (raises, "CUDA out of memory"),
    ],
)
def test_a_prior_that_fails_is_done_without_and_named(change, says):
    said: list[Event] = []
    found, facts = fit(Painter(change), said=said)
    warnings = [event.message for event in said if event.kind == "warning"]
    assert (
        len(warnings) == 1 and says in warnings[0] and "goes on without it" in warnings[0] and says in facts["failed"]
    )
    assert said[-1].current == CONFIG.optimize.steps and found.means.isfinite().all()
    if "CUDA" not in says:  # it failed at once: the scene is that of the photos
        assert same(found, fit()[0])


@pytest.mark.parametrize("kind", ["sds", "vsd", "sdi", "sample"])
def test_a_score_that_fails_moves_nothing(kind, monkeypatch):
    monkeypatch.setattr(GaussianScore, "predict_x0", lambda self, z, t, idx, guidance=None: z * torch.nan)
    said: list[Event] = []
    fitted, facts = fit(Painter(trainable=True), setting(kind=kind), said)
    assert "not numbers" in facts["failed"] and fitted.means.isfinite().all()
    assert sum(event.kind == "warning" for event in said) == 1


def test_what_a_prior_hands_back_as_it_was_given_says_nothing():
    same_again, facts = fit(Painter(lambda rgb, query, call: query.render_rgb))
    assert facts["refreshes"] > 2 and same(same_again, fit()[0])


def test_views_that_photos_speak_against_are_left_out():
    noise = lambda rgb, query, call: torch.rand(rgb.shape, generator=torch.Generator().manual_seed(call))
    found, facts = fit(Painter(noise))
    assert facts["left_out"] > 8 and facts["added"] == 0 and same(found, fit()[0])


@pytest.mark.parametrize("kind", ["refresh", "sds", "vsd"])
def test_a_resumed_run_ends_at_the_same_scene(kind, tmp_path):
    class Stopped(Exception):
        pass

    def stop(step: int, gaussians: Gaussians) -> None:
        if step == 27:  # between two refreshes, after a checkpoint
            raise Stopped

    config, file = setting(kind=kind), tmp_path / "checkpoint"
    whole, facts = fit(Painter(trainable=True), config)
    with pytest.raises(Stopped):
        fit(Painter(trainable=True), config, checkpoint=file, key="k", on_step=stop)
    steps: list[int] = []
    resumed, again = fit(
        Painter(trainable=True), config, checkpoint=file, key="k", on_step=lambda step, _: steps.append(step)
    )
    assert steps[0] == 21 and same(whole, resumed) and facts["failed"] is None
    assert again | {"seconds": 0} == facts | {"seconds": 0}


def test_calls_of_each_kind_are_counted():
    """Steps by scores come after a tenth of the 40 steps, every second: 4, 6, ... 38."""
    calls = {
        kind: fit(Painter(trainable=True), setting(kind=kind))[1]["calls"] for kind in ("sds", "sdi", "vsd", "sample")
    }
    assert calls == {"sds": 18, "sdi": 11 * 18, "vsd": 3 * 18, "sample": 10 * 18}


def test_pixels_and_latents_are_the_same_space_where_there_is_no_encoder():
    latent, pixel = (fit(Painter(), setting(kind="sds", space=space))[0] for space in ("latent", "pixel"))
    torch.testing.assert_close(latent.means, pixel.means, rtol=0, atol=1e-4)


def test_vsd_without_a_low_rank_addition_says_what_to_take():
    with pytest.raises(UserError, match="painter takes none. Take --regularizer sds or sample, or another --prior"):
        fit(Painter(), setting(kind="vsd"))


def test_no_view_is_asked_for_from_behind_the_wall():
    posed, depths = textured_plane(*SIZE)
    known = Known.of(posed.views, depths)
    cameras = planned(16).c2w
    assert len(cameras) == 16 and not any(is_behind(c2w[:3, 3], known) for c2w in cameras)


def test_who_takes_part():
    assert regularizing(CONFIG).prior == "classical"
    named = replace(CONFIG, densify=replace(CONFIG.densify, prior="inpaint"))
    assert regularizing(named).prior == "inpaint"
    assert regularizing(replace(named, regularize=setting(kind="vsd").regularize)).prior == "inpaint"
    with pytest.raises(
        UserError,
        match="--regularizer sds needs a prior with a score, and classical has none.*inpaint, seva|--regularizer sds needs",
    ):
        regularizing(setting(kind="sds"))

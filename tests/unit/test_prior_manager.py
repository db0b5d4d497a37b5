"""How a question of any size reaches a prior that takes little, and how its answers come back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sparse3d.priors.base import OnStep, PriorCaps, Provenance, Stopped, ViewQuery, ViewSamples
from sparse3d.priors.manager import chunks, draw, fitted_to
from sparse3d.types import Cameras


def caps(**changes) -> PriorCaps:
    whole = PriorCaps("echo", "none", True, None, 8, (1, 1, 1), 2, frozenset({"render"}), verified=True)
    return replace(whole, **changes)


class Echo:
    """Answers with its renders where they are trusted and the number of the call elsewhere; keeps its questions."""

    def __init__(self, of: PriorCaps) -> None:
        self.caps, self.asked = of, []

    def generate(self, query: ViewQuery, *, strength=1.0, steps=None, on_step: OnStep | None = None) -> ViewSamples:
        self.asked.append(query)
        if on_step is not None and not on_step(1, 1):
            raise Stopped
        assert query.render_rgb is not None and query.render_conf is not None
        mine = torch.full_like(query.render_rgb, 0.1 * len(self.asked))
        rgb = torch.where(query.render_conf > 0.5, query.render_rgb, mine)
        return ViewSamples(rgb, torch.full_like(rgb[:, :1], 0.5), Provenance("echo", None, "none", query.seed, calls=3))


def cameras(count: int, height: int, width: int) -> Cameras:
    c2w = torch.eye(4).repeat(count, 1, 1)
    c2w[:, 0, 3] = torch.arange(count)
    K = torch.tensor([[50.0, 0, width / 2], [0, 50.0, height / 2], [0, 0, 1]])
    return Cameras(c2w, K.expand(count, 3, 3), height, width)


def question(targets: int, photos: int = 2, height: int = 16, width: int = 24) -> ViewQuery:
    generator = torch.Generator().manual_seed(1)
    return ViewQuery(
        cond_rgb=torch.rand(photos, 3, height, width, generator=generator),
        cond_cams=cameras(photos, height, width),
        target_cams=cameras(targets, height, width),
        render_rgb=torch.rand(targets, 3, height, width, generator=generator),
        render_conf=torch.zeros(targets, 1, height, width),
        seed=7,
    )


@pytest.mark.parametrize("count", [1, 4, 5, 6, 9, 25, 48])
@pytest.mark.parametrize("frames", [(1, 1, 1), (5, 81, 4), (25, 25, 1), (1, 20, 1), (3, 7, 2)])
@pytest.mark.parametrize("ordered", [False, True])
def test_chunks_cover_every_view_once_and_have_lengths_that_the_prior_takes(count, frames, ordered):
    parts = chunks(count, caps(frames=frames), ordered)
    assert [i for part in parts for i in part.new] == list(range(count))
    fewest, most, step = frames
    for number, part in enumerate(parts):
        assert fewest <= len(part.index) <= most and (len(part.index) - fewest) % step == 0
        assert part.again == (1 if ordered and most > 1 and number > 0 else 0)
        assert part.index[: part.again] == parts[number - 1].new[-1:][: part.again]
        assert all(i == part.index[-1] for i in part.index[part.again + len(part.new) :])


def test_the_size_keeps_the_shape_near_what_the_prior_was_trained_at():
    assert fitted_to(caps(multiple=16, pixels=480 * 832), 378, 504) == (544, 736)
    assert fitted_to(caps(multiple=1), 378, 504) == (378, 504)
    assert fitted_to(caps(multiple=64), 20, 300) == (64, 320)


def test_a_path_goes_on_from_the_last_view_of_the_call_before():
    prior = Echo(caps(frames=(3, 3, 1)))
    answer = draw(prior, question(5))
    assert [len(asked) for asked in prior.asked] == [3, 3]
    handed = prior.asked[1]
    assert handed.render_conf is not None and handed.render_conf[0].min() == 1 and handed.render_conf[1:].max() == 0
    assert torch.allclose(handed.render_rgb[0], torch.full((3, 16, 24), 0.1))
    assert torch.allclose(answer.rgb[:3], torch.tensor(0.1)) and torch.allclose(answer.rgb[3:], torch.tensor(0.2))
    assert len({asked.seed for asked in prior.asked}) == 2 and answer.meta.calls == 6 and answer.meta.seed == 7


def test_known_targets_come_back_as_they_are():
    asked = question(3)
    asked.render_conf[1] = 1.0
    answer = draw(Echo(caps(multiple=32)), asked)
    assert torch.equal(answer.rgb[1], asked.render_rgb[1]) and answer.conf[1].min() == 1 and answer.conf[0].max() <= 0.5


def test_pictures_are_resized_with_their_intrinsics_and_back():
    prior = Echo(caps(multiple=32))
    answer = draw(prior, question(2, height=20, width=40))
    got = prior.asked[0]
    assert got.cond_rgb.shape[2:] == (32, 32) and answer.rgb.shape == (2, 3, 20, 40)
    assert torch.allclose(got.target_cams.K[0], torch.tensor([[40.0, 0, 16], [0, 80, 16], [0, 0, 1]]))


def test_only_the_photos_nearest_to_the_targets_are_given():
    prior = Echo(caps(max_cond=2))
    asked = question(1, photos=5)
    shifted = asked.target_cams.c2w.clone()
    shifted[:, 0, 3] = 2.8
    draw(prior, replace(asked, target_cams=replace(asked.target_cams, c2w=shifted)))
    assert prior.asked[0].cond_cams.c2w[:, 0, 3].tolist() == [2.0, 3.0]


def test_drawing_can_be_stopped_and_counts_calls_over_all_chunks():
    told = []

    def on_step(done: int, total: int) -> bool:
        told.append((done, total))
        return len(told) < 2

    with pytest.raises(Stopped):
        draw(Echo(caps()), question(3), on_step=on_step)
    assert told == [(1, 3), (2, 3)]


@pytest.mark.parametrize("wrong", ["size", "nan"])
def test_a_prior_that_answers_wrongly_is_named(wrong):
    class Broken(Echo):
        def generate(self, query, **options):
            good = super().generate(query, **options)
            rgb = good.rgb[:, :, 1:] if wrong == "size" else torch.full_like(good.rgb, torch.nan)
            return ViewSamples(rgb, good.conf[:, :, 1:] if wrong == "size" else good.conf, good.meta)

    with pytest.raises(ValueError, match="prior echo answered with"):
        draw(Broken(caps()), question(1))


def test_a_question_checks_itself():
    with pytest.raises(ValueError, match="belong together"):
        replace(question(1), render_conf=None)
    with pytest.raises(ValueError, match="render_rgb has shape"):
        replace(question(2), render_rgb=torch.zeros(1, 3, 16, 24))
    with pytest.raises(ValueError, match="no targets"):
        draw(Echo(caps()), question(2).targets(torch.zeros(0, dtype=torch.long)))

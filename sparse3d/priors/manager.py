"""Asks a prior for any number of views of any size: cuts the question into what the prior can take, and puts the answers together."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.priors.base import (
    BoundScore,
    OnStep,
    PriorCaps,
    Provenance,
    ScorePrior,
    ViewPrior,
    ViewQuery,
    ViewSamples,
)
from sparse3d.types import Cameras

_SEED_STEP = 1_000_003  # between the seeds of two calls


@dataclass(frozen=True)
class Chunk:
    """Targets that are drawn in one call."""

    index: tuple[int, ...]  # of the targets, in order; the last one again and again where the prior wants more
    again: int  # the first so many were drawn by the call before, which hands them on

    @property
    def new(self) -> tuple[int, ...]:
        """Targets that no earlier chunk had."""
        return tuple(dict.fromkeys(self.index[self.again :]))


def chunks(count: int, caps: PriorCaps, ordered: bool) -> list[Chunk]:
    """Which targets to draw together.

    Chunks of a path overlap by one view, which the next call gets as known: so it goes on from there. They are as few as
    possible and about equally long; the last is filled up by its last view.

    Args:
        count: Targets, at least one.
        caps: `frames`: fewest, most, step.
        ordered: Neighbours in the list are neighbours in space; otherwise nothing is handed on.
    """
    most = caps.frames[1]
    again = 1 if ordered and most > 1 else 0
    if count <= most:
        return [_filled(range(count), 0, caps)]
    calls = math.ceil((count - again) / (most - again))
    parts, start = [], 0
    for call in range(calls):
        first = max(0, start - again) if call else 0
        stop = count if call == calls - 1 else again + round((call + 1) * (count - again) / calls)
        parts.append(_filled(range(first, stop), start - first, caps))
        start = stop
    return parts


def _filled(index: Sequence[int], again: int, caps: PriorCaps) -> Chunk:
    fewest, most, step = caps.frames
    length = fewest + step * math.ceil(max(0, len(index) - fewest) / step)
    return Chunk((*index, *[index[-1]] * (min(length, most) - len(index))), again)


def fitted_to(caps: PriorCaps, height: int, width: int) -> tuple[int, int]:
    """The size to draw at: about the pixels that the prior was trained at, the same shape, multiples of what it needs."""
    scale = math.sqrt(caps.pixels / (height * width)) if caps.pixels else 1.0
    return tuple(max(caps.multiple, caps.multiple * round(side * scale / caps.multiple)) for side in (height, width))  # type: ignore[return-value]


def draw(
    prior: ViewPrior,
    query: ViewQuery,
    *,
    strength: float = 1.0,
    steps: int | None = None,
    on_step: OnStep | None = None,
) -> ViewSamples:
    """All targets of a query, whatever the prior can take at once.

    Args:
        prior: Who draws.
        query: Of any size and number of targets and photos. Of more photos than the prior takes, those nearest to the targets of
            a call are given. Targets that are known (`query.known`) come back as they are.
        strength, steps: As of `ViewPrior.generate`.
        on_step: Told (calls done, calls in all) over all calls of the prior as far as they are known; False stops.

    Returns:
        Of the query's size and order.

    Raises:
        Stopped: `on_step` said so.
        ValueError: no targets, or the prior answers with another number or size of pictures, or with nan.
    """
    if len(query) == 0:
        raise ValueError("the query has no targets; ask for at least one view")
    began, caps = time.monotonic(), prior.caps
    height, width = query.target_cams.height, query.target_cams.width
    size = fitted_to(caps, height, width)
    parts = chunks(len(query), caps, query.ordered)
    rgb, conf = torch.zeros(len(query), 3, *size), torch.zeros(len(query), 1, *size)
    resized, calls = _resized(query, *size), 0
    for number, part in enumerate(parts):
        asked = resized.targets(torch.tensor(part.index)).nearest_photos(caps.max_cond)
        asked = replace(asked, seed=query.seed + _SEED_STEP * number)
        if part.again:
            asked = _handed_on(asked, part, rgb)
        answer = prior.generate(asked, strength=strength, steps=steps, on_step=_counted(on_step, number, len(parts)))
        _check(answer, len(part.index), size, caps.name)
        for place, target in enumerate(part.index):
            if place >= part.again:
                rgb[target], conf[target] = answer.rgb[place].cpu(), answer.conf[place].cpu()
        calls += answer.meta.calls
    back, trust = _scaled(rgb, height, width), _scaled(conf, height, width)
    if query.render_rgb is not None:
        back[query.known], trust[query.known] = query.render_rgb[query.known], 1.0
    meta = Provenance(caps.name, caps.weights, caps.licence, query.seed, calls, time.monotonic() - began)
    return ViewSamples(back.clamp(0, 1), trust.clamp(0, 1), meta)


@dataclass(frozen=True)
class Clip:
    """Targets whose score is asked for together, or one by one."""

    score: BoundScore
    cameras: Cameras  # of the size that the prior takes
    pictures: bool  # each for itself; False: a video, of which all are asked for


def bound(prior: ScorePrior, query: ViewQuery) -> list[Clip]:
    """The score of all targets, whatever the prior can take at once, with the conditions encoded.

    Args:
        prior: Whose score.
        query: Of any size and number of targets and photos, as of `draw`.
    """
    caps = prior.caps
    resized = _resized(query, *fitted_to(caps, query.target_cams.height, query.target_cams.width))
    clips = []
    for part in chunks(len(query), caps, query.ordered):
        asked = resized.targets(torch.tensor(part.index)).nearest_photos(caps.max_cond)
        clips.append(Clip(prior.bind(asked), asked.target_cams, caps.frames[0] == 1))
    return clips


def _counted(on_step: OnStep | None, number: int, parts: int) -> OnStep | None:
    """Calls counted over all chunks, each supposed to take as many as this one."""
    if on_step is None:
        return None
    return lambda done, total: on_step(number * total + done, parts * total)


def _handed_on(asked: ViewQuery, part: Chunk, drawn: Tensor) -> ViewQuery:
    """The question with the views that were drawn already as known renders."""
    rgb = torch.zeros(len(asked), *drawn.shape[1:]) if asked.render_rgb is None else asked.render_rgb.clone()
    conf = torch.zeros(len(asked), 1, *drawn.shape[2:]) if asked.render_conf is None else asked.render_conf.clone()
    for place in range(part.again):
        rgb[place], conf[place] = drawn[part.index[place]], 1.0
    return replace(asked, render_rgb=rgb, render_conf=conf)


def _resized(query: ViewQuery, height: int, width: int) -> ViewQuery:
    """The question at another size, intrinsics with it."""
    if (query.target_cams.height, query.target_cams.width) == (height, width):
        return query

    def scaled(values: Tensor | None) -> Tensor | None:
        return None if values is None else _scaled(values, height, width)

    def nearest(values: Tensor | None) -> Tensor | None:
        return None if values is None else F.interpolate(values, (height, width), mode="nearest-exact")

    return replace(
        query,
        cond_rgb=_scaled(query.cond_rgb, height, width),
        cond_cams=query.cond_cams.scaled_to(height, width),
        target_cams=query.target_cams.scaled_to(height, width),
        render_rgb=scaled(query.render_rgb),
        render_conf=scaled(query.render_conf),
        render_depth=nearest(query.render_depth),
        cond_depth=nearest(query.cond_depth),
    )


def _scaled(values: Tensor, height: int, width: int) -> Tensor:
    if values.shape[2:] == (height, width):
        return values
    return F.interpolate(values, (height, width), mode="bilinear", antialias=True).clamp(0, 1)


def _check(answer: ViewSamples, count: int, size: tuple[int, int], name: str) -> None:
    shape = (count, 3, *size)
    if tuple(answer.rgb.shape) != shape:
        raise ValueError(f"prior {name} answered with pictures of shape {tuple(answer.rgb.shape)}, asked for {shape}")
    if not (answer.rgb.isfinite().all() and answer.conf.isfinite().all()):
        raise ValueError(f"prior {name} answered with values that are not numbers")

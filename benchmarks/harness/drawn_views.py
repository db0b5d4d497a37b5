"""One scene with or without drawn views."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness.oracle import Noise, Oracle
from sparse3d.config import Config
from sparse3d.densify.densify import Densified, densify, plan
from sparse3d.densify.known import Known
from sparse3d.densify.weights import with_drawn, with_steps
from sparse3d.init.initialization import Initialization, Origin
from sparse3d.metrics.protocol import evaluate_views, mean_scores
from sparse3d.optimize.loop import look_of, optimize
from sparse3d.priors.base import ViewPrior
from sparse3d.priors.classical import Classical
from sparse3d.progress import StageReporter
from sparse3d.render import drawer, rasterizer
from sparse3d.types import PosedViews, View


@dataclass(frozen=True)
class Outcome:
    """Of one run."""

    scores: dict[str, float]
    densified: Densified | None
    seconds: tuple[float, float]  # densification, optimization
    gaussians: int


def prior_of(name: str) -> ViewPrior | None:
    """None for "none"."""
    if name == "none":
        return None
    if name.startswith("oracle"):
        return Oracle(float(name.removeprefix("oracle") or 0))
    return {"classical": Classical, "noise": Noise}[name]()


def run(
    training: PosedViews, test: Sequence[View], first: Initialization, prior: ViewPrior | None, config: Config
) -> Outcome:
    """One scene, with or without drawn views."""
    began, densified = time.monotonic(), None
    generator = torch.Generator().manual_seed(config.seed)
    if prior is not None:
        known = Known.of([found.view for found in first.maps], [found.depth for found in first.maps])
        size = (known.views[0].height, known.views[0].width)
        planned = plan(known, size, prior.caps, config.densify, generator)
        densified = densify(training, known, planned, prior, config, StageReporter("densify"))
        first = densified.first or first
    drawn, split = () if densified is None else densified.views, time.monotonic()
    views = (*training.views, *drawn)
    fit = optimize(
        first.gaussians,
        views,
        with_steps(config.optimize, len(drawn), config.densify.share),
        rasterizer(config.renderer),
        generator=torch.Generator().manual_seed(config.seed),
        progress=StageReporter("optimize"),
        guessed=first.start.origin == int(Origin.GUESSED),
        weights=with_drawn((1.0,) * len(training.views), len(drawn), config.densify.share),
    )
    ended = time.monotonic()
    scores = mean_scores(
        evaluate_views(drawer(fit.gaussians, look_of(views, config.optimize), config.renderer), tuple(test))
    )
    return Outcome(scores, densified, (split - began, ended - split), len(fit.gaussians))

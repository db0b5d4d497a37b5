"""Densification with a prior that knows the truth and with one that knows nothing, measured on photos of the example room."""

from __future__ import annotations

import torch
from harness.drawn_views import prior_of, run
from harness.room import room

from sparse3d.config import load_config
from sparse3d.densify.accept import REPEATS
from sparse3d.init.initialize import initialize
from sparse3d.progress import StageReporter

CONFIG = load_config(
    "balanced",
    [
        "init.max_size=252",
        "optimize.steps=900",
        "optimize.opacity_decay=0.9933",
        "optimize.guess_decay=0.995",
        "densify.views=20",
    ],
)


def test_a_perfect_prior_gains_decibels_and_noise_costs_none():
    """The oracle draws by the ray caster that made the photos. Held out are the five photos beside the three in the middle."""
    training, test = room(3, 252, CONFIG)
    first = initialize(training, CONFIG.init, StageReporter("init"), torch.Generator().manual_seed(0))
    none, oracle, noise = (run(training, test, first, prior_of(name), CONFIG) for name in ("none", "oracle", "noise"))
    assert oracle.densified is not None and noise.densified is not None
    assert {verdict.why_not for verdict in oracle.densified.verdicts} <= {"", REPEATS}
    assert oracle.densified.first is not None and noise.densified.views == ()
    assert oracle.scores["psnr"] >= none.scores["psnr"] + 3, (oracle.scores, none.scores)
    assert noise.scores["psnr"] >= none.scores["psnr"] - 0.2, (noise.scores, none.scores)

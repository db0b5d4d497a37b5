"""Tiny training data: scenes of few pixels, made once for all tests."""

from __future__ import annotations

from pathlib import Path

from sparse3d.progress import StageReporter
from sparse3d.train.data import DataPlan, make_scenes
from sparse3d.train.pairs import PairPlan, make_pairs

TINY = DataPlan(scenes=3, views=4, height=64, width=96, shard=2, seed=5)


def tiny_scenes(folder: Path) -> Path:
    """Two shards with three scenes of four photos of 96x64."""
    make_scenes(TINY, folder, 1, StageReporter("data"))
    return folder


def tiny_pairs(scenes: Path, folder: Path) -> Path:
    """Pairs of them, all by warps."""
    plan = PairPlan(targets=2, optimized=0.0, height=64, width=96, seed=3)
    make_pairs([scenes], [], plan, folder, 1, StageReporter("pairs"))
    return folder

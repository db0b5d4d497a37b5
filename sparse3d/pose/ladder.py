"""From photos to cameras: cheap matching first, learned matching where that is not enough, rescue of photos left over.

Each rung adds matches to those of the rungs before it and solves anew; the best solution of all rungs is taken. A rung
runs only when photos are still without a camera, or held weakly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

from sparse3d.config import PoseConfig
from sparse3d.pose.budget import Budget
from sparse3d.pose.correspondences import Correspondences, Pair, union
from sparse3d.pose.focal import RATIOS, start_ratios
from sparse3d.pose.guess import predict, predicted_model
from sparse3d.pose.intrinsics import first_cameras, fixed_cameras
from sparse3d.pose.matching import Matcher, is_there, matcher
from sparse3d.pose.solve import Solution, solve
from sparse3d.pose.turns import find_turns
from sparse3d.pose.uncertainty import open_focals
from sparse3d.progress import StageReporter
from sparse3d.types import Photo

_FEW = 16  # photos up to which every pair is worth a learned matcher
_PARTNERS = 10  # photos that a left-over one is compared with when there are more
_SETTLED = 150  # agreeing SIFT matches with which a pair needs no learned ones
_WELL_HELD = 80  # agreeing matches with each of two partners, with which a photo is held well
_LEARNED = ("aliked", "disk", "xfeat")  # best first


@dataclass(frozen=True)
class Climb:
    """Where the ladder ended."""

    solution: Solution
    correspondences: Correspondences
    rungs: tuple[str, ...]  # that were tried, in order
    max_error_px: float


def climb(photos: Sequence[Photo], config: PoseConfig, seed: int, progress: StageReporter) -> Climb:
    """The best cameras that the photos' own matches give.

    Args:
        photos: V >= 2.
        config: Matchers, thresholds and time limit.
        seed: Of all RANSACs.
        progress: Told each rung, and what is missing.
    """
    state = _Ladder(photos, config, seed, progress)
    for name in matcher_names(config, progress):
        if not state.is_satisfied:
            state.add(name, state.pairs_worth(name), {})
    if config.matchers == "auto" and state.left_over:
        state.rescue()
    return Climb(state.solution, state.correspondences, tuple(state.rungs), state.max_error_px)


def matcher_names(config: PoseConfig, progress: StageReporter) -> tuple[str, ...]:
    """The matchers that the settings name; for "auto", SIFT and then the best learned one that is on this machine."""
    if config.matchers != "auto":
        return tuple(config.matchers.split("+"))
    learned = next((name for name in _LEARNED if is_there(name)), None)
    if learned is None:
        progress.note(
            "the learned matchers are not on this machine, so SIFT goes alone; photos far apart may stay without a "
            "camera. Get them once with: sparse3d models fetch matchers"
        )
    return ("sift", learned or "sift-affine")


class _Ladder:
    def __init__(self, photos: Sequence[Photo], config: PoseConfig, seed: int, progress: StageReporter) -> None:
        self.photos, self.config, self.seed, self.progress = photos, config, seed, progress
        self.budget = Budget(config.time_limit_s)
        longest = max(max(photo.image.shape[1:]) for photo in photos)
        self.max_error_px = config.max_error * longest
        self.parts: list[Correspondences] = []
        self.correspondences = Correspondences.none(len(photos))
        self.rungs: list[str] = []
        self.matchers: dict[str, Matcher] = {}
        self.solution = Solution(None, {}, {}, (), {})
        self.predicted = None if config.network == "none" else predict(photos, config, progress)

    @property
    def left_over(self) -> list[int]:
        return [i for i in range(len(self.photos)) if i not in self.solution.placed]

    @property
    def is_satisfied(self) -> bool:
        """Every photo has a camera that many matches with two others hold (with the other one, of two)."""
        if self.left_over:
            return False
        partners = dict.fromkeys(range(len(self.photos)), 0)
        for pair, link in self.solution.links.items():
            for view in pair if link.count >= _WELL_HELD else ():
                partners[view] += 1
        return min(partners.values()) >= min(2, len(self.photos) - 1)

    def pairs_worth(self, name: str) -> list[Pair]:
        """All pairs for the first matcher; for others, those that are not settled yet."""
        everything = list(combinations(range(len(self.photos)), 2))
        if not self.parts or name.startswith("sift"):
            return everything
        settled = {pair for pair, link in self.solution.links.items() if link.count >= _SETTLED}
        if len(self.photos) <= _FEW:
            return [pair for pair in everything if pair not in settled]
        near: set[Pair] = set()
        for view in self.left_over:
            own = [pair for pair in everything if view in pair]
            by_matches = sorted(own, key=lambda pair: -self.correspondences.count(pair))
            in_order = sorted(own, key=lambda pair: pair[1] - pair[0])
            near.update(by_matches[: _PARTNERS // 2] + in_order[: _PARTNERS // 2])
        return sorted(near - settled)

    def add(self, name: str, pairs: Sequence[Pair], turns: dict[int, int], rescue: bool = False) -> None:
        """One rung: more matches, and the best solution with all that there are."""
        if not pairs or (self.rungs and self.budget.is_over):
            return
        if name not in self.matchers:
            self.matchers[name] = matcher(name, self.config)
        self.parts.append(self.matchers[name].match(self.photos, pairs, self.progress, turns))
        self.correspondences = union(self.parts)
        self.rungs.append(name)
        self.progress.note(f"placing photos by the matches of {' + '.join(dict.fromkeys(self.rungs))}")
        for start in start_ratios(self.photos, self.correspondences, self.config, self.max_error_px, self.seed):
            found = self._solve(start)
            # more matches agree more: what is added for photos left over counts only if it places one of them
            if len(found.placed) > len(self.solution.placed) or not (rescue and self.solution.placed):
                self.solution = max(found, self.solution, key=lambda solution: solution.rank)  # the first of equals
            if self.solution.placed:
                return

    def _solve(self, start: float) -> Solution:
        """The best solution from a focal length; from that of an ordinary camera, held, where the matches leave it open."""
        cameras: list[Any] = first_cameras(self.photos, self.config.shared_camera, start)
        fixed = fixed_cameras(self.photos, cameras)
        found = self._solve_with(cameras, fixed)
        if found.model is None:
            return found
        loose = open_focals(found.model, cameras, self.max_error_px / 2, fixed)
        if not loose:
            return found
        cameras = first_cameras(self.photos, self.config.shared_camera, RATIOS[0])
        held = self._solve_with(cameras, (*fixed, *loose))
        return held if len(held.placed) >= len(found.placed) else found

    def _solve_with(self, cameras: list[Any], fixed: Sequence[int]) -> Solution:
        return solve(
            self.correspondences,
            cameras,
            self.config,
            max_error_px=self.max_error_px,
            fixed=fixed,
            seed=self.seed,
            budget=Budget(min(self.budget.left_s + 5.0, self.config.time_limit_s)),
            start=None if self.predicted is None else partial(predicted_model, cameras, self.predicted),
        )

    def rescue(self) -> None:
        """Photos left over are looked at turned, with another matcher, and by SIFT that knows affine shape."""
        learned = next((name for name in _LEARNED if name in self.rungs), None)
        if learned is not None and self.solution.placed and len(self.left_over) <= _FEW // 2:
            turns = find_turns(self.photos, self.left_over, sorted(self.solution.placed), self.config, self.progress)
            if turns:
                names = ", ".join(self.photos[view].name for view in turns)
                self.progress.note(f"{names}: looked at turned by a quarter or more, as matches ask for")
                self.add(learned, self._across(set(turns)), turns, rescue=True)
            other = next((name for name in reversed(_LEARNED) if name not in self.rungs and is_there(name)), None)
            if other is not None:
                self.add(other, self._across(set(self.left_over)), turns, rescue=True)
        if len(self.photos) <= _FEW and "sift-affine" not in self.rungs:
            left = set(self.left_over)
            pairs = [pair for pair in combinations(range(len(self.photos)), 2) if left & set(pair)]
            self.add("sift-affine", pairs, {}, rescue=True)

    def _across(self, views: set[int]) -> list[Pair]:
        """Pairs of these views with placed ones."""
        placed = self.solution.placed
        return [(min(v, other), max(v, other)) for v in sorted(views - placed) for other in sorted(placed)]

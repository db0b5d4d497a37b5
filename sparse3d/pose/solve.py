"""The best reconstruction that given matches allow: several attempts, each refined, judged and cut to what holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sparse3d.config import PoseConfig
from sparse3d.io._pycolmap import pycolmap
from sparse3d.pose.budget import Budget
from sparse3d.pose.correspondences import Correspondences, Pair
from sparse3d.pose.judge import Link, cameras, links, poses, total_gain
from sparse3d.pose.mapping import Problem, global_mapping, incremental
from sparse3d.pose.refine import refine
from sparse3d.pose.two_view import TwoView, verify
from sparse3d.pose.uncertainty import settle_focal

_FIRST_PAIRS = 3  # pairs that a reconstruction is started from, besides the one that COLMAP chooses
_FEW = 16  # photos up to which the global mapper is asked too
_TRICKY = 4  # photos up to which every attempt is made: two of them may agree with a wrong pose of a third


@dataclass(frozen=True)
class Solution:
    """A reconstruction whose views all hold, or none at all."""

    model: Any | None  # pycolmap.Reconstruction; image names as of mapping.image_name
    links: Mapping[Pair, Link]  # of its views
    pairs: Mapping[Pair, TwoView]  # verified, of all photos
    cameras: Sequence[Any]  # of all photos, as they were at the start
    dropped: Mapping[int, str]  # views that were registered and not believed, and why

    @property
    def placed(self) -> frozenset[int]:
        """Indices of the photos with a camera."""
        return frozenset() if self.model is None else frozenset(poses(self.model))

    @property
    def rank(self) -> tuple[int, float]:
        """More views are better, then more agreement with the matches."""
        return len(self.placed), total_gain(self.links)


def solve(
    correspondences: Correspondences,
    first: Sequence[Any],
    config: PoseConfig,
    *,
    max_error_px: float,
    fixed: Sequence[int],
    seed: int,
    budget: Budget,
    start: Callable[[], Any] | None = None,
) -> Solution:
    """Cameras for as many photos as the matches hold up.

    Args:
        correspondences: Of V photos.
        first: V pycolmap cameras with first guesses of the intrinsics.
        config: Thresholds.
        max_error_px: Distance to the epipolar line up to which a match agrees.
        fixed: Camera ids whose intrinsics are known.
        seed: Of all RANSACs.
        budget: Attempts stop when it is used up; the best so far comes back.
        start: Gives a reconstruction without points whose poses are a first guess, to be tried before all others.
    """
    # verified twice as wide as judged: the focal length is a guess still, and a pair left out here is lost
    pairs = verify(
        correspondences,
        first,
        max_error_px=2 * max_error_px,
        min_inliers=config.min_inliers,
        min_ratio=config.min_ratio,
        seed=seed,
    )
    problem = Problem(correspondences, first, pairs, fixed)
    best = Solution(None, {}, pairs, first, {})
    seen: list[tuple[frozenset[int], float]] = []  # views and gain of models that were refined
    for attempt in [*([start] if start else []), *_attempts(problem, config, seed, budget)]:
        if budget.is_over and best.placed:
            break
        model = attempt()
        if model is None or model.num_reg_images() < 2:
            continue
        key = frozenset(poses(model)), total_gain(links(model, correspondences, 2 * max_error_px))
        if any(views == key[0] and abs(gain - key[1]) < 0.02 * gain for views, gain in seen):
            continue
        seen.append(key)
        model = refine(
            model,
            correspondences,
            first,
            config,
            max_error_px=max_error_px,
            fixed=fixed,
            rough=attempt is start,
            seed=seed,
        )
        held = hold(model, correspondences, problem, config, max_error_px, fixed, seed)
        best = max(best, held, key=lambda solution: solution.rank)
        if len(first) > _TRICKY and len(best.placed) == len(first) and _explains(best):
            break
    return best


def _explains(solution: Solution) -> bool:
    """Whether about all matches that agree pair by pair agree with the whole, so that nothing better is left to find."""
    pairwise = sum(len(two.inliers) for two in solution.pairs.values())
    return sum(link.count for link in solution.links.values()) >= 0.85 * pairwise


def _attempts(problem: Problem, config: PoseConfig, seed: int, budget: Budget) -> list[Callable[[], Any | None]]:
    """From the pair that COLMAP likes best, from the ones with most inliers at a useful angle, and globally."""
    general = {pair: two for pair, two in problem.pairs.items() if two.kind == "general"}
    if not problem.pairs:
        return []
    worth = sorted(general, key=lambda pair: -len(general[pair].inliers) * min(general[pair].angle_deg / 5, 1.0))
    starts: list[Pair | None] = [None, *worth[: _FIRST_PAIRS if len(problem.cameras) > 2 else 0]]
    attempts: list[Callable[[], Any | None]] = [
        partial(incremental, problem, start, config, seed, budget.left_s) for start in starts
    ]
    if 2 < len(problem.cameras) <= _FEW:
        attempts.append(partial(global_mapping, problem, config, seed))
    return attempts


def hold(
    model: Any,
    correspondences: Correspondences,
    problem: Problem,
    config: PoseConfig,
    max_error_px: float,
    fixed: Sequence[int],
    seed: int,
) -> Solution:
    """The part of a reconstruction that holds together (`largest_held`), refined anew without the rest."""
    dropped: dict[int, str] = {}
    while True:
        of = links(model, correspondences, max_error_px)
        group = largest_held(of, set(poses(model)), config)
        lost = set(poses(model)) - (group if len(group) > 1 else set())
        for view in lost:
            count = sum(link.count for pair, link in of.items() if view in pair)
            dropped[view] = f"the pose that was found for it is held by too few matches ({count})"
        nothing = Solution(None, {}, problem.pairs, problem.cameras, dropped)
        if len(group) < 2:
            return nothing
        if not lost:
            settle_focal(model, problem.cameras, max_error_px / 2, fixed)
            if not all(_is_plausible(camera, config) for camera in cameras(model).values()):
                return nothing
            return Solution(model, links(model, correspondences, max_error_px), problem.pairs, problem.cameras, dropped)
        model = without(model, lost)
        model = refine(
            model, correspondences, problem.cameras, config, max_error_px=max_error_px, fixed=fixed, seed=seed
        )


def largest_held(of: Mapping[Pair, Link], views: set[int], config: PoseConfig) -> set[int]:
    """The largest group of views that grows together under one rule: two groups hold each other when the matches
    between them agree with the reconstruction in sufficient number, sureness and share.

    Where photos do not overlap, matchers still give matches, and some pose explains a part of them. Such a pose shows
    between groups, not within a pair: one pair agrees by a few unsure matches, and all other pairs across are against it.
    Groups merge in the order of how surely they hold each other, starting from single views.
    """
    groups = [{view} for view in sorted(views)]
    while True:
        best, sure = None, 0.0
        for i, first in enumerate(groups):
            for second in groups[i + 1 :]:
                across = [
                    link for (a, b), link in of.items() if (a in first) != (b in first) and {a, b} <= first | second
                ]
                if hold_each_other(across, config) and sum(link.sure for link in across) > sure:
                    best, sure = (first, second), sum(link.sure for link in across)
        if best is None:
            return max(groups, key=len, default=set())
        groups.remove(best[1])
        best[0].update(best[1])


def hold_each_other(across: Sequence[Link], config: PoseConfig) -> bool:
    """Whether the matches between two groups of views are enough to hold them together."""
    count = sum(link.count for link in across)
    putative = sum(len(link.consistent) for link in across)
    return (
        count >= config.min_inliers
        and count >= config.min_held * putative
        and sum(link.sure for link in across) >= config.min_sure
    )


def without(model: Any, views: set[int]) -> Any:
    """The reconstruction without some of its views."""
    model = pycolmap().Reconstruction(model)
    for image in list(model.reg_image_ids()):
        if image - 1 in views:
            model.deregister_frame(model.image(image).frame_id)
    return model


def _is_plausible(camera: Any, config: PoseConfig) -> bool:
    ratio = camera.mean_focal_length() / max(camera.width, camera.height)
    return bool(1 / config.max_focal_ratio <= ratio <= config.max_focal_ratio)

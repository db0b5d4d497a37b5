"""Photos that lie on their side: learned features know no rotation, and EXIF does not always tell it."""

from __future__ import annotations

from collections.abc import Sequence

from sparse3d.config import PoseConfig
from sparse3d.pose.correspondences import Pair
from sparse3d.pose.matching import is_there, matcher
from sparse3d.progress import StageReporter
from sparse3d.types import Photo

_PARTNERS = 3  # photos that a turned one is compared with
_TIMES = 1.6  # as many sure matches as upright, for a turn to be believed
_LEAST = 20.0  # sum of scores that a turn needs


def find_turns(
    photos: Sequence[Photo], views: Sequence[int], others: Sequence[int], config: PoseConfig, progress: StageReporter
) -> dict[int, int]:
    """Quarters counterclockwise by which some of the views have to be turned to match others.

    The cheapest matcher is asked (XFeat); without its weights no turn is found.

    Args:
        photos: All of them.
        views: Indices to ask for.
        others: Indices of photos whose orientation is taken as right.
    """
    if not is_there("xfeat") or not others:
        return {}
    cheap = matcher("xfeat", config)
    step = max(1, len(others) // _PARTNERS)
    found = {}
    for view in views:
        pairs: list[Pair] = [(min(view, other), max(view, other)) for other in others[::step][:_PARTNERS]]
        sure = []
        for turn in range(4):
            scores = cheap.match(photos, pairs, progress, {view: turn}).scores
            sure.append(max(float(score.sum()) for score in scores.values()))
        best = max(range(4), key=sure.__getitem__)
        if best and sure[best] >= max(_LEAST, _TIMES * sure[0]):
            found[view] = best
    return found

"""Keypoints of a set of photos and which of them are the same point: what matchers give and mapping takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Pair = tuple[int, int]  # indices of two photos, the lower one first


@dataclass(frozen=True)
class Correspondences:
    """Putative matches between V photos, not yet checked against any geometry."""

    keypoints: tuple[np.ndarray, ...]  # V of (N, 2) float64, pixels of the photo, pixel centres at +0.5
    matches: Mapping[Pair, np.ndarray]  # (M, 2) indices of keypoints in the lower and in the higher photo
    scores: Mapping[Pair, np.ndarray]  # (M,) how sure the matcher is of each, in [0, 1]

    def __post_init__(self) -> None:
        for (a, b), matched in self.matches.items():
            if not 0 <= a < b < len(self.keypoints):
                raise ValueError(f"there is no pair ({a}, {b}) of {len(self.keypoints)} photos, lower index first")
            if matched.ndim != 2 or matched.shape[1] != 2:
                raise ValueError(f"matches of pair ({a}, {b}) have shape {matched.shape}, needed (M, 2)")
            if (a, b) not in self.scores or self.scores[a, b].shape != matched.shape[:1]:
                raise ValueError(f"pair ({a}, {b}) needs one score for each of its {len(matched)} matches")

    @staticmethod
    def none(photos: int) -> Correspondences:
        """No keypoints and no matches."""
        return Correspondences(tuple(np.zeros((0, 2)) for _ in range(photos)), {}, {})

    def points(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """The matched positions in both photos. (M, 2), (M, 2)"""
        matched = self.matches[pair]
        return self.keypoints[pair[0]][matched[:, 0]], self.keypoints[pair[1]][matched[:, 1]]

    def count(self, pair: Pair) -> int:
        """Matches of a pair, 0 for one that was not compared."""
        return len(self.matches.get(pair, ()))


def union(parts: Sequence[Correspondences]) -> Correspondences:
    """All matches of several matchers over the same photos; their keypoints stay apart.

    Raises:
        ValueError: they are about different numbers of photos, or there are none.
    """
    sizes = {len(part.keypoints) for part in parts}
    if len(sizes) != 1:
        raise ValueError(f"correspondences of {sorted(sizes)} photos cannot be joined")
    views = range(sizes.pop())
    start = [[0] * len(views)]  # of each part's keypoints in the joined ones
    for part in parts:
        start.append([start[-1][view] + len(part.keypoints[view]) for view in views])
    keypoints = tuple(np.concatenate([part.keypoints[view] for part in parts]) for view in views)
    pairs = sorted({pair for part in parts for pair in part.matches})
    matches = {
        (a, b): np.concatenate(
            [
                part.matches[a, b] + np.array([first[a], first[b]])
                for part, first in zip(parts, start, strict=False)
                if (a, b) in part.matches
            ]
        )
        for a, b in pairs
    }
    scores = {pair: np.concatenate([part.scores[pair] for part in parts if pair in part.matches]) for pair in pairs}
    return Correspondences(keypoints, matches, scores)

"""Matchers behind one protocol: photos in, putative matches between pairs of them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from sparse3d.config import PoseConfig
from sparse3d.errors import UserError
from sparse3d.models import store
from sparse3d.pose.correspondences import Correspondences, Pair
from sparse3d.progress import StageReporter
from sparse3d.types import Photo


class Matcher(Protocol):
    """Finds the same points in photos. An instance may remember the features of photos that it has seen."""

    name: str

    def match(
        self, photos: Sequence[Photo], pairs: Sequence[Pair], progress: StageReporter, turns: Mapping[int, int] = {}
    ) -> Correspondences:
        """Matches of the given pairs.

        Args:
            photos: V photos, lens distortion still in them.
            pairs: Indices into `photos`, the lower one first.
            progress: Told how far it is.
            turns: Photos to look at turned by so many quarters counterclockwise, for matchers that know no rotation.
                Keypoints come back in the photo as it is.
        """
        ...


def _sift(config: PoseConfig) -> Matcher:
    from sparse3d.pose.sift import Sift

    return Sift(config, thorough=False)


def _thorough_sift(config: PoseConfig) -> Matcher:
    from sparse3d.pose.sift import Sift

    return Sift(config, thorough=True)


def _kornia(name: str) -> Callable[[PoseConfig], Matcher]:
    def load(config: PoseConfig) -> Matcher:
        from sparse3d.pose.learned import KorniaMatcher

        return KorniaMatcher(name, config.learned_features)

    return load


def _hub(name: str) -> Callable[[PoseConfig], Matcher]:
    def load(config: PoseConfig) -> Matcher:
        from sparse3d.pose.hub import HubMatcher

        return HubMatcher(name, config.learned_features)

    return load


# name -> how to make it, weights that it needs
_MATCHERS: dict[str, tuple[Callable[[PoseConfig], Matcher], tuple[str, ...]]] = {
    "sift": (_sift, ()),
    "sift-affine": (_thorough_sift, ()),
    "aliked": (_kornia("aliked"), ("aliked-n16", "aliked-lightglue")),
    "disk": (_kornia("disk"), ("disk", "disk-lightglue")),
    "xfeat": (_kornia("xfeat"), ("xfeat", "xfeat-lighterglue")),
    "efficientloftr": (_hub("efficientloftr"), ("efficientloftr",)),
    "superpoint": (_hub("superpoint-lightglue"), ("superpoint-lightglue",)),
}


def matcher(name: str, config: PoseConfig) -> Matcher:
    """The matcher called `name`.

    Raises:
        UserError: no such matcher, or its weights are not on this machine.
    """
    if name not in _MATCHERS:
        raise UserError(f"unknown matcher {name!r}; choose from {', '.join(_MATCHERS)}")
    load, weights = _MATCHERS[name]
    for needed in weights:
        store.require(needed)
    return load(config)


def is_there(name: str) -> bool:
    """Whether all weights of a matcher are on this machine."""
    return all(store.path(needed) is not None for needed in _MATCHERS[name][1])

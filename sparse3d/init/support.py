"""How well the views support the scene: how much of it two of them see, and whether one of them speaks against the others.

It leaves each view out in turn and asks what the others, by themselves, say of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sparse3d.init.depth_map import DepthMap
from sparse3d.init.overlap import Overlap, Said, overlaps
from sparse3d.init.suspects import find_suspects

_LEANS = 0.2  # of half the picture: a mean place farther off the middle is a side


@dataclass(frozen=True)
class ViewSupport:
    """What becomes of the pixels of one view that its mask leaves; the three shares add up to 1 (to 0 where it leaves none)."""

    name: str
    twice: float  # another view sees the same surface there
    disputed: float  # others should see it too, and see something else or have no depth there
    once: float  # no other view sees it, or it has no depth: how far away it is is a guess
    side: str = ""  # where most of what it alone sees lies in its picture: left, right, top, bottom; empty: all over
    weight: float = 1.0  # in (0, 1]: 1 unless the view's camera evidently contradicts the others


@dataclass(frozen=True)
class Support:
    """How well views support the scene that they show."""

    views: tuple[ViewSupport, ...]
    once: float  # share of all pixels that only one view sees
    warnings: tuple[str, ...] = ()  # views whose cameras contradict the others, what was found, what to do

    @property
    def weights(self) -> tuple[float, ...]:
        """How much each view should count, in the order of `views`; in (0, 1]."""
        return tuple(view.weight for view in self.views)

    def sentence(self) -> str:
        """What the user should know of it."""
        return f"these {len(self.views)} photos see {100 * self.once:.0f} % of the scene only once; what only one photo sees is a guess in depth"


def support_of(maps: Sequence[DepthMap], tolerance: float) -> Support:
    """How well views support the scene.

    Args:
        maps: Depth maps with their views, at least two.
        tolerance: Relative difference of depths that still agree.

    Returns:
        The views in the order of `maps`.

    Raises:
        ValueError: fewer than two maps.
    """
    if len(maps) < 2:
        raise ValueError(f"support is what views have of each other, needed 2 or more depth maps, found {len(maps)}")
    seen = overlaps(maps, tolerance)
    suspects = {suspect.index: suspect for suspect in find_suspects(maps, seen)}
    views = []
    for index, (found, there) in enumerate(zip(maps, seen, strict=True)):
        weight = suspects[index].weight if index in suspects else 1.0
        views.append(ViewSupport(found.view.name, *_shares(there), _side(there), weight))
    pixels = [len(there.points) for there in seen]
    once = sum(view.once * count for view, count in zip(views, pixels, strict=True)) / max(1, sum(pixels))
    warnings = tuple(f"{maps[index].view.name}: {suspect.found}" for index, suspect in suspects.items())
    return Support(tuple(views), once, warnings)


def support_facts(support: Support) -> dict[str, Any]:
    """The same as plain values for scene.json: `once`, the `sentence`, and of each view its shares and weight."""
    views = {
        view.name: {
            "twice": round(view.twice, 4),
            "disputed": round(view.disputed, 4),
            "once": round(view.once, 4),
            "side": view.side,
            "weight": view.weight,
        }
        for view in support.views
    }
    return {"once": round(support.once, 4), "sentence": support.sentence(), "views": views}


def _side(there: Overlap) -> str:
    """The side of the picture that what only it sees leans to, by its mean place; empty where that is about the middle."""
    alone = ((there.said == Said.NOTHING) | (there.said == Said.HIDDEN)).all(dim=0)
    if not alone.any():
        return ""
    across, down = (2 * there.places[alone].mean(0) - 1).tolist()
    if max(abs(across), abs(down)) < _LEANS:
        return ""
    if abs(across) >= abs(down):
        return "right" if across > 0 else "left"
    return "bottom" if down > 0 else "top"


def _shares(there: Overlap) -> tuple[float, float, float]:
    """Of the pixels of a view: seen twice, disputed, seen once."""
    same = (there.said == Said.SAME).any(dim=0)
    asked = ((there.said == Said.OTHERWISE) | (there.said == Said.UNKNOWN)).any(dim=0)
    count = max(1, len(same))
    return float(same.sum()) / count, float((asked & ~same).sum()) / count, float((~asked & ~same).sum()) / count

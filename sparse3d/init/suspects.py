"""Views whose cameras the others speak against.

Each view is judged by the surfaces that the others agree on without it: it must see them too, or at least show the same picture there.
A wrong camera spoils the depth of the views that were matched with it as well, and two wrong ones may agree by accident on the few
pixels that are left; so what counts are pairs that agree on most of what they share, and how much of a view's picture they cover.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.geometry import fitted_size
from sparse3d.init.depth_map import DepthMap, sampled
from sparse3d.init.overlap import Overlap, Said
from sparse3d.types import View

# Measured as benchmarks/view_support.py does. Wrong on purpose were cameras of fern, fountain, fox and apartment_walk with 6 views, turned,
# moved, copied or swapped: all are below the first three numbers. No view of eight sets with its own camera is, 3 views or 6, where
# enough of it can be judged.
_HARDLY = 0.15  # share of what the others agree on that a view sees too; of wrong cameras up to 0.12
_LITTLE = 0.15  # share of a view's own pixels that another confirms; of wrong cameras up to 0.14
_ALIKE = 0.25  # correlation of pictures at the same points of the world; of wrong cameras up to 0.18
_JUDGED = 0.08  # of a view's pixels: with fewer that the others agree on it is not judged
_AGREE = 0.3  # share of what two views share, either way, from which they are said to agree
_ASIDE_DEG = 40.0  # between the rays of two views to a point: farther apart neither depth nor pictures need to match
_NOWHERE = 0.01  # share of what the others agree on that lies in a view's picture, below which it looks elsewhere
_DETAIL_SIZE = 128  # longer side at which pictures are compared, pixels: agreed depth may be off by 3 %
_DETAIL_WINDOW = 11  # pixels, odd
_WEIGHT = 0.1  # of a view whose camera is wrong
_ADVICE = "it counts for a tenth. Check its pose, or leave the photo out"


@dataclass(frozen=True)
class Suspect:
    """A view whose camera does not go with those of the others."""

    index: int
    weight: float  # what it should count for beside the others, in (0, 1]
    found: str  # what is wrong and what to do about it, without the view's name


def find_suspects(maps: Sequence[DepthMap], seen: Sequence[Overlap]) -> list[Suspect]:
    """Views with evidently wrong cameras; of two views both or none, for nobody can say which is wrong.

    Args:
        maps: V depth maps with their views.
        seen: What the views say of each other, of the same maps.
    """
    if len(maps) == 2:
        return _two(maps, seen)
    mutual = _mutual(seen)
    suspects = []
    for index in range(len(maps)):
        found = _judged(index, maps, seen, mutual)
        if found:
            suspects.append(Suspect(index, _WEIGHT, found))
    return suspects


def _judged(index: int, maps: Sequence[DepthMap], seen: Sequence[Overlap], mutual: Tensor) -> str:
    """What speaks against a view, an empty string for nothing."""
    pixels = max(1, len(seen[index].points))
    if float((seen[index].said == Said.SAME).any(dim=0).sum()) >= _LITTLE * pixels:
        return ""
    agreed = [_agreed_without(index, other, seen[other], mutual) for other in range(len(seen))]
    said = torch.cat([there.said[index][sure] for there, sure in zip(seen, agreed, strict=True)])
    if _elsewhere(said, agreed, seen[index]):
        return f"it sees nothing of what the others see; {_ADVICE}"
    beside = [sure & _beside(index, other, maps, seen[other]) for other, sure in enumerate(agreed)]
    said = torch.cat([there.said[index][sure] for there, sure in zip(seen, beside, strict=True)])
    share = float((said == Said.SAME).sum()) / max(1, len(said))
    if len(said) < _JUDGED * pixels or share >= _HARDLY or _likeness(index, maps, seen, beside) >= _ALIKE:
        return ""
    others = torch.cat([mutual[:index], mutual[index + 1 :]])
    typical = float(others[others >= _AGREE].median())
    return (
        f"its camera contradicts the others ({100 * share:.0f} % of what it shares with them agrees, they agree on {100 * typical:.0f} % with "
        f"each other); {_ADVICE}"
    )


def _elsewhere(said: Tensor, agreed: Sequence[Tensor], own: Overlap) -> bool:
    """Whether a view sees nothing of a scene that three others or more agree on, nor they of what it sees.

    Two that agree are not enough: they may well show one thing and the third another.
    """
    sees_nothing = int((said != Said.NOTHING).sum()) < _NOWHERE * len(said)
    return sees_nothing and sum(bool(sure.any()) for sure in agreed) >= 3 and not bool((own.said != Said.NOTHING).any())


def _beside(index: int, view: int, maps: Sequence[DepthMap], seen: Overlap) -> Tensor:
    """Which points of `view` lie in the picture of view `index` and are seen by both from about the same side. (P,) bool"""
    rays = [F.normalize(seen.points - maps[i].view.c2w[:3, 3], dim=1) for i in (index, view)]
    near = (rays[0] * rays[1]).sum(dim=1) > math.cos(math.radians(_ASIDE_DEG))
    return near & (seen.said[index] != Said.NOTHING)


def _two(maps: Sequence[DepthMap], seen: Sequence[Overlap]) -> list[Suspect]:
    """Both of two views where each has depth that the other should see and hardly any of it agrees."""
    judged = [said != Said.NOTHING for said in (seen[0].said[1], seen[1].said[0])]
    enough = all(int(shared.sum()) >= _JUDGED * max(1, shared.numel()) for shared in judged)
    shares = _agreeing(seen)
    share = float(torch.maximum(shares[0, 1], shares[1, 0]))
    if not enough or share >= _HARDLY:
        return []
    found = (
        "its camera contradicts that of {} ("
        + f"{100 * share:.0f} % of what they share agrees), and of two views nobody can say which "
        "is wrong. Check both poses, or add a photo"
    )
    return [Suspect(index, 1.0, found.format(maps[1 - index].view.name)) for index in range(2)]


def _agreeing(seen: Sequence[Overlap]) -> Tensor:
    """Of what view i shows and view j should see too, how much j has at the same place. (V, V), 0 where there is nothing"""
    same = torch.stack([(there.said == Said.SAME).sum(dim=1) for there in seen])
    shared = torch.stack([(there.said != Said.NOTHING).sum(dim=1) for there in seen])
    return same / shared.clamp(min=1)


def _mutual(seen: Sequence[Overlap]) -> Tensor:
    """How far two views agree, the less of both ways: the few pixels that a wrong view has fit somewhere. (V, V) symmetric"""
    shares = _agreeing(seen)
    return torch.minimum(shares, shares.T)


def _agreed_without(index: int, view: int, seen: Overlap, mutual: Tensor) -> Tensor:
    """Which pixels of `view` one that agrees with it confirms, other than `index`. (P,) bool"""
    trusted = mutual[view] >= _AGREE
    trusted[index] = False
    return (seen.said[trusted] == Said.SAME).any(dim=0) & (view != index)


def _likeness(index: int, maps: Sequence[DepthMap], seen: Sequence[Overlap], chosen: Sequence[Tensor]) -> float:
    """Correlation of a view's picture with those of the others at chosen points of theirs that it does not see hidden.

    It needs no depth of the view itself, which may be missing where nothing matches and yet the photos show the same things.
    """
    own_view, own = _detail(maps[index])
    pairs = []
    for found, there, sure in zip(maps, seen, chosen, strict=True):
        view, detail = _detail(found)
        points = there.points[sure & (there.said[index] != Said.HIDDEN)]
        pairs.append(torch.stack([sampled(detail, view, points)[0], sampled(own, own_view, points)[0]]))
    both = torch.cat(pairs, dim=1)
    return float(torch.corrcoef(both)[0, 1].nan_to_num())


def _detail(found: DepthMap) -> tuple[View, Tensor]:
    """A view small, and its grey values there less the mean around them, in standard deviations. (h, w)"""
    view = found.view.resized(*fitted_size(found.view.height, found.view.width, _DETAIL_SIZE))
    grey = view.image.mean(dim=0)[None]
    mean, square = (
        F.avg_pool2d(x, _DETAIL_WINDOW, 1, _DETAIL_WINDOW // 2, count_include_pad=False) for x in (grey, grey**2)
    )
    # 0.02: in a plain area noise is no detail
    return view, ((grey - mean) / ((square - mean**2).clamp(min=0).sqrt() + 0.02))[0]

"""The prior that is always there: photos warped by their depth, small holes filled. It needs no weights and invents nothing."""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.kernels.warp import Warp
from sparse3d.priors.base import OnStep, PriorCaps, Provenance, Stopped, ViewQuery, ViewSamples
from sparse3d.push_pull import push_pull
from sparse3d.types import Cameras, View
from sparse3d.warp import warp_views

_FILLED = 0.2  # confidence right beside what is known, where a hole was filled
_REACH = 0.01  # of the longer side: how far from what is known it falls to a half


class Classical:
    """Warps the nearest photos by their depth, blended by angle and visibility (`kernels.warp`), and fills holes by push and pull.

    The confidence is the warp's validity, and in holes what is near something known: 0.2, falling by half every hundredth of the picture.
    Without depth of the photos the query's own renders are filled.
    """

    caps = PriorCaps(
        name="classical",
        licence="none: drawn from the photos alone",
        commercial=True,
        weights=None,
        multiple=1,
        frames=(1, 1, 1),
        max_cond=12,
        uses=frozenset({"cameras", "render"}),
        verified=True,
        seconds=0.5,
        seconds_on="2 CPU cores for 504 px, acceptance included (measured)",
    )

    def generate(
        self, query: ViewQuery, *, strength: float = 1.0, steps: int | None = None, on_step: OnStep | None = None
    ) -> ViewSamples:
        """As `ViewPrior.generate`. Nothing is random, and `strength` and `steps` have no meaning here.

        Raises:
            ValueError: a query with neither depth of the photos nor renders.
            Stopped: `on_step` said so.
        """
        began = time.monotonic()
        drawn = [self._drawn(query, index) for index in range(len(query))]
        if on_step is not None and not on_step(1, 1):
            raise Stopped
        rgb, conf = (torch.stack(parts) for parts in zip(*drawn, strict=True))
        meta = Provenance("classical", None, self.caps.licence, query.seed, 0, time.monotonic() - began)
        return ViewSamples(rgb, conf, meta)

    def _drawn(self, query: ViewQuery, index: int) -> tuple[Tensor, Tensor]:
        """One view and how far it may be trusted. (3, H, W), (1, H, W)"""
        known, validity = shown(query, index)
        near = _nearness(validity > 0)
        filled = push_pull(known, (validity > 0).float())
        return filled, torch.where(validity > 0, validity, _FILLED * near)[None]


def shown(query: ViewQuery, index: int) -> tuple[Tensor, Tensor]:
    """What photos, or else the query's render, show of a target. (3, H, W), (H, W)"""
    if query.cond_depth is not None:
        seen = warped(query, index)
        return seen.color, seen.validity
    if query.render_rgb is None or query.render_conf is None:
        raise ValueError("the classical prior needs depth of the photos (cond_depth) or renders of the targets")
    return query.render_rgb[index], query.render_conf[index, 0]


def warped(query: ViewQuery, index: int) -> Warp:
    """The query's photos, which have depth, drawn from one of its targets."""
    assert query.cond_depth is not None
    cameras, target = query.cond_cams, query.target_cams
    views = [
        View(str(i), rgb, K, c2w)
        for i, (rgb, K, c2w) in enumerate(zip(query.cond_rgb, cameras.K, cameras.c2w, strict=True))
    ]
    camera = Cameras(target.c2w[index][None], target.K[index][None], target.height, target.width)
    return warp_views(views, list(query.cond_depth[:, 0]), camera)


def _nearness(known: Tensor) -> Tensor:
    """1 where something is known, halved with every _REACH of the longer side away from it. (H, W) bool -> (H, W)"""
    if not known.any():
        return torch.zeros(known.shape)
    reach = max(1, round(_REACH * max(known.shape)))
    near, grown = torch.zeros(known.shape), known.float()
    for power in range(6):
        near = torch.maximum(near, grown * 0.5**power)
        grown = F.max_pool2d(grown[None], 2 * reach + 1, 1, reach)[0]
    return near

"""Our own small network as a prior, which `sparse3d train fixer` makes: it repairs what the photos show of a view, and invents little."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sparse3d.errors import UserError, did_you_mean
from sparse3d.models import store
from sparse3d.models.own import fill_own, own_sizes
from sparse3d.models.registry import REGISTRY
from sparse3d.priors.base import LoraHandle, OnStep, PriorCaps, Provenance, Stopped, ViewQuery, ViewSamples
from sparse3d.priors.classical import shown
from sparse3d.priors.networks.fixer import CHANNELS, FORMAT, MULTIPLE, PHOTOS, Fixer, Sizes
from sparse3d.push_pull import push_pull
from sparse3d.types import Cameras, View
from sparse3d.warp import warp_views

NAME = "fixer"  # of the weights that ship, in the registry
_KEPT = 0.5  # trust from which a pixel of the render is not mixed with what lies around
_UNSEEN = 0.25  # share of a view that no photo shows, above which what was filled there is not to be believed


class Builtin:
    """Draws each view by one call of the network (the mean of what it may look like), or by several (one sample of it).

    It is shown what the query's render shows, holes filled by push and pull, and the three nearest photos warped by their depth. The
    confidence is the network's own. Where more than a quarter of a view is shown by nothing, it trusts nothing that it filled there.
    """

    def __init__(self, network: Fixer, weights: str) -> None:
        """
        Args:
            network: On its device, with its weights.
            weights: Where they are from, for the record.
        """
        self._network = network.eval()
        self._weights = weights
        self.caps = PriorCaps(
            name="builtin",
            licence="Apache-2.0 (sparse3d's own network, trained on procedural scenes)",
            commercial=True,
            weights=weights,
            multiple=MULTIPLE,
            frames=(1, 1, 1),
            max_cond=12,
            uses=frozenset({"cameras", "render"}),
            score=True,
            verified=True,
        )

    @classmethod
    def load(cls, weights: str, warn: Callable[[str], None]) -> Builtin:
        """With the weights of a file, or those that ship with sparse3d when empty.

        Raises:
            UserError: there are none, or the file holds another network or version.
        """
        path = Path(weights).expanduser() if weights else _shipped()
        if not path.is_file():
            raise UserError(
                f"the prior builtin takes a file of `sparse3d train fixer`, and there is no file {weights!r}{did_you_mean(weights, REGISTRY)}"
            )
        network = Fixer(own_sizes(path, FORMAT, Sizes))
        fill_own(path, FORMAT, network)
        return cls(network.to("cuda" if torch.cuda.is_available() else "cpu"), weights or NAME)

    def generate(
        self, query: ViewQuery, *, strength: float = 1.0, steps: int | None = None, on_step: OnStep | None = None
    ) -> ViewSamples:
        """As `ViewPrior.generate`. With `steps` 1, as by default, nothing is random, and strength below 1 starts from the filled render.

        Raises:
            ValueError: a query with neither depth of the photos nor renders.
            Stopped: `on_step` said so.
        """
        began, calls = time.monotonic(), max(1, steps or 1)
        total, done = calls * len(query), 0
        rgb, conf = [], []
        for index in range(len(query)):
            known = conditions(query, index)
            generator = torch.Generator().manual_seed(query.seed + index)
            noise = torch.randn(known[None, :3].shape, generator=generator)
            x = (1 - strength) * (2 * known[None, :3] - 1) + strength * noise
            levels = torch.linspace(strength, 0, calls + 1)
            for now, then in itertools.pairwise(levels):
                x0, certain = self._asked(x, now[None], known[None])
                x = x0 + then / now * (x - x0)
                done += 1
                if on_step is not None and not on_step(done, total):
                    raise Stopped
            rgb.append((x[0] + 1) / 2)
            conf.append(_believed(certain[0].sigmoid(), known))
        meta = Provenance("builtin", self._weights, self.caps.licence, query.seed, total, time.monotonic() - began)
        return ViewSamples(torch.stack(rgb).clamp(0, 1), torch.stack(conf)[:, None], meta)

    def bind(self, query: ViewQuery) -> _Bound:
        """See `base.ScorePrior`."""
        known = torch.stack([conditions(query, index) for index in range(len(query))])
        return _Bound(self._network, known)

    @torch.no_grad()
    def _asked(self, x: Tensor, t: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        device = next(self._network.parameters()).device
        x0, certain = self._network(x.to(device), t.to(device), known.to(device))
        return x0.cpu(), certain.cpu()


class _Bound:
    """See `base.BoundScore`: rectified flow on pictures in [-1, 1]."""

    def __init__(self, network: Fixer, known: Tensor) -> None:
        self._network = network
        self._known = known.to(next(network.parameters()).device)

    def encode(self, rgb: Tensor, *, grad: bool) -> Tensor:
        with torch.set_grad_enabled(grad):
            return 2 * rgb - 1

    def decode(self, z: Tensor) -> Tensor:
        return (z + 1) / 2

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    @torch.no_grad()
    def predict_x0(self, z_t: Tensor, t: Tensor, idx: Tensor, *, guidance: float | None = None) -> Tensor:
        device = self._known.device
        t = t.to(device).expand(len(z_t))
        x0: Tensor = self._network(z_t.to(device), t, self._known[idx.to(device)]).x0
        return x0.to(z_t.device)

    def lora(self) -> LoraHandle | None:
        return None


def conditions(query: ViewQuery, index: int) -> Tensor:
    """What the network is shown of one target: see `networks.fixer.CHANNELS`. (16, H, W) in [0, 1], on the CPU

    Raises:
        ValueError: a query with neither depth of the photos nor renders.
    """
    if query.render_rgb is not None and query.render_conf is not None:
        rgb, trust = query.render_rgb[index], query.render_conf[index, 0]
    else:
        rgb, trust = shown(query, index)
    filled = push_pull(rgb, (trust / _KEPT).clamp(0, 1))
    parts = [filled.clamp(0, 1), trust[None]]
    if query.cond_depth is not None:
        target, cameras = query.target_cams, query.cond_cams
        camera = Cameras(target.c2w[index][None], target.K[index][None], target.height, target.width)
        apart = (cameras.c2w[:, :3, 3] - camera.c2w[0, :3, 3]).norm(dim=1)
        for j in apart.argsort()[:PHOTOS].tolist():
            view = View(str(j), query.cond_rgb[j], cameras.K[j], cameras.c2w[j])
            warp = warp_views([view], [query.cond_depth[j, 0]], camera)
            parts += [warp.color, warp.validity[None]]
    known = torch.cat(parts)
    missing = torch.zeros(CHANNELS - len(known), *known.shape[1:])
    return torch.cat([known, missing])


def _believed(certain: Tensor, known: Tensor) -> Tensor:
    """The network's confidence; nothing for what it filled in a view of which too much is shown by nothing. (H, W)"""
    seen = (known[3] > 0) | (known[7::4] > 0).any(0)
    if float((~seen).float().mean()) > _UNSEEN:
        return certain * seen
    return certain


def _shipped() -> Path:
    if NAME not in REGISTRY:
        raise UserError(
            "this sparse3d ships no weights of its render fixer. Train some with: sparse3d train fixer, and give them with --weights FILE; "
            "or take --prior classical, which needs none"
        )
    return store.require(NAME)

"""Target refresh: a prior redraws what the scene shows of views that nobody took, and many steps look at what it drew.

The cheapest of the ways a prior can take part, 0.01 to 0.2 calls of its network a step: render, let the prior draw, keep its pictures for the next
hundreds of steps. As in Difix3D+ (arXiv:2503.01774), which fixes renders at fixed steps and then draws 30 % of the steps' views from them at weight 0.3, and
GenFusion (arXiv:2503.21219), whose weight rises and falls as sin(pi progress), so that photos have the last word.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sparse3d.config import RegularizeConfig
from sparse3d.densify.accept import REPEATS, judged
from sparse3d.kernels.warp import Warp
from sparse3d.optimize.grow import fill_empty
from sparse3d.optimize.regularize import Fitting
from sparse3d.optimize.step import Shot
from sparse3d.priors.base import ViewPrior, ViewQuery
from sparse3d.priors.manager import draw
from sparse3d.progress import StageReporter
from sparse3d.types import View

_KEPT = 1.5 / 255  # a colour that differs by less from the render was handed back as it was given
_STANDS_FOR = 0.25  # confidence of a drawn pixel that may become Gaussians: more than that of a filled hole
_NEAR = 0.6  # share of the views, the nearest, that the first refresh may ask for
_MOST_TRUST = 0.99  # of a render: all of a view at 1 would be a photo


class Refresh:
    """Asks every so many steps for some of the planned views, and takes further steps towards the answers between those of photos.

    A pixel counts by the prior's confidence in it, by its agreement with the photos and a fifth where they show it (`densify.accept`), not at all where
    the prior left the render as it was, by the distance w = (1 - p) + p exp(-d / d0) of its camera from the nearest photo (d0: the median distance
    of photos to their nearest), as in CAT3D (arXiv:2405.10314), and by weight * sin(pi p), p the progress when it was drawn.
    """

    def __init__(
        self,
        prior: ViewPrior,
        query: ViewQuery,
        seen: list[Warp],
        config: RegularizeConfig,
        seed: int,
        progress: StageReporter,
    ) -> None:
        """Takes a plan.

        Args:
            prior: Who draws.
            query: All views that may be asked for, from near the photos outwards, of the size that they are to have, with depth.
            seen: What the photos show of each of them.
            config: How often, how many, how much.
            seed: Of which views are asked for and looked at, and of the prior.
            progress: Told of each refresh.
        """
        self.prior, self.query, self.seen, self.config, self.progress = prior, query, seen, config, progress
        self.generator = torch.Generator().manual_seed(seed)
        if query.render_depth is None:
            raise ValueError("the query has no depth (render_depth), where new Gaussians would be put")
        self._depth = query.render_depth
        self._far = _distances(query)
        self.refreshes, self._calls, self.seconds, self.left_out, self.added = 0, 0, 0.0, 0, 0
        self._views: list[
            tuple[int, Tensor, Tensor]
        ] = []  # target, picture and confidence, both in 8 bits: a checkpoint is small, and goes on to the same
        self._shots: list[Shot] = []
        self._shrunk = 0  # of the shots

    @property
    def calls(self) -> int:
        """Of the prior's network; of priors that have none, views drawn."""
        return self._calls

    def due(self, steps: int) -> int:
        """The step at which the next refresh is due, of so many in all."""
        first = round(self.config.start * steps)
        return first + self.refreshes * max(self.config.every, steps // 20)

    def after(self, fitting: Fitting) -> None:
        """A refresh when it is due, and with a probability that makes `share` of all steps such ones a step towards a drawn view."""
        if fitting.step >= self.due(fitting.config.steps) and fitting.progress < 1:
            self._refresh(fitting)
            self._shrunk = 0
        share = self.config.share
        if not self._views or float(torch.rand((), generator=self.generator)) >= share / (1 - share):
            return
        if self._shrunk != fitting.shrunk:
            self._shrunk = fitting.shrunk
            self._shots = [self._shot(*view, self._shrunk, fitting.device) for view in self._views]
        fitting.compare(self._shots[int(torch.randint(len(self._shots), (), generator=self.generator))])

    def _refresh(self, fitting: Fitting) -> None:
        progress = fitting.progress
        index = self._asked(progress)
        asked = self.query.targets(index)
        rendering = fitting.drawn(asked.target_cams)
        seen = torch.stack([self.seen[i].validity for i in index.tolist()])
        renders = rendering.image.clamp(0, 1)
        asked = ViewQuery(
            cond_rgb=asked.cond_rgb,
            cond_cams=asked.cond_cams,
            target_cams=asked.target_cams,
            ordered=asked.ordered,
            render_rgb=renders,
            render_conf=(seen * rendering.alpha).clamp(0, _MOST_TRUST)[:, None],
            render_depth=rendering.median_depth[:, None],
            prompt=asked.prompt,
            seed=asked.seed + self.refreshes,
        )
        first, last = self.config.strength, self.config.strength_final
        answer = draw(self.prior, asked, strength=first + (last - first) * progress)
        kept = (answer.rgb - renders).abs().amax(1) < _KEPT
        weight = self.config.weight * math.sin(math.pi * progress)
        self._views, left_out, added = [], 0, 0
        for place, target in enumerate(index.tolist()):
            view = _view(self.query, target, answer.rgb[place])
            verdict = judged(view, answer.conf[place, 0], self.seen[target])
            if verdict.why_not not in ("", REPEATS):
                left_out += 1
                continue
            near = (1 - progress) + progress * math.exp(-float(self._far[target]))
            assert verdict.view.confidence is not None
            stands = (verdict.view.confidence > _STANDS_FOR) & ~kept[place]
            added += fill_empty(fitting, verdict.view, self.seen[target], self._depth[target, 0], stands)
            trust = verdict.view.confidence * ~kept[place] * weight * near
            if trust.any():
                self._views.append(
                    (
                        target,
                        (255 * verdict.view.image.clamp(0, 1) + 0.5).to(torch.uint8),
                        (255 * trust).ceil().to(torch.uint8),
                    )
                )
        self.refreshes += 1
        self.left_out += left_out
        self._calls += answer.meta.calls or len(index)
        self.seconds += answer.meta.seconds
        self.added += added
        said = f"; {added} Gaussians more" if added else ""
        said += f"; {left_out} left out, which photos speak against" if left_out else ""
        self.progress.note(
            f"step {fitting.step}: {len(self._views)} of {len(index)} views drawn by {answer.meta.prior} count{said}"
        )

    def _asked(self, progress: float) -> Tensor:
        """Targets of a refresh: of a path all, else those near enough to the photos, which are ever more. (n,) long"""
        count = len(self.query)
        return torch.arange(count if self.query.ordered else min(count, math.ceil(count * (_NEAR + progress))))

    def _shot(self, target: int, image: Tensor, trust: Tensor, shrunk: int, device: torch.device) -> Shot:
        view = _view(self.query, target, image.float() / 255, trust.float() / 255)
        return Shot.of(view.resized(-(-view.height // shrunk), -(-view.width // shrunk)), None, device)

    def facts(self) -> dict[str, Any]:
        """Who drew, and how often."""
        caps = self.prior.caps
        return {
            "kind": "refresh",
            "prior": caps.name,
            "weights": caps.weights,
            "licence": caps.licence,
            "commercial": caps.commercial,
            "verified": caps.verified,
            "seed": self.query.seed,
            "refreshes": self.refreshes,
            "left_out": self.left_out,
            "added": self.added,
            "seconds": round(self.seconds, 1),
        }

    def state_dict(self) -> dict[str, Any]:
        """The pictures in use among it."""
        return {
            "generator": self.generator.get_state(),
            "counts": [self.refreshes, self._calls, self.left_out, self.added],
            "seconds": self.seconds,
            "views": [list(view) for view in self._views],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on between two refreshes."""
        self.generator.set_state(state["generator"])
        self.refreshes, self._calls, self.left_out, self.added = state["counts"]
        self.seconds, self._shrunk = state["seconds"], 0
        self._views = [(int(target), image, trust) for target, image, trust in state["views"]]


def _view(query: ViewQuery, target: int, image: Tensor, trust: Tensor | None = None) -> View:
    cameras = query.target_cams
    return View(f"drawn {target + 1:03d}", image, cameras.K[target], cameras.c2w[target], None, True, trust)


def _distances(query: ViewQuery) -> Tensor:
    """Of each target to its nearest photo, in median distances of photos to theirs. (T,)"""
    photos, targets = query.cond_cams.c2w[:, :3, 3], query.target_cams.c2w[:, :3, 3]
    apart = torch.cdist(photos, photos) + torch.diag(torch.full((len(photos),), torch.inf))
    spacing = apart.amin(1).median() if len(photos) > 1 else torch.tensor(1.0)
    return torch.cdist(targets, photos).amin(1) / spacing.clamp(min=1e-9)

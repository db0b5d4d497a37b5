"""Steps down a score loss (`distill`), every few steps with photos: the expensive ways a prior can take part."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sparse3d.config import RegularizeConfig
from sparse3d.errors import UserError
from sparse3d.kernels.warp import Warp
from sparse3d.optimize.distill import (
    LEVELS,
    SAMPLE_STEPS,
    Denoiser,
    lora_loss,
    pull,
    sample_loss,
    sampled,
    sdi,
    sds,
    vsd,
)
from sparse3d.optimize.grow import fill_empty
from sparse3d.optimize.regularize import Fitting
from sparse3d.priors.base import LoraHandle, PriorCaps, ViewQuery
from sparse3d.priors.manager import Clip
from sparse3d.push_pull import push_pull
from sparse3d.types import Cameras, View


class Distilled:
    """After every `interval` steps one down a loss of kind sds, sdi, vsd or sample, for one view, or one clip of a prior that draws videos.

    Views are taken from near the photos at first, then ever farther ones. The loss counts `score_weight` * sin(pi progress), so that photos have
    the last word (GenFusion, arXiv:2503.21219). With `space` "pixel" the gradient in the latents is decoded, D(z0) - D(z0 - g), and not led
    back through the encoder, which takes less memory.
    """

    def __init__(
        self,
        kind: str,
        clips: Sequence[Clip],
        caps: PriorCaps,
        query: ViewQuery,
        seen: Sequence[Warp],
        config: RegularizeConfig,
    ) -> None:
        """Takes bound scores.

        Args:
            kind: One of `distill.LEVELS`.
            clips: Of all views, from near the photos outwards.
            caps: Of the prior.
            query: What the clips are of, with depth; its seed is that of views, noise levels and noise.
            seen: What the photos show of each of its targets.
            config: `interval`, `start`, `score_weight`, `guidance`, `space`, `lora_lr`.

        Raises:
            UserError: vsd with a prior that takes no low-rank addition.
        """
        self.kind, self.clips, self.caps, self.config = kind, clips, caps, config
        self.query, self.seen = query, seen
        self.generator = torch.Generator().manual_seed(query.seed)
        self._calls, self.seconds, self.done, self.added = 0, 0.0, 0, 0
        self._lora: LoraHandle | None = None
        self._trainer: torch.optim.AdamW | None = None
        if kind == "vsd":
            self._lora = clips[0].score.lora()
            if self._lora is None:
                raise UserError(
                    f"--regularizer vsd trains a low-rank addition (LoRA) to the attention of the prior's network, and {caps.name} takes none. Take "
                    "--regularizer sds or sample, or another --prior: inpaint, wan-vace"
                )
            self._trainer = torch.optim.AdamW(self._lora.parameters(), config.lora_lr)

    @property
    def calls(self) -> int:
        """Of the prior's network."""
        return self._calls

    def after(self, fitting: Fitting) -> None:
        """A step when it is due."""
        first = round(self.config.start * fitting.config.steps)
        if fitting.step < first or (fitting.step - first) % self.config.interval or fitting.progress >= 1:
            return
        if fitting.step == first:
            self._fill(fitting)
        began, progress = time.monotonic(), fitting.progress
        clip = self._chosen(progress)
        denoiser = Denoiser(clip.score, torch.arange(len(clip.cameras)))
        if clip.pictures:
            one = torch.randint(len(clip.cameras), (1,), generator=self.generator)
            denoiser = Denoiser(clip.score, one)
        cameras = clip.cameras
        asked = Cameras(cameras.c2w[denoiser.idx], cameras.K[denoiser.idx], cameras.height, cameras.width)
        weight = self.config.score_weight * math.sin(math.pi * progress)
        try:
            fitting.move(asked, lambda rgb: weight * self._loss(denoiser, rgb, progress))
        finally:
            self._calls += denoiser.calls
            self.seconds += time.monotonic() - began
        self.done += 1

    def _fill(self, fitting: Fitting) -> None:
        """Something to move where the scene is empty and no photo shows anything: in the colours around, at the depth of what lies around."""
        assert self.query.render_depth is not None
        cameras = self.query.target_cams
        for target, seen in enumerate(self.seen):
            view = View("", torch.zeros(3, cameras.height, cameras.width), cameras.K[target], cameras.c2w[target])
            rendering = fitting.drawn(view.cameras)
            view = replace(view, image=push_pull(rendering.image[0], rendering.alpha[0]).clamp(0, 1))
            self.added += fill_empty(fitting, view, seen, self.query.render_depth[target, 0])

    def _chosen(self, progress: float) -> Clip:
        """A clip near enough: ever more of them."""
        most = max(1, math.ceil(len(self.clips) * max(0.5, progress)))
        return self.clips[int(torch.randint(most, (), generator=self.generator))]

    def _loss(self, denoiser: Denoiser, rgb: Tensor, progress: float) -> Tensor:
        """Of renders (n, 3, H, W)."""
        score, guidance = denoiser.score, self.config.guidance
        t = LEVELS[self.kind].drawn(progress, self.generator)
        pixels = self.kind == "sample" or self.config.space == "pixel"
        z0 = score.encode(rgb.detach() if pixels else rgb, grad=not pixels)
        still = z0.detach()
        if self.kind == "sample":
            z_t = denoiser.noisy(still, t, self._noise(still))
            found = score.decode(sampled(denoiser, z_t, t, SAMPLE_STEPS, guidance))
            return sample_loss(rgb, found.to(rgb))
        if self.kind == "sdi":
            gradient = sdi(denoiser, still, t, self.generator, guidance)
        elif self._lora is not None:
            gradient = vsd(denoiser, self._lora, still, t, self._noise(still), guidance)
            self._train(denoiser, self._lora, still, progress)
        else:
            gradient = sds(denoiser, still, t, self._noise(still), guidance)
        if pixels:
            return pull(rgb, (score.decode(still) - score.decode(still - gradient)).to(rgb))
        return pull(z0, gradient)

    def _train(self, denoiser: Denoiser, lora: LoraHandle, z0: Tensor, progress: float) -> None:
        """One step of the low-rank addition."""
        assert self._trainer is not None
        self._trainer.zero_grad()
        t = LEVELS[self.kind].drawn(progress, self.generator)
        with torch.enable_grad():
            lora_loss(denoiser, lora, z0, t, self._noise(z0)).backward()
        self._trainer.step()

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator).to(like)

    def facts(self) -> dict[str, Any]:
        """Whose score, and how often."""
        return {
            "kind": self.kind,
            "prior": self.caps.name,
            "weights": self.caps.weights,
            "licence": self.caps.licence,
            "commercial": self.caps.commercial,
            "verified": self.caps.verified,
            "seed": self.query.seed,
            "score_steps": self.done,
            "added": self.added,
            "seconds": round(self.seconds, 1),
        }

    def state_dict(self) -> dict[str, Any]:
        """The low-rank addition among it."""
        state: dict[str, Any] = {
            "generator": self.generator.get_state(),
            "counts": [self._calls, self.done, self.added],
            "seconds": self.seconds,
        }
        if self._lora is not None and self._trainer is not None:
            state["lora"] = [value.detach() for value in self._lora.parameters()]
            state["trainer"] = self._trainer.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on."""
        self.generator.set_state(state["generator"])
        self._calls, self.done, self.added = state["counts"]
        self.seconds = state["seconds"]
        if self._lora is not None and self._trainer is not None:
            with torch.no_grad():
                for value, saved in zip(self._lora.parameters(), state["lora"], strict=True):
                    value.copy_(saved)
            self._trainer.load_state_dict(state["trainer"])

"""A question to Stable Virtual Camera with its pictures and cameras encoded: what its denoiser is told of every view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse3d.priors.base import LoraHandle, ViewQuery
from sparse3d.priors.networks.seva import SevaUNet
from sparse3d.priors.seva_cameras import distance_to_inputs, normalized_poses, plucker_maps
from sparse3d.priors.seva_encoders import LatentCodec, PictureEmbedder
from sparse3d.priors.seva_schedule import all_sigmas, denoise
from sparse3d.types import Cameras


@dataclass(frozen=True)
class SevaParts:
    """The networks, and how they are used."""

    network: SevaUNet
    codec: LatentCodec
    embedder: PictureEmbedder
    device: torch.device
    dtype: torch.dtype  # of the network
    frames: int  # views in one call that it was trained with
    guidance: float  # far from all input views
    least_guidance: float  # at an input view


@dataclass(frozen=True)
class Frames:
    """The views of one call of the network: inputs first, then those to draw, then repeated ones."""

    clean: Tensor  # (F, 4, h, w) latents of inputs, 0 elsewhere
    inputs: Tensor  # (F,) bool
    rays: Tensor  # (F, 6, h, w)
    context: Tensor  # (C,)
    guidance: Tensor  # (F,)
    drawn: Tensor  # (n,) long, where the views to draw are
    shown: Tensor  # (F - inputs,) long, which of the views to draw each of the others shows


class SevaScene:
    """A `BoundScore`. Known targets (all of their render is trusted) are input views beside the photos."""

    def __init__(self, parts: SevaParts, query: ViewQuery) -> None:
        self._parts = parts
        cond, target = query.cond_cams, query.target_cams
        c2w = normalized_poses(torch.cat([cond.c2w, target.c2w]).float())
        cameras = Cameras(c2w, torch.cat([cond.K, target.K]).float(), cond.height, cond.width)
        pictures = query.cond_rgb
        if query.render_rgb is not None:
            pictures = torch.cat([pictures, query.render_rgb[query.known]])
        self._photos = len(cond)
        inputs = torch.cat([torch.ones(len(cond), dtype=torch.bool), query.known])
        self._inputs = inputs.nonzero()[:, 0]
        self._rays = plucker_maps(cameras).to(parts.device)
        self._away = distance_to_inputs(c2w, inputs).to(parts.device)
        self._clean = parts.codec.encode(pictures)
        self._context = parts.embedder.embed(pictures).mean(dim=0)
        generator = torch.Generator().manual_seed(query.seed)
        self._noise = torch.randn(self._clean.shape, generator=generator).to(parts.device)

    def frames(self, idx: Tensor, guidance: float | None = None) -> Frames:
        """What a call that draws targets `idx` is told. They repeat until there are as many views as in training."""
        parts = self._parts
        inputs, drawn = len(self._inputs), len(idx)
        others = torch.arange(max(parts.frames - inputs, drawn)) % drawn
        view = torch.cat([self._inputs, self._photos + idx.cpu()[others]]).to(parts.device)
        clean = torch.zeros(len(view), *self._clean.shape[1:], device=parts.device)
        clean[:inputs] = self._clean
        most = parts.guidance if guidance is None else guidance
        least = min(parts.least_guidance, most)
        return Frames(
            clean,
            torch.arange(len(view), device=parts.device) < inputs,
            self._rays[view],
            self._context,
            # near an input little is left to guess, and strong guidance only saturates: the least there, more with the distance
            # (the published rule is not known to us in detail)
            least + (most - least) * self._away[view],
            inputs + torch.arange(drawn, device=parts.device),
            others.to(parts.device),
        )

    def denoised(self, frames: Frames, x: Tensor, sigma: Tensor, called: Callable[[], None] = lambda: None) -> Tensor:
        """Mean of the clean latents of all views of a call, guided away from what the network says without input views.

        Args:
            frames: F views.
            x: (F, 4, h, w) noisy latents.
            sigma: (F,)
            called: Told after each of the two calls.

        Returns:
            (F, 4, h, w)
        """
        with_inputs = denoise(lambda scaled, index: self._noise_of(frames, scaled, index, True), x, sigma)
        called()
        without = denoise(lambda scaled, index: self._noise_of(frames, scaled, index, False), x, sigma)
        called()
        return without + frames.guidance[:, None, None, None] * (with_inputs - without)

    def _noise_of(self, frames: Frames, scaled: Tensor, index: Tensor, told: bool) -> Tensor:
        """The network's answer. Told of inputs, it sees their clean latents, marked, and the embedding; else neither. Rays always."""
        dtype = self._parts.dtype
        marked = (frames.inputs & told)[:, None, None, None]
        latents = torch.where(marked, frames.clean, scaled)
        mask = marked.to(scaled).expand(-1, 1, *scaled.shape[2:])
        context = (frames.context * told).expand(len(scaled), 1, -1)
        x = torch.cat([latents, mask, frames.rays], dim=1).to(dtype)
        made: Tensor = self._parts.network(x, index, context.to(dtype), frames.rays.to(dtype), len(scaled))
        return made.to(scaled.dtype)

    # BoundScore ------------------------------------------------------------------------------------------------------

    def encode(self, rgb: Tensor, *, grad: bool) -> Tensor:
        """(n, 3, H, W) in [0, 1] -> (n, 4, H / 8, W / 8) latents"""
        return self._parts.codec.encode(rgb, grad=grad)

    def decode(self, z: Tensor) -> Tensor:
        """(n, 4, h, w) -> (n, 3, 8 h, 8 w)"""
        return self._parts.codec.decode(z)

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Of z_t = z_0 + sigma noise: 1, and from the least to the most noise in even steps of log sigma. Shapes of `t`."""
        least, most = (float(all_sigmas()[end]) for end in (0, -1))
        return torch.ones_like(t), least * (most / least) ** t

    @torch.no_grad()
    def predict_x0(self, z_t: Tensor, t: Tensor, idx: Tensor, *, guidance: float | None = None) -> Tensor:
        """Mean of z_0 given z_t, for targets drawn together.

        Args:
            z_t: (n, 4, h, w)
            t: (n,), or one number for all.
            idx: (n,) long, targets of the query.
            guidance: Far from all input views; the prior's own when None.

        Returns:
            (n, 4, h, w)
        """
        device = self._parts.device
        frames = self.frames(idx, guidance)
        sigma = self.alpha_sigma(t.to(device))[1].float().expand(len(idx))
        of_inputs = sigma.max().expand(len(self._clean))
        noisy = self._clean + of_inputs[:, None, None, None] * self._noise
        x = torch.cat([noisy, z_t.to(device, torch.float32)[frames.shown]])
        return self.denoised(frames, x, torch.cat([of_inputs, sigma[frames.shown]]))[frames.drawn]

    def lora(self) -> LoraHandle | None:
        """None: it takes no low-rank addition."""
        return None

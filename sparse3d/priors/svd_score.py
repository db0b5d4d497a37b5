"""The score of Stable Video Diffusion: EDM (arXiv:2206.00364) with v-prediction, all views of a call together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sparse3d.priors.base import LoraHandle, ViewQuery
from sparse3d.priors.guidance import first_picture

if TYPE_CHECKING:
    from sparse3d.priors.svd import Svd


class SvdScore:
    """A `BoundScore`. Its condition is one photo: the first target where that is known, else the nearest."""

    def __init__(self, prior: Svd, query: ViewQuery) -> None:
        """Encodes the photo."""
        self._prior, pipe = prior, prior.pipeline
        if pipe.vae.dtype == torch.float16 and pipe.vae.config.force_upcast:
            pipe.vae.to(torch.float32)  # and so it stays: gradients go through its weights
        for part in (pipe.unet, pipe.vae):
            part.requires_grad_(False)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(query.seed)
            self._images, self._context, self._times = prior.conditions(first_picture(query), len(query), generator)
        self._scale = torch.linspace(0, 1, len(query))
        self._least, self._most = float(pipe.scheduler.config.sigma_min), float(pipe.scheduler.config.sigma_max)

    def encode(self, rgb: Tensor, *, grad: bool) -> Tensor:
        """(n, 3, H, W) in [0, 1] -> (n, 4, h, w) latents, scaled as the network's."""
        with torch.set_grad_enabled(grad):
            return self._prior.encoded(rgb).float()

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """(n, 4, h, w) -> (n, 3, H, W) in [0, 1]"""
        return self._prior.decoded(z[None].to(self._prior.pipeline.vae.dtype))

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """1, and from the scheduler's least to its most noise in even steps of log sigma. Shapes of `t`."""
        return torch.ones_like(t), self._least * (self._most / self._least) ** t

    @torch.no_grad()
    def predict_x0(self, z_t: Tensor, t: Tensor, idx: Tensor, *, guidance: float | None = None) -> Tensor:
        """As of `BoundScore`, for views of one noise level, in the order of the video. Guidance rises from 1 at the photo to 3, or to what is given, at the end."""
        pipe = self._prior.pipeline
        device, dtype = pipe._execution_device, pipe.unet.dtype
        sigma = float(self.alpha_sigma(t.double())[1].flatten()[0])
        most = 3.0 if guidance is None else guidance
        x = z_t.to(device).float()[None]
        fed = torch.cat([(x / math.sqrt(sigma**2 + 1)).to(dtype)] * 2)
        fed = torch.cat([fed, self._images[:, idx.to(device)]], dim=2)
        level = torch.tensor(0.25 * math.log(sigma), device=device)
        out = pipe.unet(fed, level, self._context, added_time_ids=self._times, return_dict=False)[0].float()
        free, told = out.chunk(2)
        scale = (1 + (most - 1) * self._scale[idx.cpu()]).to(device)[None, :, None, None, None]
        v = free + scale * (told - free)
        x0: Tensor = (x / (sigma**2 + 1) - v * sigma / math.sqrt(sigma**2 + 1))[0]
        return x0

    def lora(self) -> LoraHandle | None:
        """None: diffusers adds nothing to UNets of this kind."""
        return None

"""The score of inpainting UNets of diffusers, of the kind of Stable Diffusion 1.5: variance preserving, in the latents of a VAE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.geometry import invert_rigid
from sparse3d.priors.base import ViewQuery
from sparse3d.priors.guidance import KEPT, grown
from sparse3d.priors.lora import Lora

GUIDANCE = 7.5
_PREDICTIONS = ("epsilon", "v_prediction", "sample")


def has_score(pipeline: Any) -> bool:
    """Whether the pipeline's network is a UNet with or without a mask's 5 channels, conditioned by text alone."""
    unet = getattr(pipeline, "unet", None)
    if unet is None or not hasattr(pipeline.scheduler, "alphas_cumprod"):
        return False
    channels = int(pipeline.vae.config.latent_channels)
    plain = unet.config.addition_embed_type is None and unet.config.class_embed_type is None
    known = pipeline.scheduler.config.get("prediction_type", "epsilon") in _PREDICTIONS
    return plain and known and int(unet.config.in_channels) in (channels, 2 * channels + 1)


class InpaintScore:
    """A `BoundScore`. Conditions are the words, and for UNets that take them the render where it is trusted and the mask of where it is not."""

    def __init__(
        self, pipeline: Any, query: ViewQuery, words: tuple[str, str], cell: int, lora: Callable[[], Lora | None]
    ) -> None:
        """Encodes the conditions.

        Args:
            pipeline: One that `has_score` says yes of.
            query: Its renders, if any, are what is known of the targets.
            words: Prompt and negative prompt.
            cell: Pixels that a latent stands for.
            lora: The addition to the pipeline's UNet.
        """
        self.pipeline, self._lora = pipeline, lora
        self.device = pipeline._execution_device
        self.dtype = pipeline.unet.dtype
        for part in (pipeline.unet, pipeline.vae):
            part.requires_grad_(False)
        # relative to the first photo, so that the token of a camera does not depend on where the world begins
        self._c2w = invert_rigid(query.cond_cams.c2w[:1]) @ query.target_cams.c2w
        self._kept = pipeline.scheduler.alphas_cumprod.double().cpu()
        with torch.no_grad():
            told, free = pipeline.encode_prompt(words[0], self.device, 1, True, words[1])
            self._context = torch.cat([free, told]).to(self.dtype)  # without the words, then with them
            channels = int(pipeline.unet.config.in_channels)
            self._masked = (
                None if channels == int(pipeline.vae.config.latent_channels) else self._conditions(query, cell)
            )

    def _conditions(self, query: ViewQuery, cell: int) -> Tensor:
        """Mask and encoded picture without what it hides, of all targets. (T, 5, h, w)"""
        size = (query.target_cams.height, query.target_cams.width)
        if query.render_rgb is None or query.render_conf is None:
            rgb, holes = torch.full((len(query), 3, *size), 0.5), torch.ones(len(query), 1, *size)
        else:
            rgb, holes = query.render_rgb, grown((query.render_conf < KEPT).float(), cell)
        latents = [
            self.encode(torch.where(hole > 0, 0.5, frame)[None], grad=False)
            for frame, hole in zip(rgb, holes, strict=True)
        ]
        mask = F.interpolate(holes, (size[0] // cell, size[1] // cell))
        return torch.cat([mask.to(self.device), torch.cat(latents)], dim=1).to(self.dtype)

    def encode(self, rgb: Tensor, *, grad: bool) -> Tensor:
        """(n, 3, H, W) in [0, 1] -> (n, 4, h, w) latents, scaled as the network's; the mean of the VAE's."""
        vae = self.pipeline.vae
        with torch.set_grad_enabled(grad):
            latents = vae.encode((2 * rgb - 1).to(self.device, vae.dtype)).latent_dist.mode()
            return latents.float() * vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """(n, 4, h, w) -> (n, 3, H, W) in [0, 1]"""
        vae = self.pipeline.vae
        rgb = vae.decode(z.to(self.device, vae.dtype) / vae.config.scaling_factor, return_dict=False)[0]
        return (0.5 + 0.5 * rgb.float()).clamp(0, 1)

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Roots of the scheduler's product of alphas and of what it lacks to 1, at the nearest of its timesteps. Shapes of `t`."""
        kept = self._kept[self._timestep(t).cpu()].to(t)
        return kept.sqrt(), (1 - kept).sqrt()

    def _timestep(self, t: Tensor) -> Tensor:
        return (t * (len(self._kept) - 1)).round().long()

    def predict_x0(self, z_t: Tensor, t: Tensor, idx: Tensor, *, guidance: float | None = None) -> Tensor:
        """As of `BoundScore`. With gradients where the caller has them on."""
        scale = GUIDANCE if guidance is None else guidance
        z_t = z_t.to(self.device)
        t = t.to(self.device).expand(len(idx))
        timestep = self._timestep(t)
        context = self._context[1:].expand(len(idx), -1, -1)
        free = self._context[:1].expand(len(idx), -1, -1)
        fed = z_t.to(self.dtype)
        if self._masked is not None:
            fed = torch.cat([fed, self._masked[idx.to(self.device)]], dim=1)
        lora = self._lora()
        if lora is not None and lora.active:
            context, free = (lora.with_camera(part, self._c2w[idx.cpu()]) for part in (context, free))
        out = self.pipeline.unet(fed, timestep, encoder_hidden_states=context, return_dict=False)[0].float()
        if scale != 1:
            without = self.pipeline.unet(fed, timestep, encoder_hidden_states=free, return_dict=False)[0].float()
            out = without + scale * (out - without)
        alpha, sigma = (part[:, None, None, None].float() for part in self.alpha_sigma(t))
        kind = self.pipeline.scheduler.config.get("prediction_type", "epsilon")
        if kind == "sample":
            return out
        if kind == "v_prediction":
            return alpha * z_t.float() - sigma * out
        return (z_t.float() - sigma * out) / alpha

    def lora(self) -> Lora | None:
        """The addition to the UNet; None where it has no attention."""
        return self._lora()

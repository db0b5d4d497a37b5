"""The score of Wan-VACE: rectified flow in the latents of a causal video VAE, all views of a call together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sparse3d.geometry import invert_rigid
from sparse3d.priors.base import ViewQuery
from sparse3d.priors.lora import Lora

if TYPE_CHECKING:
    from sparse3d.priors.wan_vace import WanVace


class WanScore:
    """A `BoundScore` of whole clips: latents are (1 + (n - 1) / 4, c, h, w) of n views. Conditions are renders, mask and words; no reference photos."""

    def __init__(self, prior: WanVace, query: ViewQuery, words: tuple[str, str]) -> None:
        """Encodes them.

        Args:
            prior: With its pipeline.
            query: Of a number of targets that makes a clip.
            words: Prompt and negative prompt.
        """
        self._prior, pipe = prior, prior.pipeline
        self.device = pipe._execution_device
        self.dtype = pipe.transformer.dtype
        for part in (pipe.transformer, pipe.vae):
            part.requires_grad_(False)
        c2w = invert_rigid(query.cond_cams.c2w[:1]) @ query.target_cams.c2w
        self._c2w = c2w[len(query) // 2][None]  # one camera for the whole clip
        config = pipe.vae.config
        self._mean = torch.tensor(config.latents_mean, device=self.device)[:, None, None, None]
        self._std = torch.tensor(config.latents_std, device=self.device)[:, None, None, None]
        with torch.no_grad():
            told, free = pipe.encode_prompt(words[0], words[1], True, device=self.device, max_sequence_length=512)
            self._told, self._free = told.to(self.dtype), free.to(self.dtype)
            video, holes = prior.masked(query)
            clip = (2 * video - 1).permute(1, 0, 2, 3)[None].to(self.device)
            mask = holes.permute(1, 0, 2, 3)[None].expand_as(clip.cpu()).to(self.device)
            latents = pipe.prepare_video_latents(clip, mask, [[]], None, self.device)
            self._control = torch.cat([latents, pipe.prepare_masks(mask, [[]]).to(latents)], dim=1).to(self.dtype)

    def encode(self, rgb: Tensor, *, grad: bool) -> Tensor:
        """(n, 3, H, W) in [0, 1] -> (1 + (n - 1) / 4, c, h, w) latents, scaled as the network's."""
        vae = self._prior.pipeline.vae
        with torch.set_grad_enabled(grad):
            clip = (2 * rgb - 1).permute(1, 0, 2, 3)[None].to(self.device, vae.dtype)
            latents = vae.encode(clip).latent_dist.mode()[0].float()
            return ((latents - self._mean) / self._std).permute(1, 0, 2, 3)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """(f, c, h, w) -> (4 f - 3, 3, H, W) in [0, 1]"""
        vae = self._prior.pipeline.vae
        latents = z.permute(1, 0, 2, 3).to(self.device) * self._std + self._mean
        rgb = vae.decode(latents[None].to(vae.dtype), return_dict=False)[0][0].float()
        return (0.5 + 0.5 * rgb).clamp(0, 1).permute(1, 0, 2, 3)

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """1 - t and t. Shapes of `t`."""
        return 1 - t, t

    def predict_x0(self, z_t: Tensor, t: Tensor, idx: Tensor, *, guidance: float | None = None) -> Tensor:
        """As of `BoundScore`, for all views of the clip at one noise level: x0 = x - t v, where v is noise - x0. With gradients where the caller has them on."""
        pipe = self._prior.pipeline
        level = t.flatten()[0].to(self.device)
        scale = self._prior.scale if guidance is None else guidance
        x = z_t.to(self.device).float().permute(1, 0, 2, 3)[None]
        told, free = self._told, self._free
        lora = self._prior.lora()
        if lora is not None and lora.active:
            told, free = (lora.with_camera(part, self._c2w) for part in (told, free))

        def velocity(context: Tensor) -> Tensor:
            out: Tensor = pipe.transformer(
                hidden_states=x.to(self.dtype),
                timestep=(level * pipe.scheduler.config.num_train_timesteps)[None],
                encoder_hidden_states=context,
                control_hidden_states=self._control,
                return_dict=False,
            )[0]
            return out.float()

        v = velocity(told)
        if scale != 1:
            without = velocity(free)
            v = without + scale * (v - without)
        return (x - level * v)[0].permute(1, 0, 2, 3)

    def lora(self) -> Lora | None:
        """The addition to the transformer."""
        return self._prior.lora()

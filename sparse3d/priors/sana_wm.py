"""SANA-WM: a video model that follows a camera from one picture. Apache-2.0."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sparse3d.models.registry import lookup
from sparse3d.priors.base import OnStep, PriorCaps, Provenance, ViewQuery, ViewSamples
from sparse3d.priors.guidance import (
    Guidance,
    Schedule,
    filled,
    first_picture,
    nearest_photo,
    on_step_end,
    to_cells,
    to_groups,
)
from sparse3d.priors.pipelines import as_pil, load_pipeline, repo_of, stopping, weights_of

MODELS = ("sana-wm",)
MEMORY_GB = 16.0  # by the size of its parts; its authors do not say

_PROMPT = "a static scene, the camera moves slowly, no people"
_DEPTH = 3.0  # metres: what the median depth of photos is taken for, as it was trained on metric paths
_INVENTED = 0.5  # confidence of what the model drew itself
# lambda of `Schedule` is of sigma / (1 - sigma): x = (1 - sigma) x0 + sigma n is, scaled, x0 + sigma / (1 - sigma) n.


class SanaWm:
    """Camera-controlled image to video (SANA-WM, 2026), its first frame a photo; besides held to the renders while the noise is high.

    A path that does not begin at a photo is begun at the nearest one. `strength` has no meaning here.
    """

    def __init__(
        self,
        pipeline: Any,
        weights: str = "",
        *,
        schedule: Schedule | None = None,
        steps: int = 60,
        guidance: float = 5.0,
    ) -> None:
        """Takes a SanaWMPipeline.

        Args:
            pipeline: On its device.
            weights: Hub id or folder, for the record; the published ones when empty.
            schedule: Until when renders count, by noise over signal.
            steps: When a call names none.
            guidance: Away from an empty prompt.
        """
        self.pipeline, self.steps, self.scale, self.schedule = pipeline, steps, guidance, schedule or Schedule()
        group = int(pipeline.vae_temporal_compression_ratio)
        self.group = group
        self.caps = PriorCaps(
            name="sana-wm",
            licence=lookup(MODELS[0]).licence,
            commercial=True,
            weights=weights or repo_of(MODELS[0]),
            multiple=int(pipeline.vae_spatial_compression_ratio),
            frames=(1 + group, 1 + 20 * group, group),
            max_cond=1,
            uses=frozenset({"cameras", "render", "prompt"}),
            min_vram_gb=MEMORY_GB,
            pixels=704 * 1280,
        )

    @classmethod
    def load(cls, weights: str, warn: Callable[[str], None]) -> SanaWm:
        """From a hub id or a folder; the published ones when empty.

        Raises:
            UserError: they are missing or another model's.
        """
        folder = weights_of(MODELS[0], weights)
        return cls(load_pipeline("SanaWMPipeline", folder, warn, dtype=torch.bfloat16), weights)

    @torch.no_grad()
    def generate(
        self, query: ViewQuery, *, strength: float = 1.0, steps: int | None = None, on_step: OnStep | None = None
    ) -> ViewSamples:
        """As `ViewPrior.generate`. The confidence is that of the renders, and 0.5 for what the model drew itself."""
        began, steps = time.monotonic(), steps or self.steps
        c2w, K, lead = self.path(query)
        generator = torch.Generator().manual_seed(query.seed)
        guided = self._guided(query, lead, len(c2w), generator) if query.render_rgb is not None else None
        result = self.pipeline(
            as_pil(first_picture(query)),
            query.prompt or _PROMPT,
            c2w=c2w.numpy(),
            intrinsics=K.numpy(),
            height=query.target_cams.height,
            width=query.target_cams.width,
            num_frames=len(c2w),
            num_inference_steps=steps,
            guidance_scale=self.scale,
            generator=generator,
            output_type="pt",
            callback_on_step_end=stopping(on_step, steps, guided),
        )
        rgb = result.frames.float().clamp(0, 1).cpu()[lead : lead + len(query)]
        conf = torch.full_like(rgb[:, :1], _INVENTED)
        if query.render_conf is not None:
            conf = torch.maximum(conf, query.render_conf)
        meta = Provenance("sana-wm", self.caps.weights, self.caps.licence, query.seed, steps, time.monotonic() - began)
        return ViewSamples(rgb, conf, meta)

    def path(self, query: ViewQuery) -> tuple[Tensor, Tensor, int]:
        """Cameras to world (F, 4, 4) in metres, intrinsics (F, 3, 3), and how many of them (0 or 1) stand before the query's own.

        F is 1 + a multiple of what the VAE puts together; the last camera is repeated. The unit is such that the photos' median depth is 3 m.
        """
        c2w, K, lead = query.target_cams.c2w, query.target_cams.K, 0
        if not bool(query.known[0]):
            nearest, lead = nearest_photo(query), 1
            c2w = torch.cat([query.cond_cams.c2w[nearest : nearest + 1], c2w])
            K = torch.cat([query.cond_cams.K[nearest : nearest + 1], K])
        lacking = -(len(c2w) - 1) % self.group
        c2w, K = torch.cat([c2w, c2w[-1:].expand(lacking, 4, 4)]), torch.cat([K, K[-1:].expand(lacking, 3, 3)])
        c2w = c2w.float().clone()
        depth = query.cond_depth if query.cond_depth is not None else query.render_depth
        if depth is not None and (depth > 0).any():
            c2w[:, :3, 3] *= _DEPTH / float(depth[depth > 0].median())
        return c2w, K.float(), lead

    def encoded(self, video: Tensor) -> Tensor:
        """(F, 3, H, W) in [0, 1] -> (1, f, c, h, w), scaled as the sampler's latents. F is 1 + a multiple of the VAE's group."""
        vae, device = self.pipeline.vae, self.pipeline._execution_device
        pixels = (2 * video - 1).permute(1, 0, 2, 3)[None].to(device, vae.dtype)
        latents = vae.encode(pixels).latent_dist.mode()
        mean, deviation = (values.view(1, -1, 1, 1, 1).to(latents) for values in (vae.latents_mean, vae.latents_std))
        scaled: Tensor = (latents - mean) * vae.config.scaling_factor / deviation
        return scaled.transpose(1, 2)

    def _guided(self, query: ViewQuery, lead: int, frames: int, generator: torch.Generator) -> Any:
        """The pipeline's callback; its latents are (1, c, f, h, w)."""
        assert query.render_rgb is not None and query.render_conf is not None
        rgb, trust = filled(query.render_rgb, query.render_conf), query.render_conf
        if lead:
            rgb, trust = torch.cat([first_picture(query)[None], rgb]), torch.cat([torch.ones_like(trust[:1]), trust])
        lacking = frames - len(rgb)
        rgb, trust = (torch.cat([values, values[-1:].expand(lacking, -1, -1, -1)]) for values in (rgb, trust))
        latents = self.encoded(rgb)
        mask = to_groups(to_cells(trust, self.caps.multiple), self.group)[None].to(latents)
        known = (mask >= 1).flatten(2).all(2)[0]
        state = generator.get_state()
        noise = torch.randn(1, latents.shape[2], latents.shape[1], *latents.shape[3:], generator=generator).transpose(
            1, 2
        )
        generator.set_state(state)  # the pipeline draws the same
        noise = noise.to(latents)
        noise[:, :1] = latents[:, :1]  # pinned to the photo
        schedule = _OfRatio(self.schedule.high, self.schedule.low)
        inner = on_step_end(Guidance(latents, mask, known, schedule), noise, scaled=False)

        def callback(pipeline: Any, index: int, at: Any, values: dict[str, Any]) -> dict[str, Any]:
            turned = values | {"latents": values["latents"].transpose(1, 2)}
            return {"latents": inner(pipeline, index, at, turned)["latents"].transpose(1, 2)}

        return callback


class _OfRatio(Schedule):
    """A schedule asked for sigma of flow matching in [0, 1]."""

    def __call__(self, sigma: float) -> float:
        return 1.0 if sigma >= 1 else super().__call__(sigma / (1 - sigma)) if sigma > 0 else 0.0

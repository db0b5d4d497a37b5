"""Stable Video Diffusion, guided by renders. Its weights are under Stability's community licence."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from sparse3d.models.registry import lookup
from sparse3d.priors.base import OnStep, PriorCaps, Provenance, Stopped, ViewQuery, ViewSamples
from sparse3d.priors.guidance import Guidance, Schedule, filled, first_picture, on_step_end, to_cells
from sparse3d.priors.pipelines import as_pil, load_pipeline, repo_of, stopping, weights_of
from sparse3d.priors.svd_score import SvdScore

MODELS = ("svd",)
MEMORY_GB = 8.0
SCORE = True

_FPS, _MOTION, _NOISE = 7, 127, 0.02  # as the pipeline's defaults
_REPEATED = (1.0, 20.0)  # noise levels at which repeating helps: above, noising erases what was found
_INVENTED = 0.5  # confidence of what the model drew itself


class Svd:
    """Image to video (Blattmann et al. 2023, arXiv:2311.15127), held to the renders as ViewExtrapolator holds it (arXiv:2411.14208).

    The video begins at a photo. Where a render may be trusted the model's own prediction is replaced by it until the noise is so low
    that only detail is left to draw; photos are held to the end. With `repeats` steps at middle noise are done again, the first time
    guided and then not, so that seams are mended.
    """

    def __init__(
        self,
        pipeline: Any,
        weights: str = "",
        *,
        sampler: Literal["own", "callback"] = "own",
        schedule: Schedule | None = None,
        repeats: int = 1,
        steps: int = 25,
    ) -> None:
        """Takes a StableVideoDiffusionPipeline with an EulerDiscreteScheduler of v-prediction.

        Args:
            pipeline: On its device.
            weights: Hub id or folder, for the record; the published ones when empty.
            sampler: "own" loop, or the pipeline's with guidance in its callback, which cannot repeat steps and starts from noise.
            schedule: Until when renders count; that for renders with artefacts when None.
            repeats: How often steps at middle noise are done, at least once.
            steps: When a call names none.
        """
        if sampler == "callback" and repeats > 1:
            raise ValueError("the pipeline's own sampler repeats no steps; use sampler='own' with repeats")
        self.pipeline, self.sampler, self.repeats, self.steps = pipeline, sampler, repeats, steps
        self.schedule = schedule or Schedule()
        frames = int(pipeline.unet.config.num_frames)
        size = int(pipeline.unet.config.sample_size) * pipeline.vae_scale_factor
        self.caps = PriorCaps(
            name="svd",
            licence=lookup(MODELS[0]).licence,
            commercial=True,  # below a million dollars of revenue, after registering
            weights=weights or repo_of(MODELS[0]),
            multiple=64,
            frames=(frames, frames, 1),
            max_cond=1,
            uses=frozenset({"render"}),
            min_vram_gb=MEMORY_GB,
            pixels=size * size * 16 // 9,
            score=True,
            seconds=180,
            seconds_on="an A100 with 80 GB, by its model card",
        )

    @classmethod
    def load(cls, weights: str, warn: Callable[[str], None]) -> Svd:
        """From a hub id or a folder; the published ones when empty.

        Raises:
            UserError: they are missing or another model's.
        """
        return cls(load_pipeline("StableVideoDiffusionPipeline", weights_of(MODELS[0], weights), warn), weights)

    @torch.no_grad()
    def generate(
        self, query: ViewQuery, *, strength: float = 1.0, steps: int | None = None, on_step: OnStep | None = None
    ) -> ViewSamples:
        """As `ViewPrior.generate`. The confidence is that of the renders, and 0.5 for what the model drew itself."""
        began, steps = time.monotonic(), steps or self.steps
        guidance = None if query.render_rgb is None else self.guidance(query)
        generator = torch.Generator().manual_seed(query.seed)
        photo = first_picture(query)
        if self.sampler == "callback":
            latents, calls = self._by_pipeline(query, photo, guidance, generator, steps, on_step), steps
        else:
            latents, calls = self.sampled(query, photo, guidance, generator, steps, strength, on_step)
        rgb = self.decoded(latents)
        conf = torch.full_like(rgb[:, :1], _INVENTED)
        if query.render_conf is not None:
            conf = torch.maximum(conf, query.render_conf)
        meta = Provenance("svd", self.caps.weights, self.caps.licence, query.seed, calls, time.monotonic() - began)
        return ViewSamples(rgb, conf, meta)

    def bind(self, query: ViewQuery) -> SvdScore:
        """Encodes the photo that the video begins with."""
        return SvdScore(self, query)

    def guidance(self, query: ViewQuery) -> Guidance:
        """The query's renders as latents, with their trust."""
        assert query.render_rgb is not None and query.render_conf is not None
        latents = self.encoded(filled(query.render_rgb, query.render_conf))
        mask = to_cells(query.render_conf, self.pipeline.vae_scale_factor).to(latents)
        return Guidance(latents[None], mask[None], query.known.to(latents.device), self.schedule)

    def encoded(self, rgb: Tensor) -> Tensor:
        """(F, 3, H, W) in [0, 1] -> (F, 4, h, w) latents, scaled as the sampler's."""
        vae, device = self.pipeline.vae, self.pipeline._execution_device
        upcast = vae.dtype == torch.float16 and vae.config.force_upcast
        if upcast:
            vae.to(torch.float32)
        parts = [vae.encode(2 * frame[None].to(device, vae.dtype) - 1).latent_dist.mode() for frame in rgb]
        if upcast:
            vae.to(torch.float16)
        return torch.cat(parts).to(self.pipeline.unet.dtype) * vae.config.scaling_factor

    def decoded(self, latents: Tensor) -> Tensor:
        """(1, F, 4, h, w) -> (F, 3, H, W) in [0, 1], float32 on the CPU."""
        frames = self.pipeline.decode_latents(latents, latents.shape[1], 2)
        return (0.5 + 0.5 * frames[0].permute(1, 0, 2, 3)).clamp(0, 1).cpu()

    def sampled(
        self,
        query: ViewQuery,
        photo: Tensor,
        guidance: Guidance | None,
        generator: torch.Generator,
        steps: int,
        strength: float = 1.0,
        on_step: OnStep | None = None,
    ) -> tuple[Tensor, int]:
        """Latents (1, F, 4, h, w) by our own Euler steps, and the number of calls of the network."""
        pipe = self.pipeline
        scheduler, device, dtype = pipe.scheduler, pipe._execution_device, pipe.unet.dtype
        images, context, times = self.conditions(photo, len(query), generator)
        scheduler.set_timesteps(steps, device=device)
        sigmas = [float(sigma) for sigma in scheduler.sigmas]
        noise = torch.randn(self._shape(query), generator=generator).to(device, dtype)
        first = min(steps - 1, round((1 - strength) * steps)) if guidance is not None else 0
        x = noise * scheduler.init_noise_sigma if first == 0 else guidance.latents + sigmas[first] * noise  # type: ignore[union-attr]
        scale = torch.linspace(1.0, 3.0, len(query), device=device, dtype=dtype)[None, :, None, None, None]
        again = [self.repeats if _REPEATED[0] <= sigma <= _REPEATED[1] else 1 for sigma in sigmas[:steps]]
        done, total = 0, sum(again[first:])

        def clean(x: Tensor, index: int) -> Tensor:
            """The network's x0."""
            nonlocal done
            sigma = sigmas[index]
            fed = torch.cat([torch.cat([x / (sigma**2 + 1) ** 0.5] * 2), images], dim=2)
            out = pipe.unet(fed, scheduler.timesteps[index], context, added_time_ids=times, return_dict=False)[0]
            free, told = out.chunk(2)
            v = free + scale * (told - free)
            done += 1
            if on_step is not None and not on_step(done, total):
                raise Stopped
            return x / (sigma**2 + 1) - v * sigma / (sigma**2 + 1) ** 0.5

        for index in range(first, steps):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0 = clean(x, index)
            if guidance is not None:
                x0 = guidance.pulled(x0, sigma)
            for _ in range(again[index] - 1):
                x = x0 + sigma * torch.randn(x.shape, generator=generator).to(x)
                x0 = clean(x, index)
            x = x0 + following / sigma * (x - x0)
        return x, done

    def _by_pipeline(
        self,
        query: ViewQuery,
        photo: Tensor,
        guidance: Guidance | None,
        generator: torch.Generator,
        steps: int,
        on_step: OnStep | None,
    ) -> Tensor:
        """Latents by the pipeline's own call, guided in its callback. It draws the noise of the photo, then ours are given."""
        frames, height, width = len(query), *photo.shape[1:]
        state = generator.get_state()
        torch.randn((1, *photo.shape), generator=generator)  # what the pipeline draws first
        noise = torch.randn(self._shape(query), generator=generator)
        generator.set_state(state)
        guided = None if guidance is None else on_step_end(guidance, noise)

        result = self.pipeline(
            as_pil(photo),
            height=height,
            width=width,
            num_frames=frames,
            num_inference_steps=steps,
            generator=generator,
            latents=noise.to(self.pipeline.unet.dtype),
            output_type="latent",
            callback_on_step_end=stopping(on_step, steps, guided),
        )
        latents: Tensor = result.frames
        return latents

    def conditions(self, photo: Tensor, frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Image latents (2, F, 4, h, w), CLIP's context (2, 1, d) and time ids (2, 3): without the photo, then with it."""
        pipe = self.pipeline
        device, dtype = pipe._execution_device, pipe.unet.dtype
        context = pipe._encode_image(as_pil(photo), device, 1, True)
        image = 2 * photo[None] - 1
        image = image + _NOISE * torch.randn(image.shape, generator=generator)
        latents = self.encoded((image + 1) / 2) / pipe.vae.config.scaling_factor  # the condition is not scaled
        latents = torch.cat([torch.zeros_like(latents), latents])
        times = pipe._get_add_time_ids(_FPS - 1, _MOTION, _NOISE, dtype, 1, 1, True).to(device)
        return latents[:, None].repeat(1, frames, 1, 1, 1).to(dtype), context, times

    def _shape(self, query: ViewQuery) -> tuple[int, ...]:
        factor, channels = self.pipeline.vae_scale_factor, self.pipeline.unet.config.in_channels // 2
        return (1, len(query), channels, query.target_cams.height // factor, query.target_cams.width // factor)

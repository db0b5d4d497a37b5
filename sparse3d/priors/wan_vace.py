"""Wan2.1-VACE: a video model trained to complete masked videos with reference pictures. Apache-2.0."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sparse3d.models.registry import lookup
from sparse3d.priors.base import OnStep, PriorCaps, Provenance, ViewQuery, ViewSamples
from sparse3d.priors.guidance import KEPT, grown, to_groups
from sparse3d.priors.lora import Lora, has_attention
from sparse3d.priors.pipelines import as_pil, load_pipeline, repo_of, stopping, weights_of
from sparse3d.priors.wan_score import WanScore

MODELS = ("wan-vace",)
MEMORY_GB = 8.0
SCORE = True

_PROMPT = "a static scene, the camera moves slowly, no people"
_NEGATIVE = "moving objects, people, flicker, blur, text, watermark"
_GREY = 0.5  # what holes are in its training videos
_REFERENCES = 3
_INVENTED = 0.5  # confidence of what the model drew itself


class WanVace:
    """All-in-one video creation and editing (Jiang et al. 2025, arXiv:2503.07598), as completion of the renders' holes.

    The renders are the video, grey where they are not trusted, and there the mask is white: to be drawn. Known frames have a black mask, the
    nearest photos are its references. It has no way to start from noised renders, so `strength` has no meaning here.
    """

    def __init__(
        self,
        pipeline: Any,
        weights: str = "",
        *,
        steps: int = 30,
        guidance: float = 5.0,
    ) -> None:
        """Takes a WanVACEPipeline.

        Args:
            pipeline: On its device.
            weights: Hub id or folder, for the record; the published ones when empty.
            steps: When a call names none.
            guidance: Away from the negative prompt.
        """
        self.pipeline, self.steps, self.scale = pipeline, steps, guidance
        self.cell = int(pipeline.vae_scale_factor_spatial)
        self._lora: Lora | None = None
        self.group = group = int(pipeline.vae_scale_factor_temporal)
        self.caps = PriorCaps(
            name="wan-vace",
            licence=lookup(MODELS[0]).licence,
            commercial=True,
            weights=weights or repo_of(MODELS[0]),
            multiple=self.cell * int(pipeline.transformer.config.patch_size[1]),
            frames=(1 + group, 1 + 20 * group, group),
            max_cond=_REFERENCES,
            uses=frozenset({"render", "prompt"}),
            min_vram_gb=MEMORY_GB,
            pixels=480 * 832,
            score=True,
            seconds=240,
            seconds_on="an RTX 4090, by the authors of Wan2.1 for 81 frames without control",
        )

    @classmethod
    def load(cls, weights: str, warn: Callable[[str], None]) -> WanVace:
        """From a hub id or a folder; the published ones of 1.3 billion parameters when empty.

        Raises:
            UserError: they are missing or another model's.
        """
        dtype = {"default": torch.bfloat16, "vae": torch.float32}  # the text encoder overflows in float16
        return cls(load_pipeline("WanVACEPipeline", weights_of(MODELS[0], weights), warn, dtype=dtype), weights)

    @torch.no_grad()
    def generate(
        self, query: ViewQuery, *, strength: float = 1.0, steps: int | None = None, on_step: OnStep | None = None
    ) -> ViewSamples:
        """As `ViewPrior.generate`. The confidence is that of the renders where they are kept, and 0.5 elsewhere."""
        began, steps = time.monotonic(), steps or self.steps
        video, holes = self.masked(query)
        photos = query.nearest_photos(
            1 + (len(query) - 1) // self.group
        ).cond_rgb  # the pipeline takes no more than latent frames
        result = self.pipeline(
            video=[as_pil(frame) for frame in video],
            mask=[as_pil(hole.expand(3, -1, -1)) for hole in holes],
            reference_images=[as_pil(photo) for photo in photos],
            height=query.target_cams.height,
            width=query.target_cams.width,
            num_frames=len(query),
            num_inference_steps=steps,
            guidance_scale=self.scale,
            generator=torch.Generator().manual_seed(query.seed),
            output_type="pt",
            callback_on_step_end=stopping(on_step, steps),
            prompt=query.prompt or _PROMPT,
            negative_prompt=_NEGATIVE,
        )
        rgb = result.frames[0].float().clamp(0, 1).cpu()
        conf = torch.full_like(rgb[:, :1], _INVENTED)
        if query.render_conf is not None:
            conf = torch.where(holes > 0, conf, query.render_conf)
        meta = Provenance("wan-vace", self.caps.weights, self.caps.licence, query.seed, steps, time.monotonic() - began)
        return ViewSamples(rgb, conf, meta)

    def bind(self, query: ViewQuery) -> WanScore:
        """Encodes renders, mask and words. The targets are the views of one clip, as many as `caps.frames` allows."""
        return WanScore(self, query, (query.prompt or _PROMPT, _NEGATIVE))

    def lora(self) -> Lora | None:
        """The addition to the transformer, made at the first call; None where it has no attention."""
        if self._lora is None and has_attention(self.pipeline.transformer):
            self._lora = Lora(self.pipeline.transformer, int(self.pipeline.transformer.config.text_dim))
        return self._lora

    def masked(self, query: ViewQuery) -> tuple[Tensor, Tensor]:
        """The video with grey holes (F, 3, H, W), and where they are (F, 1, H, W): a latent cell wider than what is not trusted.

        Frames that the VAE puts into one share their holes: the pipeline looks at the mask of one of them, and must not keep what is grey in another.
        """
        if query.render_rgb is None or query.render_conf is None:
            size = (len(query), 1, query.target_cams.height, query.target_cams.width)
            return torch.full((size[0], 3, *size[2:]), _GREY), torch.ones(size)
        holes = grown((query.render_conf < KEPT).float(), self.cell)
        holes = torch.cat([holes[:1], -to_groups(-holes, self.group)[1:].repeat_interleave(self.group, 0)])
        return torch.where(holes > 0, _GREY, query.render_rgb), holes

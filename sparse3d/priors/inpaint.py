"""Any inpainting model of diffusers, one view after the other: what little GPUs can run."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.models.registry import lookup
from sparse3d.priors.base import OnStep, PriorCaps, Provenance, ViewQuery, ViewSamples
from sparse3d.priors.guidance import KEPT, filled, grown
from sparse3d.priors.inpaint_score import InpaintScore, has_score
from sparse3d.priors.lora import Lora, has_attention
from sparse3d.priors.pipelines import as_pil, load_pipeline, repo_of, stopping, weights_of

MODELS = ("sd-inpainting",)
MEMORY_GB = 4.0
SCORE = True  # of UNets; not of transformers

_PROMPT = "a photo"
_NEGATIVE = "people, text, watermark, frame, blur"
_SIZE = 1024  # that transformers were trained at, which do not say
_INVENTED = 0.4  # confidence of what was drawn without regard to other views


class Inpaint:
    """Fills the holes of each render (as LucidDreamer, arXiv:2311.13384, and Text2Room, arXiv:2303.11989, do), and keeps the rest as it is.

    Views know nothing of each other, so that they may fill one hole differently; what does not agree is left out later. `strength` is the
    pipeline's own: 1 draws holes from noise, less from the colours around them.
    """

    def __init__(self, pipeline: Any, weights: str = "", *, steps: int = 30) -> None:
        """Takes a pipeline whose call has `image` and `mask_image`.

        Args:
            pipeline: On its device.
            weights: Hub id or folder, for the record; the published ones when empty.
            steps: When a call names none.

        Raises:
            UserError: it is no inpainting pipeline.
        """
        self.pipeline, self.steps = pipeline, steps
        self.takes = frozenset(inspect.signature(pipeline.__call__).parameters)
        if not {"image", "mask_image"} <= self.takes:
            raise UserError(
                f"{weights or repo_of(MODELS[0])} is a {type(pipeline).__name__}, which fills no holes. Give the weights of an inpainting model"
            )
        self._lora: Lora | None = None
        self.cell = int(pipeline.vae_scale_factor)
        unet = getattr(pipeline, "unet", None)
        size = int(unet.config.sample_size) * self.cell if unet is not None else _SIZE
        published = lookup(MODELS[0])
        self.caps = PriorCaps(
            name="inpaint",
            licence=published.licence if not weights else "that of its weights",
            commercial=True,
            weights=weights or repo_of(MODELS[0]),
            multiple=2 * self.cell,
            frames=(1, 1, 1),
            max_cond=1,
            uses=frozenset({"render", "prompt"}),
            min_vram_gb=MEMORY_GB,
            pixels=size * size,
            score=has_score(pipeline),
        )

    @classmethod
    def load(cls, weights: str, warn: Callable[[str], None]) -> Inpaint:
        """From a hub id or a folder of any inpainting pipeline; Stable Diffusion 1.5's when empty.

        Raises:
            UserError: they are missing or no inpainting pipeline's.
        """
        return cls(load_pipeline("DiffusionPipeline", weights_of(MODELS[0], weights), warn), weights)

    @torch.no_grad()
    def generate(
        self, query: ViewQuery, *, strength: float = 1.0, steps: int | None = None, on_step: OnStep | None = None
    ) -> ViewSamples:
        """As `ViewPrior.generate`. The confidence is that of the renders where they are kept, and 0.4 elsewhere.

        Raises:
            ValueError: the query has no renders.
        """
        if query.render_rgb is None or query.render_conf is None:
            raise ValueError("inpainting fills the holes of renders; give render_rgb and render_conf")
        began, steps = time.monotonic(), steps or self.steps
        holes = grown((query.render_conf < KEPT).float(), self.cell)
        rgb, calls = query.render_rgb.clone(), 0
        hinted = filled(query.render_rgb, query.render_conf)
        for frame in range(len(query)):
            if holes[frame].any():
                drawn = self._drawn(hinted[frame], holes[frame], query, frame, strength, steps, on_step)
                rgb[frame] = _composed(query.render_rgb[frame], drawn, holes[frame], self.cell)
                calls += steps
        conf = torch.where(holes > 0, torch.full_like(holes, _INVENTED), query.render_conf)
        meta = Provenance("inpaint", self.caps.weights, self.caps.licence, query.seed, calls, time.monotonic() - began)
        return ViewSamples(rgb, conf, meta)

    def bind(self, query: ViewQuery) -> InpaintScore:
        """Encodes the words, and the renders without their holes.

        Raises:
            UserError: the pipeline's network is none whose score is known.
        """
        if not self.caps.score:
            raise UserError(
                f"{self.caps.weights} is a {type(self.pipeline).__name__}, whose score is not known here. Give weights of the kind of Stable "
                "Diffusion 1.5, or take --regularizer refresh"
            )
        return InpaintScore(self.pipeline, query, (query.prompt or _PROMPT, _NEGATIVE), self.cell, self.lora)

    def lora(self) -> Lora | None:
        """The addition to the UNet, made at the first call; None where it has no attention."""
        if self._lora is None and has_attention(self.pipeline.unet):
            self._lora = Lora(self.pipeline.unet, int(self.pipeline.unet.config.cross_attention_dim))
        return self._lora

    def _drawn(
        self,
        hinted: Tensor,
        hole: Tensor,
        query: ViewQuery,
        frame: int,
        strength: float,
        steps: int,
        on_step: OnStep | None,
    ) -> Tensor:
        """One picture (3, H, W)."""
        options = {
            "negative_prompt": _NEGATIVE,
            "strength": strength,
            "height": query.target_cams.height,
            "width": query.target_cams.width,
            "callback_on_step_end": stopping(on_step, steps),
        }
        result = self.pipeline(
            prompt=query.prompt or _PROMPT,
            image=as_pil(hinted),
            mask_image=as_pil(hole.expand(3, -1, -1)),
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(query.seed + frame),
            output_type="pt",
            **{name: value for name, value in options.items() if name in self.takes},
        )
        picture: Tensor = result.images[0].float().clamp(0, 1).cpu()
        return picture


def _composed(render: Tensor, drawn: Tensor, hole: Tensor, cell: int) -> Tensor:
    """The render with its hole filled; half a cell's seam, outside of what is not trusted."""
    share = F.avg_pool2d(hole[None], 2 * (cell // 2) + 1, 1, cell // 2, count_include_pad=False)[0]
    return render + share * (drawn - render)

"""Priors that know too much or nothing: what densification can gain at best, and has to bear."""

from __future__ import annotations

import math
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse3d.priors.base import OnStep, PriorCaps, Provenance, Stopped, ViewQuery, ViewSamples

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _caps(name: str, score: bool = False) -> PriorCaps:
    uses = frozenset({"cameras"})
    return PriorCaps(
        name, "none", True, None, multiple=1, frames=(1, 1, 1), max_cond=12, uses=uses, verified=True, score=score
    )


class Oracle:
    """Draws the room of examples/ as it is, by the ray caster that made its photos, without noise, blur and vignetting.

    Args:
        corruption: Standard deviation of noise that is the same over 8 x 8 pixels and anew in each view: what looks right and is not the same twice.
    """

    def __init__(self, corruption: float = 0.0) -> None:
        self.caps = _caps("oracle" if corruption == 0 else f"oracle +-{corruption:g}", score=True)
        self.corruption = corruption

    def bind(self, query: ViewQuery) -> OracleScore:
        """Draws the targets."""
        return OracleScore(self.generate(query).rgb)

    def generate(
        self, query: ViewQuery, *, strength: float = 1.0, steps: int | None = None, on_step: OnStep | None = None
    ) -> ViewSamples:
        """As `ViewPrior.generate`; the query's world is that of examples/ground_truth, in metres."""
        scene, caster, maker = _room()
        sensor, pictures = maker.Sensor(), []
        generator = torch.Generator().manual_seed(query.seed)
        cameras = query.target_cams
        for c2w, K in zip(cameras.c2w, cameras.K, strict=True):
            camera = caster.Camera(c2w.double().numpy(), float(K[0, 0]), cameras.width, cameras.height)
            light = scene.render(camera, samples=1) * sensor.exposure
            rgb = torch.from_numpy(np.ascontiguousarray(maker.to_srgb(light).transpose(2, 0, 1)))
            pictures.append(rgb + self.corruption * _blocks(rgb, generator))
        if on_step is not None and not on_step(1, 1):
            raise Stopped
        rgb = torch.stack(pictures).clamp(0, 1)
        meta = Provenance(self.caps.name, None, "none", query.seed, 1, 0.0)
        return ViewSamples(rgb, torch.ones_like(rgb[:, :1]), meta)


class OracleScore:
    """The score of a distribution that has nothing but the truth, in pixels: whatever the noise, the clean picture is known."""

    def __init__(self, truth: Tensor) -> None:
        """Takes the targets' pictures (T, 3, H, W)."""
        self.truth = truth

    def encode(self, rgb: Tensor, *, grad: bool) -> Tensor:
        """The same."""
        return rgb if grad else rgb.detach()

    def decode(self, z: Tensor) -> Tensor:
        """The same."""
        return z

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Variance preserving: cosine and sine of a quarter turn."""
        return torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)

    def predict_x0(self, z_t: Tensor, t: Tensor, idx: Tensor, *, guidance: float | None = None) -> Tensor:
        """The truth."""
        return self.truth[idx].to(z_t)

    def lora(self) -> None:
        """None."""
        return


class Noise:
    """Draws noise and is sure of it."""

    caps = _caps("noise")

    def generate(
        self, query: ViewQuery, *, strength: float = 1.0, steps: int | None = None, on_step: OnStep | None = None
    ) -> ViewSamples:
        """As `ViewPrior.generate`."""
        size = (len(query), 3, query.target_cams.height, query.target_cams.width)
        rgb = torch.rand(size, generator=torch.Generator().manual_seed(query.seed))
        return ViewSamples(rgb, torch.ones_like(rgb[:, :1]), Provenance("noise", None, "none", query.seed))


def _blocks(rgb: Tensor, generator: torch.Generator) -> Tensor:
    coarse = torch.randn(1, 3, -(-rgb.shape[1] // 8), -(-rgb.shape[2] // 8), generator=generator)
    return torch.nn.functional.interpolate(coarse, rgb.shape[1:], mode="nearest")[0]


@cache
def _room() -> tuple[Any, Any, Any]:
    """The scene, the ray caster's module and that of the photos."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        import make_photos
        import raycast
    finally:
        sys.path.remove(str(EXAMPLES))
    baking = raycast.Baking(texel_m=0.06, lamp_side=3, ambient_rays=16)
    return make_photos.build_room(texel_m=0.006, baking=baking), raycast, make_photos

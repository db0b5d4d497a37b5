"""Render guidance: a video prior is held to what the scene already shows, wherever that may be trusted.

At each step of a sampler the predicted clean latents x0 are pulled to the encoded renders z where these are trusted,

    x0 <- x0 + lam(sigma) m (z - x0),

as in ViewExtrapolator (Liu et al. 2024, arXiv:2411.14208) and NVS-Solver (You et al. 2024, arXiv:2405.15364). No sampler is rewritten for it: a step of
EulerDiscrete, whatever it predicts, and of FlowMatchEuler is prev = x0 + r (x - x0) with r = sigma_next / sigma, so that x0 can be
read off x and prev, and prev be corrected (`Guidance.corrected`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.priors.base import ViewQuery
from sparse3d.push_pull import push_pull

KEPT = 0.9  # trust from which a pixel of a render is held on to by priors that know only yes and no


@dataclass(frozen=True)
class Schedule:
    """How much renders count at a noise level: fully above `high`, not at all below `low`, smoothly in log sigma between."""

    high: float = 6.0  # for renders with artefacts; about 2 for clean warps of one photo
    low: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise ValueError(f"guidance ends between sigma {self.high:g} and {self.low:g}; needed 0 < low <= high")

    def __call__(self, sigma: float) -> float:
        """lam in [0, 1]."""
        if sigma >= self.high:
            return 1.0
        if sigma <= self.low:
            return 0.0
        share = math.log(sigma / self.low) / math.log(self.high / self.low)
        return share * share * (3 - 2 * share)


@dataclass(frozen=True)
class Guidance:
    """Encoded renders with their trust on the latent grid. Frames come first after the batch: (1, F, c, h, w) and (1, F, 1, h, w)."""

    latents: Tensor  # z, scaled as the sampler's
    mask: Tensor  # m in [0, 1]
    known: Tensor  # (F,) bool, frames that are held to the end: photos
    schedule: Schedule
    quantile: Callable[[float], float] | None = (
        None  # NVS-Solver: the share of trusted cells, of sigma, that are nearest to their x0
    )

    def pulled(self, x0: Tensor, sigma: float) -> Tensor:
        """x0 with what is trusted at this noise level replaced."""
        lam = torch.where(self.known, 1.0, self.schedule(sigma)).to(x0)[None, :, None, None, None]
        mask = self.mask
        if self.quantile is not None:
            mask = mask * _nearest(x0, self.latents, self.mask, self.quantile(sigma))
        return x0 + lam * mask * (self.latents - x0)

    def corrected(self, x: Tensor, prev: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """What an Euler step from sigma to sigma_next would have given, had its x0 been pulled.

        Args:
            x: Latents before the step.
            prev: And after it.
            sigma: Noise level before, above sigma_next.
            sigma_next: And after.
        """
        r = sigma_next / sigma
        x0 = (prev - r * x) / (1 - r)
        return prev + (1 - r) * (self.pulled(x0, sigma) - x0)


def _nearest(x0: Tensor, latents: Tensor, mask: Tensor, share: float) -> Tensor:
    """1 in that share of each frame's trusted cells where latents are nearest to x0, else 0. (1, F, 1, h, w)"""
    apart = (latents - x0).abs().mean(2, keepdim=True)
    kept = torch.zeros_like(mask)
    for frame in range(mask.shape[1]):
        trusted = mask[0, frame] > 0
        if trusted.any():
            limit = apart[0, frame][trusted].quantile(min(1.0, max(0.0, share)))
            kept[0, frame] = (trusted & (apart[0, frame] <= limit)).to(mask)
    return kept


def on_step_end(
    guidance: Guidance, noise: Tensor, *, scaled: bool = True
) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    """Guidance as `callback_on_step_end` of a diffusers pipeline with an Euler scheduler.

    Args:
        guidance: In the order of the pipeline's latents.
        noise: What is given to the pipeline as `latents`, before the scheduler scales it.
        scaled: Whether the scheduler does.
    """
    before: list[Tensor] = []

    def callback(pipeline: Any, index: int, _: Any, values: dict[str, Any]) -> dict[str, Any]:
        scheduler = pipeline.scheduler
        x = before.pop() if before else noise.to(values["latents"]) * (scheduler.init_noise_sigma if scaled else 1.0)
        sigma, sigma_next = (float(value) for value in scheduler.sigmas[index : index + 2])
        latents = guidance.corrected(x, values["latents"], sigma, sigma_next)
        before.append(latents)
        return {"latents": latents}

    return callback


def to_cells(trust: Tensor, factor: int, erosion: int = 0) -> Tensor:
    """Trust on the grid of a VAE that shrinks by a factor: that of the least trusted pixel below each cell.

    A mean would let the filling of holes into cells that are held on to.

    Args:
        trust: (F, 1, H, W) in [0, 1]; H and W are multiples of the factor.
        factor: Pixels per cell.
        erosion: Cells by which trusted areas shrink on all sides.

    Returns:
        (F, 1, H / factor, W / factor)
    """
    cells = -F.max_pool2d(-trust, factor)
    return -F.max_pool2d(-cells, 2 * erosion + 1, 1, erosion) if erosion else cells


def to_groups(cells: Tensor, group: int) -> Tensor:
    """Trust of the frames of a causal video VAE: of the first alone, then the least of each group.

    Args:
        cells: (1 + k group, 1, h, w)
        group: Frames per latent frame: 4 of Wan, 8 of LTX and SANA.

    Returns:
        (1 + k, 1, h, w)
    """
    if (len(cells) - 1) % group:
        raise ValueError(f"{len(cells)} frames, needed 1 + a multiple of {group}")
    rest = cells[1:].reshape(-1, group, *cells.shape[1:]).amin(1)
    return torch.cat([cells[:1], rest])


def filled(rgb: Tensor, trust: Tensor) -> Tensor:
    """Renders whose holes take the colours around them: a VAE sees a hundred pixels, and black ones would reach far. (F, 3, H, W), (F, 1, H, W)"""
    return torch.stack([push_pull(picture, weight[0]) for picture, weight in zip(rgb, trust, strict=True)])


def grown(holes: Tensor, pixels: int) -> Tensor:
    """Holes (F, 1, H, W) of 0 and 1, grown by so many pixels to all sides."""
    return F.max_pool2d(holes, 2 * pixels + 1, 1, pixels)


def first_picture(query: ViewQuery) -> Tensor:
    """The picture that a video begins with, in 8 bits: the first target where it is known, else the nearest photo. (3, H, W)"""
    if query.render_rgb is not None and bool(query.known[0]):
        photo = query.render_rgb[0]
    else:
        photo = query.cond_rgb[nearest_photo(query)]
    return (photo.clamp(0, 1) * 255 + 0.5).floor() / 255


def nearest_photo(query: ViewQuery) -> int:
    """Which photo was taken nearest to the first target."""
    apart = (query.cond_cams.c2w[:, :3, 3] - query.target_cams.c2w[0, :3, 3]).norm(dim=1)
    return int(apart.argmin())

"""Losses by which a prior's score moves a picture: SDS, SDI, VSD and the sample loss, all by `BoundScore.predict_x0` alone.

Notation: z0 the encoded render; z_t = a z0 + s n with noise n and (a, s) = `alpha_sigma(t)`; x0(z_t) the prior's mean of clean latents, so that the
noise it sees is e(z_t) = (z_t - a x0) / s. Each of `sds`, `sdi` and `vsd` gives a gradient g in z0; `pull` is a loss that has it. In none of them is the
network differentiated. Gradients are weighed by the variance of the noise where the noisy latents are scaled to variance a^2 + s^2 = 1, so that
conventions (variance preserving, rectified flow, EDM) do not matter.

Cost in calls of `predict_x0` per step: `sds` 1, `sdi` 11, `vsd` 2 and one more with a backward pass for its LoRA, `sampled` as many as its steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.priors.base import BoundScore, LoraHandle

INVERSION_STEPS = 10  # of SDI
INVERSION_ETA = 0.3
INVERSION_GUIDANCE = -7.5
SAMPLE_STEPS = 10  # of the sample loss

_DETAIL = 0.1  # weight of neighbouring pixels' differences in the sample loss
_DETAIL_SIZES = 3  # each half the one before


@dataclass(frozen=True)
class Levels:
    """Noise levels t in [0, 1] that steps draw from, evenly, and where both ends of the range go over the optimization, linearly."""

    low: tuple[float, float]  # at its begin and at its end
    high: tuple[float, float]

    def at(self, progress: float) -> tuple[float, float]:
        """Lowest and highest level at a progress in [0, 1]."""
        low, high = (ends[0] + (ends[1] - ends[0]) * progress for ends in (self.low, self.high))
        return low, high

    def drawn(self, progress: float, generator: torch.Generator) -> float:
        """One level."""
        low, high = self.at(progress)
        return low + (high - low) * float(torch.rand((), generator=generator))


# DreamFusion (arXiv:2209.14988) draws t from [0.02, 0.98] throughout; ProlificDreamer (arXiv:2305.16213) and its code lower the end to 0.5 in the
# second part of the optimization, linearly here, for SDS as well; SDI (arXiv:2405.15891) lowers t itself; ReconFusion (arXiv:2312.02981) draws from
# [t_min, 1] with t_min from 1 to 0: nearly free samples first, then any.
LEVELS = {
    "sds": Levels((0.02, 0.02), (0.98, 0.5)),
    "vsd": Levels((0.02, 0.02), (0.98, 0.5)),
    "sdi": Levels((0.98, 0.02), (0.98, 0.02)),
    "sample": Levels((1.0, 0.02), (1.0, 1.0)),
}


class Denoiser:
    """A bound score for some of its targets. It counts its calls, and finds answers that are no numbers."""

    def __init__(self, score: BoundScore, idx: Tensor) -> None:
        """For targets `idx` (n,) long."""
        self.score, self.idx, self.calls = score, idx, 0

    def levels(self, t: float) -> tuple[float, float]:
        """a and s."""
        alpha, sigma = self.score.alpha_sigma(torch.tensor([t]))
        return float(alpha), float(sigma)

    def noisy(self, z0: Tensor, t: float, noise: Tensor) -> Tensor:
        """z_t"""
        alpha, sigma = self.levels(t)
        return alpha * z0 + sigma * noise

    def x0(self, z_t: Tensor, t: float, guidance: float | None = None) -> Tensor:
        """The prior's mean of clean latents, like z_t.

        Raises:
            ValueError: it has another shape, or values that are not numbers.
        """
        self.calls += 1
        found = self.score.predict_x0(z_t, torch.full((len(self.idx),), t), self.idx, guidance=guidance)
        if found.shape != z_t.shape:
            raise ValueError(f"the prior's score has shape {tuple(found.shape)}, needed {tuple(z_t.shape)}")
        if not found.isfinite().all():
            raise ValueError("the prior's score has values that are not numbers")
        return found


def _weight(alpha: float, sigma: float) -> float:
    """w(t) a / s with w(t) = s^2, of latents scaled to a^2 + s^2 = 1: what turns a difference of x0 into a gradient."""
    return alpha * sigma / (alpha * alpha + sigma * sigma)


@torch.no_grad()
def sds(denoiser: Denoiser, z0: Tensor, t: float, noise: Tensor, guidance: float | None = None) -> Tensor:
    """Score distillation sampling: g = w(t) (e(z_t) - n) = w(t) (a / s) (z0 - x0), w = s^2. DreamFusion (arXiv:2209.14988), eq. 3.

    Args:
        denoiser: Of the render's targets.
        z0: (n, c, h, w) encoded render.
        t: Noise level.
        noise: n, like z0.
        guidance: Away from no conditions; the prior's own when None. The paper has 100 for text alone.
    """
    return _weight(*denoiser.levels(t)) * (z0 - denoiser.x0(denoiser.noisy(z0, t, noise), t, guidance))


@torch.no_grad()
def sdi(
    denoiser: Denoiser,
    z0: Tensor,
    t: float,
    generator: torch.Generator,
    guidance: float | None = None,
    *,
    steps: int = INVERSION_STEPS,
    eta: float = INVERSION_ETA,
    inversion_guidance: float = INVERSION_GUIDANCE,
) -> Tensor:
    """Score distillation via inversion: g = z0 - x0(z_t), with the noise that DDIM finds in z0. Lukoianov et al. 2024 (arXiv:2405.15891), algorithm 1.

    Args:
        denoiser, z0, t, guidance: As of `sds`; the paper has guidance 7.5 and lowers t linearly.
        generator: Of the noise that the inversion adds; on the CPU.
        steps, eta, inversion_guidance: As of `inverted`; defaults are the paper's.
    """
    z_t = inverted(denoiser, z0, t, generator, steps=steps, eta=eta, guidance=inversion_guidance)
    return z0 - denoiser.x0(z_t, t, guidance)


@torch.no_grad()
def inverted(
    denoiser: Denoiser,
    z0: Tensor,
    t: float,
    generator: torch.Generator,
    *,
    steps: int = INVERSION_STEPS,
    eta: float = 0.0,
    guidance: float | None = None,
) -> Tensor:
    """The noisy latents from which DDIM (arXiv:2010.02502) comes back to z0: its steps the other way, in even steps of t.

    Args:
        denoiser: Of the targets.
        z0: Clean latents.
        t: Level to go to.
        generator: Of new noise.
        steps: Calls of the network.
        eta: Share of DDIM's own noise that each step adds, the variance kept; 0: none.
        guidance: Of these calls.
    """
    x, before = denoiser.noisy(z0, t / (2 * steps), _randn(z0, generator)), t / (2 * steps)
    for level in torch.linspace(t / steps, t, steps).tolist():
        (alpha, sigma), (alpha_next, sigma_next) = denoiser.levels(before), denoiser.levels(level)
        x0 = denoiser.x0(x, before, guidance)
        direction = (x - alpha * x0) / max(sigma, 1e-8)
        fresh = eta * math.sqrt(max(0.0, 1 - (_signal(alpha_next, sigma_next) / _signal(alpha, sigma)) ** 2))
        mixed = math.sqrt(1 - fresh * fresh) * direction + fresh * _randn(z0, generator)
        x, before = alpha_next * x0 + sigma_next * mixed, level
    return x


def _signal(alpha: float, sigma: float) -> float:
    """a of latents scaled to a^2 + s^2 = 1."""
    return alpha / math.hypot(alpha, sigma)


@torch.no_grad()
def vsd(
    denoiser: Denoiser, lora: LoraHandle, z0: Tensor, t: float, noise: Tensor, guidance: float | None = None
) -> Tensor:
    """Variational score distillation: g = w(t) (e(z_t) - e_lora(z_t)), w = s^2. ProlificDreamer (arXiv:2305.16213), eq. 9.

    Args:
        denoiser, z0, t, noise, guidance: As of `sds`; the paper has guidance 7.5.
        lora: The prior's low-rank addition, trained by `lora_loss` on renders; without guidance.
    """
    z_t = denoiser.noisy(z0, t, noise)
    lora.off()
    prior = denoiser.x0(z_t, t, guidance)
    lora.on()
    rendered = denoiser.x0(z_t, t, 1.0)
    lora.off()
    return _weight(*denoiser.levels(t)) * (rendered - prior)


def lora_loss(denoiser: Denoiser, lora: LoraHandle, z0: Tensor, t: float, noise: Tensor) -> Tensor:
    """What the addition is trained by: the mean of |e_lora(z_t) - n|^2 = (a / s)^2 |x0_lora - z0|^2, at most 25 |x0_lora - z0|^2. ProlificDreamer, eq. 10.

    Its camera is told in a token of its own and never left out (the paper leaves it out in a tenth of the steps, for guidance that is 1 here).
    """
    alpha, sigma = denoiser.levels(t)
    lora.on()
    found = denoiser.x0(denoiser.noisy(z0, t, noise), t, 1.0)
    lora.off()
    return min((alpha / max(sigma, 1e-8)) ** 2, 25.0) * (found - z0).square().mean()


@torch.no_grad()
def sampled(denoiser: Denoiser, z_t: Tensor, t: float, steps: int, guidance: float | None = None) -> Tensor:
    """Clean latents by DDIM without noise (arXiv:2010.02502, eq. 12), in even steps from t down to 0: z' = a' x0 + s' e."""
    levels = torch.linspace(t, 0, steps + 1).tolist()
    for level, following in pairwise(levels):
        x0 = denoiser.x0(z_t, level, guidance)
        if following == 0:
            return x0
        (alpha, sigma), (alpha_next, sigma_next) = denoiser.levels(level), denoiser.levels(following)
        z_t = alpha_next * x0 + sigma_next / sigma * (z_t - alpha * x0)
    raise ValueError(f"{steps} steps, needed at least 1")


def pull(z: Tensor, gradient: Tensor) -> Tensor:
    """A loss whose gradient in z is the given one over the number of values: |z - stop(z - g)|^2 / 2, the mean."""
    return 0.5 * (z - (z - gradient).detach()).square().mean()


def sample_loss(rgb: Tensor, sample: Tensor) -> Tensor:
    """Distance of a render and a sample (n, 3, H, W): L1, and L1 of neighbouring pixels' differences at three sizes.

    ReconFusion (arXiv:2312.02981, eq. 6) has LPIPS for the second, whose weights need not be here.
    """
    loss = (rgb - sample).abs().mean()
    for _ in range(_DETAIL_SIZES):
        for axis in (2, 3):
            if rgb.shape[axis] > 1:
                loss = loss + _DETAIL * (rgb.diff(dim=axis) - sample.diff(dim=axis)).abs().mean()
        if min(rgb.shape[2:]) < 4:
            break
        rgb, sample = F.avg_pool2d(rgb, 2), F.avg_pool2d(sample, 2)
    return loss


def _randn(like: Tensor, generator: torch.Generator) -> Tensor:
    """Noise of the CPU's generator, where and as `like` is."""
    return torch.randn(like.shape, generator=generator).to(like)

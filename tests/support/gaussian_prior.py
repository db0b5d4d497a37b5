"""A prior whose score is known in closed form: normal distributions, one for each target."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class GaussianScore:
    """A `BoundScore` of pixels or latents that are N(mean, std^2), each for itself.

    The mean of z0 given z_t is m + a v / (a^2 v + s^2) (z_t - a m), v = std^2 (Bayes' rule for two normal distributions).
    """

    def __init__(self, mean: Tensor, std: float, kind: str = "vp", trainable: bool = False) -> None:
        """Takes means (T, c, h, w). kind: vp, flow or edm."""
        self.mean, self.std, self.kind = mean, std, kind
        self.learned = GaussianLora(torch.zeros_like(mean), std) if trainable else None

    def encode(self, rgb: Tensor, *, grad: bool) -> Tensor:
        return rgb if grad else rgb.detach()

    def decode(self, z: Tensor) -> Tensor:
        return z

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        if self.kind == "flow":
            return 1 - t, t
        if self.kind == "edm":
            return torch.ones_like(t), 0.01 * (80 / 0.01) ** t
        return torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)

    def predict_x0(self, z_t: Tensor, t: Tensor, idx: Tensor, *, guidance: float | None = None) -> Tensor:
        alpha, sigma = (part.to(z_t)[:, None, None, None] for part in self.alpha_sigma(t))
        mean, std = self.mean[idx], self.std
        if self.learned is not None and self.learned.active:
            mean, std = self.learned.mean[idx], self.learned.std
        kept = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
        return mean + kept * (z_t - alpha * mean)

    def lora(self) -> GaussianLora | None:
        return self.learned


class GaussianLora:
    """A `LoraHandle`: a normal distribution whose mean is trained."""

    def __init__(self, mean: Tensor, std: float) -> None:
        self.mean, self.std, self.active = mean.requires_grad_(), std, False

    def parameters(self) -> list[Tensor]:
        return [self.mean]

    def on(self) -> None:
        self.active = True

    def off(self) -> None:
        self.active = False

"""Gaussians to write to files."""

from __future__ import annotations

import torch

from sparse3d.types import Gaussians


def typical(count: int = 600, degree: int = 3, seed: int = 0) -> Gaussians:
    """Gaussians as scenes have them: coefficients below 1, scales above exp(-9), a few of them nearly opaque or of pure colour."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    sh = torch.cat([normal(count, 1, 3), (0.2 * normal(count, (degree + 1) ** 2 - 1, 3)).clamp(-0.95, 0.95)], dim=1)
    sh[:, 0].clamp_(-1.7, 1.7)
    return Gaussians(
        3 * normal(count, 3), normal(count, 4), (normal(count, 3) - 4).clamp(-9, 5), 2.5 * normal(count), sh
    )

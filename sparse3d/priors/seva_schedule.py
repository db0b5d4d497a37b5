"""The noise levels of Stable Virtual Camera: a table of 1000, and a denoiser that knows only these (EDM, arXiv:2206.00364, table 1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

LEVELS = 1000
_SHIFT = 2.4  # more noise, for neighbouring views tell much about each other: sigma times exp(2.4)
STEP_UP = 1e-6  # noise added before each step


@cache
def _table() -> Tensor:
    betas = torch.linspace(5e-6**0.5, 0.012**0.5, LEVELS, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, dim=0)
    return ((1 - kept) / kept).sqrt() * torch.exp(torch.tensor(_SHIFT, dtype=torch.float64))


def all_sigmas() -> Tensor:
    """Every noise level that the network knows, rising. (1000,) float64"""
    return _table().clone()


def sampling_sigmas(steps: int) -> Tensor:
    """Noise levels to sample at, even in the table, and 0 at the end.

    Args:
        steps: 1 to 1000.

    Returns:
        (steps + 1,) float64, falling.

    Raises:
        ValueError: no steps, or more than there are levels.
    """
    if not 1 <= steps <= LEVELS:
        raise ValueError(f"steps is {steps}, needed 1 to {LEVELS}")
    index = [(LEVELS - 1) * (steps - done) // steps for done in range(steps)]
    return torch.cat([_table()[index], torch.zeros(1, dtype=torch.float64)])


def nearest_index(sigma: Tensor) -> Tensor:
    """The level in the table that is nearest to each sigma. (n,) -> (n,) long, on the same device"""
    found = (sigma.detach().cpu().double()[:, None] - _table()).abs().argmin(dim=1)
    return found.to(sigma.device)


def denoise(network: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigma: Tensor) -> Tensor:
    """Mean of the clean latents given noisy ones: c_skip x + c_out network(c_in x, index), for a network that predicts noise.

    Args:
        network: Of scaled latents (n, C, H, W) and levels (n,) long.
        x: (n, C, H, W)
        sigma: (n,), taken as the nearest level of the table.

    Returns:
        (n, C, H, W)
    """
    index = nearest_index(sigma)
    level = _table().to(device=x.device, dtype=x.dtype)[index.to(x.device)][:, None, None, None]
    return x - level * network(x / (level**2 + 1).sqrt(), index)  # c_skip 1, c_out -sigma, c_in 1 / sqrt(sigma^2 + 1)

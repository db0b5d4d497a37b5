"""Adding and moving Gaussians as samples: 3DGS-MCMC (Kheradmand et al. 2024, arXiv:2404.09591).

gsplat's MCMCStrategy does the same on a GPU; its relocation is a CUDA operator, so the formulas stand here in PyTorch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparse3d.config import OptimizeConfig
from sparse3d.geometry import rotation_from_quat
from sparse3d.optimize.parameters import NAMES, Parameters

DEAD_OPACITY = 0.005
GROWTH = 1.05  # the count may grow by a twentieth at each refinement
_MAX_COPIES = 51


def refine(parameters: Parameters, config: OptimizeConfig, generator: torch.Generator) -> None:
    """Moves dead Gaussians onto live ones and adds new ones, both drawn by opacity; draws nearly the same picture."""
    opacities = parameters.tensors["logit_opacities"].detach().sigmoid()
    dead = torch.nonzero(opacities <= DEAD_OPACITY)[:, 0]
    alive = torch.nonzero(opacities > DEAD_OPACITY)[:, 0]
    if len(alive) == 0:
        return
    if len(dead):
        chosen = alive[_draw(opacities[alive], len(dead), generator)]
        copies = _split(parameters, chosen)
        parameters.overwrite(
            dead,
            {name: tensor.detach()[chosen] for name, tensor in parameters.tensors.items()} | copies,
            parameters.decay[chosen],
        )
    target = min(config.max_gaussians, int(GROWTH * len(parameters)))
    added = target - len(parameters)
    if added > 0:
        opacities = parameters.tensors["logit_opacities"].detach().sigmoid()
        chosen = _draw(opacities, added, generator)
        copies = _split(parameters, chosen)
        parameters.append(
            {name: parameters.tensors[name].detach()[chosen] for name in NAMES} | copies, parameters.decay[chosen]
        )


def explore(parameters: Parameters, config: OptimizeConfig, means_lr: float, generator: torch.Generator) -> None:
    """Noise on the means along each Gaussian's own shape, strong where opacity is low (eq. 8 and 9)."""
    tensors = parameters.tensors
    with torch.no_grad():
        opacities = tensors["logit_opacities"].sigmoid()
        gate = torch.sigmoid(-100 * (opacities - DEAD_OPACITY))  # about 1 below the limit, 0 above
        spread = rotation_from_quat(tensors["quats"]) * tensors["log_scales"].exp()[:, None, :]
        noise = (
            torch.randn(len(parameters), 3, generator=generator, device=gate.device)
            * gate[:, None]
            * (config.noise * means_lr)
        )
        covariance = spread @ spread.transpose(1, 2)
        tensors["means"] += (covariance @ noise[:, :, None])[:, :, 0]


def relocation(opacities: Tensor, scales: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity and scale of each of n copies in one place that together look like the one they replace (eq. 9).

    Args:
        opacities: (M,)
        scales: (M, 3)
        copies: (M,) how many share the place, at least 1.

    Returns:
        (M,) and (M, 3).
    """
    copies = copies.clamp(1, _MAX_COPIES)
    new = 1 - (1 - opacities) ** (1 / copies)
    denominator = torch.zeros_like(opacities)
    for i in range(1, int(copies.max()) + 1):
        inner = torch.zeros_like(opacities)
        for k in range(i):
            inner += math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1) * new ** (k + 1)
        denominator += torch.where(i <= copies, inner, torch.zeros_like(inner))
    return new, (opacities / denominator)[:, None] * scales


def _draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return torch.multinomial(weights, count, replacement=True, generator=generator)


def _split(parameters: Parameters, chosen: Tensor) -> dict[str, Tensor]:
    """Gives every chosen Gaussian its share after being copied; returns what the copies take."""
    tensors = parameters.tensors
    unique, inverse, counts = torch.unique(chosen, return_inverse=True, return_counts=True)
    opacity, scale = relocation(
        tensors["logit_opacities"].detach()[unique].sigmoid(), tensors["log_scales"].detach()[unique].exp(), counts + 1
    )
    values = {"logit_opacities": torch.logit(opacity.clamp(DEAD_OPACITY, 1 - 1e-6)), "log_scales": scale.log()}
    parameters.overwrite(unique, values)
    return {name: value[inverse] for name, value in values.items()}

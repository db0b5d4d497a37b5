"""Adam that leaves rows without a gradient alone, in PyTorch, any device: the meaning of cpu_train.py.

Adam: Kingma and Ba 2015 (arXiv:1412.6980), algorithm 1. Selective as in Taming 3DGS (Mallick et al. 2024,
arXiv:2406.15643, section 4.3) and gsplat's SelectiveAdam: what a view does not show neither moves nor forgets.
"""

from __future__ import annotations

import torch
from torch import Tensor


def selective_adam(
    values: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    rates: Tensor,
    drawn: Tensor,
    step: int,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-15,
) -> None:
    """One step, in place, of the rows that are drawn.

    Args:
        values: (N, ...) parameters; changed.
        gradient: As `values`.
        mean: As `values`, running mean of the gradient; changed.
        square: As `values`, running mean of its square; changed.
        rates: (...) learning rate of each number of a row.
        drawn: (N,) bool; other rows are left as they are.
        step: How many steps were taken, this one included; for the bias correction.
        betas: Decay of the two means.
        eps: Added to the root of the square.
    """
    rows = drawn.nonzero()[:, 0]
    fresh = gradient[rows]
    first = mean[rows].lerp(fresh, 1 - betas[0])
    second = betas[1] * square[rows] + (1 - betas[1]) * fresh**2
    mean[rows], square[rows] = first, second
    root = torch.sqrt(second / (1 - betas[1] ** step))
    values[rows] -= rates / (1 - betas[0] ** step) * first / (root + eps)

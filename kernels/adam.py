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
    pick = _picks(values)
    rows = drawn.nonzero()[:, 0] if pick else slice(None)
    first = mean[rows].lerp(gradient[rows], 1 - betas[0])
    second = betas[1] * square[rows] + (1 - betas[1]) * gradient[rows] ** 2
    root = torch.sqrt(second / (1 - betas[1] ** step))
    change = rates / (1 - betas[0] ** step) * first / (root + eps)
    if not pick:
        shown = drawn.reshape(-1, *[1] * (values.ndim - 1))
        first, second = torch.where(shown, first, mean), torch.where(shown, second, square)
        change = torch.where(shown, change, 0.0)
    mean[rows], square[rows] = first, second
    values[rows] -= change


def _picks(values: Tensor) -> bool:
    """Whether to work on the drawn rows alone. How many they are a GPU knows only once it has come so far, and to wait for that costs it more
    than to work on all rows and put those back that are not drawn.
    """
    return values.device.type == "cpu"

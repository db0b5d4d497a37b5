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
    # how many rows are drawn a GPU knows only once it has come so far; to wait for that costs it more than to work on all rows
    form = rows_picked if values.device.type == "cpu" else rows_masked
    form(values, gradient, mean, square, rates, drawn, step, betas, eps)


def rows_picked(
    values: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    rates: Tensor,
    drawn: Tensor,
    step: int,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """`selective_adam` on the rows that are drawn alone."""
    rows = drawn.nonzero()[:, 0]
    first, second, change = _moved(gradient[rows], mean[rows], square[rows], rates, step, betas, eps)
    mean[rows], square[rows] = first, second
    values[rows] -= change


def rows_masked(
    values: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    rates: Tensor,
    drawn: Tensor,
    step: int,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """`selective_adam` on all rows, of which those that are not drawn are put back: nothing waits for the device."""
    rows = drawn.reshape(-1, *[1] * (values.ndim - 1))
    first, second, change = _moved(gradient, mean, square, rates, step, betas, eps)
    mean.copy_(torch.where(rows, first, mean))
    square.copy_(torch.where(rows, second, square))
    values.sub_(torch.where(rows, change, 0.0))


def _moved(
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    rates: Tensor,
    step: int,
    betas: tuple[float, float],
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The two means with a new gradient in them, and what to take off the values."""
    mean = mean.lerp(gradient, 1 - betas[0])
    square = betas[1] * square + (1 - betas[1]) * gradient**2
    root = torch.sqrt(square / (1 - betas[1] ** step))
    return mean, square, rates / (1 - betas[0] ** step) * mean / (root + eps)

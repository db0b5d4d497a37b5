"""The optimizer's step in C++, as adam.py means it. Chosen, forced and threaded as the rasterizer in cpu.py."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse3d.kernels.cpu import compiled


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
    """`sparse3d.kernels.adam.selective_adam`; what is not drawn is not even read.

    Args:
        values: (N, ...) parameters; changed. All tensors but `drawn` are float32 on the CPU and contiguous.
        gradient: As `values`.
        mean: As `values`, running mean of the gradient; changed.
        square: As `values`, running mean of its square; changed.
        rates: (...) learning rate of each number of a row.
        drawn: (N,) bool; other rows are left as they are.
        step: How many steps were taken, this one included; at least 1.
        betas: Decay of the two means, in [0, 1).
        eps: Added to the root of the square; positive.

    Raises:
        ValueError: a tensor has another shape, type or device or is not contiguous, or a number is out of its range.
    """
    for name, tensor in (("values", values), ("gradient", gradient), ("mean", mean), ("square", square)):
        if not tensor.is_contiguous():
            raise ValueError(f"{name} is not contiguous; the step is taken in place, so it cannot work on a copy")
    if drawn.dtype != torch.bool:
        raise ValueError(f"drawn is {drawn.dtype}, needed torch.bool")
    if step < 1:
        raise ValueError(f"step is {step}, needed 1 or more: the bias correction counts steps from 1")
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas are {betas}, needed numbers from 0 to below 1")
    if len(values) == 0:
        return
    compiled().selective_adam(
        *(tensor.detach().view(len(tensor), -1) for tensor in (values, gradient, mean, square)),
        (rates / (1 - betas[0] ** step)).reshape(-1).contiguous(),
        drawn.contiguous().view(torch.uint8),
        *betas,
        (1 - betas[1] ** step) ** -0.5,
        eps,
        torch.get_num_threads(),
    )

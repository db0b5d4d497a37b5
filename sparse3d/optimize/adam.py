"""The optimizer of Gaussians: Adam that skips those that a view does not show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sparse3d.kernels import adam, cpu, cpu_adam


class SelectiveAdam(torch.optim.Optimizer):
    """Adam over tensors with one row for each Gaussian (`sparse3d.kernels.adam.selective_adam`), one tensor a group."""

    def __init__(self, groups: list[dict[str, Any]], shares: dict[str, Tensor]) -> None:
        """Starts without moments.

        Args:
            groups: Each with `params` (one tensor), `lr` and `name`.
            shares: For groups whose numbers of a row do not all have the group's learning rate: what share of it each has.
        """
        super().__init__(groups, {"step": 0})
        self.shares = shares

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None, *, drawn: Tensor | None = None) -> None:  # type: ignore[override]
        """Moves the rows that are drawn against their gradient, in tensors that have one.

        Args:
            closure: Not supported.
            drawn: (N,) bool; all rows when None.
        """
        assert closure is None
        for group in self.param_groups:
            (values,) = group["params"]
            if values.grad is None:
                continue
            state = self.state[values]
            if not state:
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(values), torch.zeros_like(values)
            group["step"] += 1
            share = self.shares.get(group["name"])
            rates = group["lr"] * (values.new_ones(values.shape[1:]) if share is None else share.to(values))
            update = cpu_adam.selective_adam if cpu.takes(values) else adam.selective_adam
            update(
                values,
                values.grad,
                state["exp_avg"],
                state["exp_avg_sq"],
                rates,
                values.new_ones(len(values), dtype=torch.bool) if drawn is None else drawn,
                group["step"],
            )

"""The optimizer of Gaussians: Adam that skips those that a view does not show."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse3d.kernels import adam, cpu


def room_like(tensor: Tensor) -> Tensor:
    """An uninitialized tensor of this shape, type and device, where the kernels that work on it are fastest."""
    return cpu.empty(tensor.shape) if cpu.takes(tensor) else torch.empty_like(tensor)


@dataclass
class Moments:
    """Running means of a parameter's gradient and of its square, each like the parameter."""

    mean: Tensor
    square: Tensor

    @classmethod
    def zeros_like(cls, tensor: Tensor) -> Moments:
        """Those before the first step."""
        return cls(*(room_like(tensor).zero_() for _ in range(2)))


class SelectiveAdam:
    """Adam over tensors with one row for each Gaussian (`sparse3d.kernels.adam.selective_adam`).

    Not a torch.optim.Optimizer: making the first one imports PyTorch's compiler, which takes longer than a small scene.
    """

    def __init__(self, tensors: dict[str, Tensor], rates: dict[str, Tensor]) -> None:
        """Starts without moments.

        Args:
            tensors: Leaf tensors (N, ...) by name; the caller may put others in their place.
            rates: Learning rates of the numbers of a row, (...) for each name; may be changed between steps.
        """
        self.tensors = tensors
        self.rates = rates
        self.moments = {name: Moments.zeros_like(tensor) for name, tensor in tensors.items()}
        self.steps = 0

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for tensor in self.tensors.values():
            tensor.grad = None

    @torch.no_grad()
    def step(self, drawn: Tensor | None = None) -> None:
        """Moves the rows that are drawn against their gradient, in tensors that have one.

        Args:
            drawn: (N,) bool; all rows when None.
        """
        self.steps += 1
        for name, tensor in self.tensors.items():
            if tensor.grad is None:
                continue
            if drawn is None:
                drawn = tensor.new_ones(len(tensor), dtype=torch.bool)
            moments = self.moments[name]
            adam.selective_adam(tensor, tensor.grad, moments.mean, moments.square, self.rates[name], drawn, self.steps)

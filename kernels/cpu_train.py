"""A training step in C++: what cpu.py draws, of Gaussians before their activation, and Adam in the place of their gradients.

The meaning is PyTorch's: exp of the scales and sigmoid of the opacities, the gradients of `cpu.rasterize` through both, and
adam.py. But the gradients, 59 numbers for each Gaussian, never leave the processor's cache, and autograd records nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparse3d.kernels.cpu import check, compiled, empty

_SHAPES = {"means": "N 3", "quats": "N 4", "log_scales": "N 3", "logit_opacities": "N", "sh": "N C 3"}


@dataclass(frozen=True)
class Dropout:
    """Which Gaussians take part in a step (DropGaussian, arXiv:2504.09491)."""

    kept: Tensor  # (N,) bool
    factor: float  # of the opacities of those, at least 1


class Trained:
    """Gaussians before their activation and what Adam keeps of them, as the compiled module takes them.

    It is the tensors' own memory that a step changes. Made once for many steps: to hand over a tensor takes some microseconds.
    """

    def __init__(self, values: Sequence[Tensor], means: Sequence[Tensor], squares: Sequence[Tensor]) -> None:
        """Looks at the tensors, all float32 on the CPU and contiguous.

        Args:
            values: Means (N, 3), quaternions (N, 4), logarithms of scales (N, 3), logits of opacities (N,) and spherical
                harmonics (N, C, 3), C at most 16.
            means, squares: Like them, running means of their gradients and of their squares.

        Raises:
            ValueError: a tensor has another shape, type or device or is not contiguous.
        """
        self.tensors = (*values, *means, *squares)
        self.values, self.means, self.squares = (
            _rows("", values),
            _rows("mean of ", means),
            _rows("square of ", squares),
        )


class Drawn:
    """A view of Gaussians in training, which moves them once the gradient of its picture is known.

    Attributes:
        rgb: (1, H, W, 3), as `cpu.rasterize` draws it.
    """

    def __init__(
        self,
        trained: Trained,
        viewmat: Tensor,
        K: Tensor,
        width: int,
        height: int,
        *,
        sh_degree: int,
        near_plane: float,
        antialiased: bool,
        background: Tensor,
        dropout: Dropout | None = None,
    ) -> None:
        """Draws. Arguments that `cpu.rasterize` has too are as there, of one camera.

        Args:
            trained: The Gaussians.
            dropout: None leaves no Gaussian out.

        Raises:
            ValueError: a tensor has another shape, type or device or is not contiguous, or a number is out of its range.
        """
        self._trained = trained
        self._sh_degree = sh_degree
        self._kept = None if dropout is None else _bytes(dropout.kept)
        self._factor = 1.0 if dropout is None else dropout.factor
        shape = (1, height, width)
        self.rgb, self._alpha = empty((*shape, 3)), empty(shape)
        self._context = compiled().forward(
            *trained.values,
            viewmat,
            K,
            background,
            sh_degree,
            near_plane,
            1e10,
            0.3,
            antialiased,
            self.rgb,
            self._alpha,
            None,
            None,
            True,
            True,
            self._kept,
            self._factor,
            torch.get_num_threads(),
        )

    def update(
        self,
        grad_rgb: Tensor,
        rates: Sequence[Tensor],
        step: int,
        *,
        opacity_decay: Tensor | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-15,
    ) -> None:
        """One step of `adam.selective_adam`, in place, for the Gaussians whose opacity has a gradient.

        Args:
            grad_rgb: Of the loss, as `rgb`.
            rates: For each of the values the learning rates of the numbers of a row.
            step: How many steps were taken, this one included; at least 1.
            opacity_decay: (N,) float32 in (0, 1]: the opacities of the same Gaussians are then multiplied by these, but not below 1e-7.
            betas: Decay of the two means, in [0, 1).
            eps: Added to the root of the square; positive.

        Raises:
            ValueError: a tensor has another shape, type or device or is not contiguous, or a number is out of its range.
        """
        compiled().update(
            self._context,
            self._trained.values,
            self._trained.means,
            self._trained.squares,
            [rate.numpy().reshape(-1) for rate in rates],
            self._sh_degree,
            self._kept,
            self._factor,
            self.rgb,
            self._alpha,
            grad_rgb,
            *betas,
            step,
            eps,
            opacity_decay,
            torch.get_num_threads(),
        )


def _rows(of: str, tensors: Sequence[Tensor]) -> list[Any]:
    """A row of numbers for each Gaussian, as arrays of NumPy's: PyTorch takes four times as long to hand over its own."""
    count = len(tensors[0])
    for (name, shape), tensor in zip(_SHAPES.items(), tensors, strict=True):
        check(of + name, tensor, shape.replace("N", str(count)))
        if not tensor.is_contiguous():
            raise ValueError(f"{of}{name} is not contiguous; the step is taken in place, so it cannot work on a copy")
    arrays = [tensor.detach().numpy() for tensor in tensors[:-1]]
    return [*arrays, tensors[-1].detach().flatten(1).numpy()]


def _bytes(kept: Tensor) -> Tensor:
    if kept.dtype != torch.bool:
        raise ValueError(f"kept is {kept.dtype}, needed torch.bool")
    return kept.contiguous().view(torch.uint8)

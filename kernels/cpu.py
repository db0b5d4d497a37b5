"""The rasterizer in C++: kernels/reference.py over a hundred times faster (benchmarks/kernels.py), with gradients.

The compiled module holds one copy of the inner loops for each instruction set and takes the widest that the CPU runs;
the environment variable SPARSE3D_ISA=scalar, avx2 or avx512 forces one. Results do not depend on the number of threads,
which is `torch.get_num_threads()`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse3d.kernels.reference import Raster

_LARGE = 1 << 14  # numbers; for less, the C library's memory does as well


@cache
def available() -> bool:
    """Whether this install has the compiled module (it has not when installed with SPARSE3D_PURE=1)."""
    return find_spec("sparse3d.kernels._cpu") is not None


def takes(tensor: Tensor) -> bool:
    """Whether the compiled kernels can be given this: they are installed, and it is float32 on the CPU."""
    return available() and tensor.dtype == torch.float32 and tensor.device.type == "cpu"


@cache
def compiled() -> Any:
    """The compiled module. Untyped: its signatures name arrays, and DLPack lets it take tensors as they are."""
    return import_module("sparse3d.kernels._cpu")


def empty(shape: Sequence[int]) -> Tensor:
    """A float32 tensor that is not cleared. Large ones get memory that earlier ones gave back, in huge pages.

    A training loop asks for the same ones at each step; from the system it would get them in fresh pages, and spend a tenth
    of its time on having them cleared.
    """
    if math.prod(shape) < _LARGE:
        return torch.empty(*shape)
    tensor: Tensor = compiled().empty(list(shape))
    return tensor


def check(
    name: str,
    tensor: Tensor,
    shape: str,
    dtype: torch.dtype = torch.float32,
    *,
    empty: bool = True,
    device: str = "cpu",
) -> None:
    """Holds an argument of a fast kernel to its type, device and shape.

    Args:
        name: What a message calls it.
        tensor: The argument.
        shape: Its sizes, as "N 4": a letter stands for any size.
        dtype: Its type.
        empty: Whether a size may be 0.
        device: Its type of device.

    Raises:
        ValueError: it has another.
    """
    if tensor.dtype != dtype or tensor.device.type != device:
        raise ValueError(
            f"{name} is {tensor.dtype} on {tensor.device}; this kernel takes {dtype} on {device}. "
            f"Convert it with .to({device!r}, {dtype}), or take the kernel's PyTorch form, which runs on any device"
        )
    sizes = shape.split()
    if tensor.ndim != len(sizes) or any(
        (wanted.isdigit() and size != int(wanted)) or (size == 0 and not empty)
        for size, wanted in zip(tensor.shape, sizes, strict=True)
    ):
        raise ValueError(
            f"{name} is {tuple(tensor.shape)}, needed ({', '.join(sizes)})" + ("" if empty else ", none of them 0")
        )


def instruction_set() -> str:
    """The instruction set in use: "scalar", "avx2" or "avx512".

    Raises:
        ValueError: SPARSE3D_ISA names one that does not exist or that this CPU cannot run.
    """
    return str(compiled().instruction_set())


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    sh_degree: int | None = None,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    antialiased: bool = False,
    background: Tensor | None = None,
) -> Raster:
    """Draws N Gaussians from V cameras, as `sparse3d.kernels.reference.rasterize` does.

    Differentiable in all tensors but `Ks`, which gets no gradient; `median_depth` passes none on. Gaussians whose centre
    or extent lies beyond 1e9 pixels, that are thinner than 3e-8 pixels (without `eps2d`) or NaN are not drawn. Inputs that
    are not contiguous are copied.

    Args:
        means: (N, 3) world units. All tensors are float32 on the CPU.
        quats: (N, 4) wxyz, not necessarily normalized.
        scales: (N, 3) standard deviations, world units.
        opacities: (N,) in [0, 1].
        colors: (N, C, 3) spherical harmonics with `sh_degree` set, else (N, 3) colours.
        viewmats: (V, 4, 4) world to camera, OpenCV axes.
        Ks: (V, 3, 3) pixels; a pixel's centre is at +0.5.
        width, height: Pixels, at most 65536.
        sh_degree: 0 to 3, at most what `colors` holds; higher coefficients are left out.
        near_plane, far_plane: Gaussians whose centre is not between them are not drawn. World units, near_plane > 0.
        eps2d: Added to the diagonal of the 2D covariance, pixels^2.
        antialiased: Scale opacity by the area that `eps2d` adds.
        background: (3,) behind everything; black when None.

    Returns:
        Colour (V, H, W, 3), alpha, expected and median depth (V, H, W).

    Raises:
        ValueError: a tensor has another shape, type or device, or a number is out of its range.
    """
    check("means", means, "N 3")
    check("viewmats", viewmats, "V 4 4")
    views, count = len(viewmats), len(means)
    if background is None:
        background = torch.zeros(3)
    if sh_degree is not None and not 0 <= sh_degree <= 3:
        raise ValueError(f"sh_degree is {sh_degree}, needed 0 to 3")
    if sh_degree is None:
        check("colors", colors, f"{count} 3")
    else:
        check("colors", colors, f"{count} C 3")
        if colors.shape[1] < (sh_degree + 1) ** 2:
            raise ValueError(
                f"colors has {colors.shape[1]} coefficients, sh_degree {sh_degree} needs {(sh_degree + 1) ** 2}"
            )
    check("quats", quats, f"{count} 4")
    check("scales", scales, f"{count} 3")
    check("opacities", opacities, f"{count}")
    check("Ks", Ks, f"{views} 3 3")
    check("background", background, "3")
    if not (0 <= width <= 65536 and 0 <= height <= 65536):
        raise ValueError(f"width x height is {width} x {height}, needed 0 to 65536 pixels on each side")
    if not 0 < near_plane < inf:
        raise ValueError(f"near_plane is {near_plane}, needed a distance in front of the camera, above 0")
    if not far_plane > near_plane:
        raise ValueError(f"far_plane is {far_plane}, needed a distance beyond near_plane, which is {near_plane}")
    if not 0 <= eps2d < inf:
        raise ValueError(f"eps2d is {eps2d}, needed a variance in pixels^2, 0 or more")

    tensors = (means, quats, scales, opacities, colors, viewmats, background)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    settings = (width, height, -1 if sh_degree is None else sh_degree, near_plane, far_plane, eps2d, antialiased, keep)
    return Raster(*_Rasterize.apply(*tensors, Ks, settings))


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        colors: Tensor,
        viewmats: Tensor,
        background: Tensor,
        Ks: Tensor,
        settings: tuple[int, int, int, float, float, float, bool, bool],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        width, height, sh_degree, near_plane, far_plane, eps2d, antialiased, keep = settings
        tensors = [t.detach().contiguous() for t in (means, quats, scales, opacities, colors)]
        shape = (len(viewmats), height, width)
        rgb, alpha, depth, median = (empty(s) for s in ((*shape, 3), shape, shape, shape))
        ctx.rasterized = compiled().forward(
            *tensors[:4],
            tensors[4].flatten(1),
            viewmats.detach().contiguous(),
            Ks.detach().contiguous(),
            background.detach().contiguous(),
            sh_degree,
            near_plane,
            far_plane,
            eps2d,
            antialiased,
            rgb,
            alpha,
            depth,
            median,
            keep,
            False,
            None,
            1.0,
            torch.get_num_threads(),
        )
        ctx.sh_degree = sh_degree
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(median)
        if keep:
            ctx.save_for_backward(means, quats, scales, opacities, colors, viewmats, rgb, alpha, depth)
        return rgb, alpha, depth, median

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_rgb: Tensor | None, grad_alpha: Tensor | None, grad_depth: Tensor | None, _median: None
    ) -> tuple[Tensor | None, ...]:
        *inputs, viewmats, rgb, alpha, depth = ctx.saved_tensors
        tensors = [t.detach().contiguous() for t in inputs]
        # Not zeros: PyTorch's threads would fill them, and wait busily for each other where others want the cores.
        grads = [empty(t.shape) for t in (*inputs, viewmats)]
        grad_background = torch.empty(3)
        compiled().backward(
            ctx.rasterized,
            *tensors[:4],
            tensors[4].flatten(1),
            ctx.sh_degree,
            rgb.detach(),
            alpha.detach(),
            depth.detach(),
            *(None if grad is None else grad.contiguous() for grad in (grad_rgb, grad_alpha, grad_depth)),
            *grads[:4],
            grads[4].flatten(1),
            grads[5],
            grad_background,
            torch.get_num_threads(),
        )
        return (*grads, grad_background, None, None)

"""gsplat on a CUDA GPU behind the signature of kernels/reference.py."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse3d.kernels.reference import Raster


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
    """Draws N Gaussians from V cameras with gsplat (Ye et al. 2024, arXiv:2409.06765).

    Arguments and results as in `sparse3d.kernels.reference.rasterize`, except:

    - Tensors may be on any device: they are drawn on the current CUDA device and the results come back to the device of
      `means`, gradients likewise.
    - `median_depth` is NaN everywhere, since gsplat's 3D Gaussians have none. NaN and not 0, which would read as "nothing
      was hit". Draw with the renderer "cpu" or "reference" where the median is needed.
    - gsplat cuts a Gaussian off at 3.33 standard deviations as well as at an alpha of 1/255.

    Raises:
        ValueError: a tensor is not float32.
    """
    for name, tensor in {
        "means": means, "quats": quats, "scales": scales, "opacities": opacities,
        "colors": colors, "viewmats": viewmats, "Ks": Ks,
    }.items():  # fmt: skip
        if tensor.dtype != torch.float32:
            raise ValueError(
                f"{name} is {tensor.dtype}; gsplat takes float32. Convert it with .float(), or use the renderer 'reference'"
            )
    shape = (len(viewmats), height, width)
    median_depth = means.new_full(shape, torch.nan)
    if 0 in (len(means), *shape):  # gsplat draws nothing of nothing
        rgb = means.new_zeros(*shape, 3) if background is None else background.to(means).expand(*shape, 3)
        return Raster(rgb, means.new_zeros(shape), means.new_zeros(shape), median_depth)
    from gsplat import rasterization

    device = _device()
    image, alpha, _ = rasterization(
        *(tensor.to(device) for tensor in (means, quats, scales, opacities, colors, viewmats, Ks)),
        width,
        height,
        near_plane=near_plane,
        far_plane=far_plane,
        eps2d=eps2d,
        sh_degree=sh_degree,
        packed=False,
        backgrounds=None if background is None else background.to(device, means.dtype).expand(len(viewmats), 3),
        render_mode="RGB+ED",
        rasterize_mode="antialiased" if antialiased else "classic",
    )
    image, alpha = image.to(means.device), alpha.to(means.device)
    return Raster(image[..., :3], alpha[..., 0], image[..., 3], median_depth)


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())

"""How many (Gaussian, pixel) pairs a picture takes: those that a kernel looks at, and those that change the picture."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sparse3d.kernels import reference
from sparse3d.kernels.reference import ALPHA_MAX, ALPHA_MIN, TILE, TRANSMITTANCE_MIN, Raster
from sparse3d.types import Gaussians, View


def processed_pairs(raster: Raster) -> int:
    """Pairs that the compiled kernel looked at for what it drew with gradients."""
    assert raster.rgb.grad_fn is not None
    return int(raster.rgb.grad_fn.rasterized.pairs())


@torch.no_grad()
def contributing_pairs(gaussians: Gaussians, view: View) -> int:
    """Pairs that take part in a view by the rules of the reference: alpha of 1/255 or more, transmittance not yet used up."""
    camera = view.cameras
    projection = reference.project_gaussians(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        camera.w2c[0],
        camera.K[0],
        view.width,
        view.height,
    )
    order = torch.argsort(projection.depths, stable=True)
    parts = pairs_by_tile(
        projection.means2d,
        projection.conics,
        projection.opacities,
        projection.radii,
        order[projection.visible[order]],
        view.width,
        view.height,
    )
    return sum(len(gaussian) for gaussian, _ in parts)


def pairs_by_tile(
    means2d: Tensor, conics: Tensor, opacities: Tensor, radii: Tensor, order: Tensor, width: int, height: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The pairs that take part in a picture, tile by tile, so that no N times pixels are held.

    Args:
        means2d, radii: (N, 2) pixels; no pixel further than `radii` from the mean is looked at.
        conics: (N, 3) inverse 2D covariance: xx, xy, yy.
        opacities: (N,)
        order: Gaussians to draw, nearest first.
        width, height: Pixels.

    Yields:
        Indices of Gaussians and of pixels (row by row), each (M,), by pixel and then by depth.
    """
    low, high = (means2d - radii)[order], (means2d + radii)[order]
    for top in range(0, height, TILE):
        bottom = min(top + TILE, height)
        in_row = (low[:, 1] < bottom) & (high[:, 1] > top)
        row, row_low, row_high = order[in_row], low[in_row, 0], high[in_row, 0]
        for left in range(0, width, TILE):
            right = min(left + TILE, width)
            tile = row[(row_low < right) & (row_high > left)]
            v, u = torch.meshgrid(torch.arange(top, bottom), torch.arange(left, right), indexing="ij")
            dx, dy = (torch.stack([u, v], dim=-1).reshape(-1, 1, 2) + 0.5 - means2d[tile]).unbind(-1)
            a, b, c = conics[tile].unbind(-1)
            alpha = opacities[tile] * torch.exp(-(0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy))
            alpha = torch.where(alpha >= ALPHA_MIN, alpha.clamp(max=ALPHA_MAX), torch.zeros_like(alpha))
            used = (alpha > 0) & (torch.cumprod(1 - alpha, dim=1) > TRANSMITTANCE_MIN)
            pixel, rank = used.nonzero(as_tuple=True)
            yield tile[rank], (v * width + u).flatten()[pixel]

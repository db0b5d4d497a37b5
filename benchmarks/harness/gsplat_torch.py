"""gsplat's own PyTorch form of its rasterizer on a CPU, which needs stand-ins for a CUDA op and for nerfacc."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from unittest import mock

import torch
from torch import Tensor

from harness.pairs import pairs_by_tile
from harness.timing import Stopwatch, Time, total
from sparse3d.types import Gaussians, View


class Parts(NamedTuple):
    """Of one forward and backward pass."""

    theirs: Time  # gsplat's projection, colours, compositing and their gradients
    stand_in: Time  # our enumeration of the pairs, for which gsplat has a CUDA op


def time_gsplat(gaussians: Gaussians, view: View, weights: Tensor, sh_degree: int) -> Parts:
    """Draws one view and takes the gradient of a weighted sum of its colours, (H, W, 3).

    gsplat's tile lists, in Python loops, are not made: the stand-in lists the pairs without them.
    """
    from gsplat.cuda import _torch_impl as gsplat

    camera, size = view.cameras, (view.width, view.height)
    leaves = [
        t.detach().requires_grad_()
        for t in (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh)
    ]
    means, quats, scales, opacities, sh = leaves
    theirs: list[Time] = []
    stand_in: list[Time] = []
    watch = Stopwatch()

    def listed(*arguments: object) -> tuple[Tensor, Tensor, Tensor]:
        theirs.append(watch.lap())
        triples = list_pairs(radii[0], *arguments)
        stand_in.append(watch.lap())
        return triples

    with stand_ins(listed):
        covariances, _ = gsplat._quat_scale_to_covar_preci(quats, scales, True, False)
        radii, means2d, depths, conics, _ = gsplat._fully_fused_projection(
            means, covariances, camera.w2c, camera.K, *size
        )
        rgb = gsplat._spherical_harmonics(sh_degree, means.detach() - view.c2w[:3, 3], sh) + 0.5
        order = torch.argsort(depths[0].detach())
        order = order[(radii[0, order] > 0).all(dim=1)]
        # one tile as large as the image, whose list is everything
        image, _ = gsplat._rasterize_to_pixels(
            means2d, conics, rgb.clamp(min=0)[None], opacities[None], *size, max(size), torch.zeros(1, 1, 1, dtype=torch.long), order
        )  # fmt: skip
        torch.autograd.grad(image[0], leaves, weights)
    theirs.append(watch.lap())
    return Parts(total(theirs), total(stand_in))


@contextmanager
def stand_ins(lister: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> Iterator[None]:
    """Has gsplat list its pairs by `lister`, called as its CUDA op, and sum them by short forms of nerfacc's functions."""
    from gsplat.cuda import _wrapper

    with (
        mock.patch.dict(sys.modules, nerfacc=_nerfacc()),
        mock.patch.object(_wrapper, "rasterize_to_indices_in_range", lister),
    ):
        yield


@torch.no_grad()
def list_pairs(
    radii: Tensor,
    start: int,
    stop: int,
    transmittances: Tensor,
    means2d: Tensor,
    conics: Tensor,
    opacities: Tensor,
    width: int,
    height: int,
    tile_size: int,
    offsets: Tensor,
    order: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Stand-in for gsplat's rasterize_to_indices_in_range, of one image and all of `order` at once.

    Written from gsplat's description: the (Gaussian, pixel, image) triples by pixel and then depth.
    """
    parts = pairs_by_tile(means2d[0], conics[0], opacities[0], radii, order, width, height)
    gaussian, pixel = (torch.cat(column) for column in zip(*parts, strict=True))
    return gaussian, pixel, torch.zeros_like(pixel)


def _nerfacc() -> types.ModuleType:
    """Stand-in for the two functions of nerfacc that gsplat calls; pairs of one ray come together."""

    def render_weight_from_alpha(alphas: Tensor, ray_indices: Tensor, n_rays: int) -> tuple[Tensor, Tensor]:
        logs = torch.log1p(-alphas)
        # summed over all rays, and so in double
        before = torch.cumsum(logs.double(), dim=0) - logs
        first = torch.ones_like(ray_indices, dtype=torch.bool)
        first[1:] = ray_indices[1:] != ray_indices[:-1]
        start = before[first][torch.cumsum(first, dim=0) - 1]
        transmittance = torch.exp(before - start).to(alphas.dtype)
        return alphas * transmittance, transmittance

    def accumulate_along_rays(weights: Tensor, values: Tensor | None, ray_indices: Tensor, n_rays: int) -> Tensor:
        terms = weights[:, None] if values is None else weights[:, None] * values
        return torch.zeros(n_rays, terms.shape[1], dtype=terms.dtype).index_add(0, ray_indices, terms)

    module = types.ModuleType("nerfacc")
    module.render_weight_from_alpha = render_weight_from_alpha
    module.accumulate_along_rays = accumulate_along_rays
    return module

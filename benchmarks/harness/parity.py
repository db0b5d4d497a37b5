"""Whether two rasterizers draw the same and have the same gradients, at a size too large for the tests."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from harness.rasters import Pass
from sparse3d.render import Rasterizer

_NAMES = ("rgb", "alpha", "depth", "grad means", "grad quats", "grad scales", "grad opacities", "grad sh")


class Difference(NamedTuple):
    """Of one output or gradient."""

    name: str
    relative: float  # largest difference, by the largest entry
    share: float  # of the entries that differ by more than 1e-3 of the largest entry
    cosine: float  # of the angle between both as vectors


def differences(pass_: Pass, ours: Rasterizer, theirs: Rasterizer) -> list[Difference]:
    """How far two rasterizers are apart in what they draw, and in the gradients of it.

    A cut-off that rounding decides (alpha of 1/255, the end of a pixel's transmittance) is a step of 1/255 in a few pixels: the
    largest difference shows it, the share says how few.
    """
    sides: list[list[Tensor]] = []
    for rasterize in (ours, theirs):
        raster = pass_.draw(rasterize)
        outputs = (raster.rgb, raster.alpha, raster.depth, *pass_.gradients(raster))
        sides.append([output.detach().double().cpu().flatten() for output in outputs])
    return [_difference(name, a, b) for name, a, b in zip(_NAMES, *sides, strict=True)]


def _difference(name: str, a: Tensor, b: Tensor) -> Difference:
    largest = b.abs().max()
    apart = (a - b).abs() / largest
    cosine = a.dot(b) / (a.norm() * b.norm())
    return Difference(name, apart.max().item(), (apart > 1e-3).double().mean().item(), cosine.item())

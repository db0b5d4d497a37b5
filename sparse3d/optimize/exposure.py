"""Exposure and white balance of each photo, told from points that two photos show.

A phone chooses both anew for every photo, and a scene has one colour for each of its points. So the render goes through a
transform of the photo's own before the two are compared, as in Urban Radiance Fields (Rematas et al. 2022, arXiv:2111.14643,
section 4.2) and with the exposure matrices of hierarchical 3DGS (Kerbl et al. 2024, arXiv:2406.12080). Theirs mix channels and are learned
with the scene. Here it is a gain per channel, found before the first step and kept: few views share little, so that gains that
are learned drift away to what suits the Gaussians that one view alone sees (measured by benchmarks/exposure.py).

The scene does not get brighter or darker by it: logarithms of gains have the mean 0 over the photos. Views without a photo, as
those that a scene is measured on, are drawn without a gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.config import OptimizeConfig
from sparse3d.geometry import fitted_size, project
from sparse3d.kernels import cpu_loss
from sparse3d.kernels.cpu_loss import Target
from sparse3d.render import Look, Rasterizer
from sparse3d.types import Gaussians, View

# Natural logarithm of a gain, in any channel, from which "auto" compensates: about half a stop, as sRGB values go with the 2.2nd root of
# the light. Sets of photos that were taken with a fixed exposure reach 0.12 by what shines and by vignetting.
_EVIDENT = 0.15
# Share of what points differ by in two views that has to be gone with the gains, or it was no exposure. It is 0.3 to 0.4 where exposures differ;
# 0.7 and more where wrong points or what shines is all there is.
_LEFT = 0.6
_TOLD = 0.03  # relative change from which a photo is named
_WHITE = 0.99  # of what a photo shows so bright it says only that it is at least that

_SIZE = 252  # longer side of the pictures that points are looked up in, pixels
_POINTS = 20_000  # at most
_LEAST_POINTS = 50  # that two views share
_LOOSE = (
    0.25  # median absolute deviation of the logarithms of ratios above which the points of two views are not the same
)
_SAME_DEPTH = 0.03  # relative difference up to which a point is what a view sees there
_SURE = (0.04, 0.96)  # colours that are neither noise nor clipped


@dataclass(frozen=True)
class Exposure:
    """From the scene's colours to those of one photo."""

    gain: Tensor  # (3, 1, 1)
    ceiling: Tensor  # (3, H, W) in the memory of (H, W, 3), as renders are; the photo where it is clipped at white, else infinite

    @classmethod
    def of(cls, gain: Tensor, photo: Tensor) -> Exposure:
        """That of a photo (3, H, W) with its gain (3,)."""
        ceiling = torch.where(photo >= _WHITE, photo, torch.inf)
        return cls(gain[:, None, None].to(photo), ceiling.permute(1, 2, 0).contiguous().permute(2, 0, 1))

    def applied(self, rgb: Tensor) -> Tensor:
        """A render as the photo would show it: gain * rgb, but no brighter than the photo where that is clipped. (3, H, W)"""
        return torch.minimum(self.gain * rgb, self.ceiling)

    def loss_and_gradient(
        self, rgb: Tensor, target: Target, ssim_weight: float, mask: Tensor | None
    ) -> tuple[float, Tensor]:
        """`cpu_loss.loss_and_gradient` of what `applied` gives, with the gradient in `rgb`."""
        changed = self.applied(rgb)
        loss, gradient = cpu_loss.loss_and_gradient(changed, target, ssim_weight, mask)
        return loss, gradient.masked_fill_(changed == self.ceiling, 0.0).mul_(self.gain)


def find_gains(
    gaussians: Gaussians, views: Sequence[View], config: OptimizeConfig, rasterize: Rasterizer, look: Look
) -> Tensor | None:
    """Gains of the views when `config.exposure` is "on", or "auto" and one of them is evident; None otherwise.

    Evident is a gain of half a stop that explains most of what its view's points differ by in others.

    Args:
        gaussians: The scene at first.
        views: What it is fitted to.
        config: `exposure`.
        rasterize: The renderer.
        look: How the scene is drawn.

    Returns:
        (V, 3)
    """
    if config.exposure == "off":
        return None
    pairs = _pairs(gaussians, views, rasterize, look)
    logs = _solved(pairs, len(views))
    if config.exposure == "auto" and not any(_evident(index, logs, pairs) for index in range(len(views))):
        return None
    return logs.exp()


def log_gains(gaussians: Gaussians, views: Sequence[View], rasterize: Rasterizer, look: Look) -> Tensor:
    """Natural logarithms of each view's gain, with the mean 0.

    Of two views it is the median of log(colour here / colour there) over Gaussians that both see, which bears that nearly half
    of them are wrong or shine. Each counts by the product of its two colours, as in least squares of their difference: cameras also
    change their tone curve, by which dark colours differ by other ratios than bright ones, whose error shows. Those of all views follow by least squares, each pair weighed by how many it shares; pairs whose ratios
    are all over the place say nothing. Views that share none are left at 0, and so are generated ones, which show the scene's colours.

    Args:
        gaussians: About on the surfaces.
        views: V of them.
        rasterize: Draws the depth by which hidden ones are told.
        look: How the scene is drawn.

    Returns:
        (V, 3)
    """
    return _solved(_pairs(gaussians, views, rasterize, look), len(views))


@dataclass(frozen=True)
class _Pair:
    """What two views show of the same points."""

    first: int
    second: int
    shared: int  # points
    ratio: Tensor  # (3,) weighted median of log(colour in the first / colour in the second)
    differ: float  # weighted median size of these logarithms, over the channels
    left: float  # the same once their median is taken out


@torch.no_grad()
def _pairs(gaussians: Gaussians, views: Sequence[View], rasterize: Rasterizer, look: Look) -> list[_Pair]:
    """Of all views that share enough points, and agree on what they see there."""
    points = gaussians.means[:: max(1, -(-len(gaussians) // _POINTS))]
    seen = [_colors(points, gaussians, view, rasterize, look).log() for view in views]
    known = [torch.isfinite(logs).all(1) & (not view.generated) for view, logs in zip(views, seen, strict=True)]
    pairs = []
    for i in range(len(views)):
        for j in range(i):
            both = known[i] & known[j]
            if int(both.sum()) < _LEAST_POINTS:
                continue
            logs, weights = seen[i][both] - seen[j][both], (seen[i][both] + seen[j][both]).exp()
            ratio = weighted_median(logs, weights)
            differ, left = (float(weighted_median(part.abs(), weights).mean()) for part in (logs, logs - ratio))
            if left <= _LOOSE:
                pairs.append(_Pair(i, j, len(logs), ratio, differ, left))
    return pairs


def weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """Of each column the smallest value with at least half of its weight at or below it. (N, C), (N, C) -> (C,)"""
    ordered, order = values.sort(0)
    below = weights.gather(0, order).cumsum(0)
    return ordered.gather(0, (below < below[-1:] / 2).sum(0, keepdim=True))[0]


def _evident(index: int, logs: Tensor, pairs: Sequence[_Pair]) -> bool:
    """Whether a view's gain is large, and what it takes out of the differences to other views is most of them."""
    its = [pair for pair in pairs if index in (pair.first, pair.second)]
    differ = sum(pair.shared * pair.differ for pair in its)
    left = sum(pair.shared * pair.left for pair in its)
    return float(logs[index].abs().max()) >= _EVIDENT and left <= _LEFT * differ


def _solved(pairs: Sequence[_Pair], views: int) -> Tensor:
    """Logarithms of gains that are nearest to the ratios, weighed by the points. (V, 3)"""
    normal, right = torch.zeros(views, views).double(), torch.zeros(views, 3).double()
    for pair in pairs:
        i, j, ratio = pair.first, pair.second, pair.shared * pair.ratio.double()
        normal[[i, j], [i, j]] += pair.shared
        normal[[i, j], [j, i]] -= pair.shared
        right[i] += ratio
        right[j] -= ratio
    # a gain that all have in common is not told: of all solutions the shortest, whose mean is 0 in each group that shares points
    return (torch.linalg.pinv(normal, hermitian=True) @ right).float()


def _colors(points: Tensor, gaussians: Gaussians, view: View, rasterize: Rasterizer, look: Look) -> Tensor:
    """Colours in a view of the points that it sees; nan where it does not, and where a colour is not sure. (P, 3) -> (P, 3)"""
    small = view.resized(*fitted_size(view.height, view.width, _SIZE))
    *_, depth = rasterize(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.sh,
        small.cameras.w2c,
        small.cameras.K,
        small.width,
        small.height,
        sh_degree=gaussians.sh_degree,
        antialiased=look.antialiased,
        near_plane=look.near_plane,
    )
    pixels, z = project(points, small.cameras.w2c[0], small.K)
    size = torch.tensor([small.width, small.height])
    inside = (z > 0) & ((pixels >= 0) & (pixels < size)).all(1)
    column, row = torch.where(inside[:, None], pixels, 0.0).long().unbind(1)
    there = depth[0].to(z)[row, column]
    inside &= (z - there).abs() < _SAME_DEPTH * there
    if small.mask is not None:
        inside &= small.mask[row, column]
    grid = (2 * pixels / size - 1)[None, None]
    colors = F.grid_sample(small.image[None], grid, padding_mode="border", align_corners=False)[0, :, 0].T
    sure = ((colors > _SURE[0]) & (colors < _SURE[1])).all(1)
    return torch.where((inside & sure)[:, None], colors, torch.nan)


def described(views: Sequence[View], gains: Tensor) -> str:
    """Which photos were taken with another exposure than the mean of them, in words; empty when none was to speak of."""
    different = [
        f"{view.name} (red x{gain[0]:.2f}, green x{gain[1]:.2f}, blue x{gain[2]:.2f})"
        for view, gain in zip(views, gains.tolist(), strict=True)
        if max(abs(channel - 1) for channel in gain) >= _TOLD
    ]
    return ", ".join(different)

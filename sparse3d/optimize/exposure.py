"""Exposure and white balance of each photo, found with the scene.

A phone chooses both anew for every photo, and a scene has one colour for each of its points. So the render is taken through a
transform of the photo's own before the two are compared, as in Urban Radiance Fields (Rematas et al. 2022, arXiv:2111.14643,
section 4.2) and the exposure matrices of hierarchical 3DGS (Kerbl et al. 2024, arXiv:2406.12080, section 5.1). Those mix channels by
a 3x3 matrix; here each channel has a gain and an offset, for that is what a camera changes, and few views tell no more.

The scene itself must not drift: over the photos, logarithms of gains and offsets have the mean 0. Views without a photo, as
those a scene is measured on, are drawn without a transform.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.config import OptimizeConfig
from sparse3d.geometry import fitted_size, project
from sparse3d.kernels import cpu_loss
from sparse3d.kernels.adam import selective_adam
from sparse3d.kernels.cpu_loss import Target
from sparse3d.optimize.schedules import exponential
from sparse3d.render import Look, Rasterizer
from sparse3d.types import Gaussians, View

_EVIDENT = 0.08  # "auto" compensates from this natural logarithm of a photo's gain, in any channel
_TOLD = 0.03  # from this relative change at middle grey a photo is named at the end

_RATE = (2e-3, 2e-5)  # learning rate at the first and the last step
_PULL = torch.tensor([[0.01], [0.1]])  # towards no change, of the logarithm of the gain and of the offset
_WHITE = 0.99  # a photo says of what it shows so bright only that it is at least that

_SIZE = 252  # longer side of the pictures that gains are first guessed from, pixels
_POINTS = 20_000  # Gaussians that they are guessed from
_LEAST_POINTS = 50  # that two views share
_SAME_DEPTH = 0.03  # relative difference up to which a point is what a view sees there
_SURE = (0.04, 0.96)  # colours that are neither noise nor clipped


@dataclass(frozen=True)
class ViewExposure:
    """From the scene's colours to those of one photo."""

    values: Tensor  # (2, 3) natural logarithm of the gain, then the offset, of each channel; may ask for a gradient
    photo: Tensor  # (3, H, W)

    def applied(self, rgb: Tensor) -> Tensor:
        """A render as the photo would show it: gain * rgb + offset, but the photo's own value where that is clipped at white and
        the render is brighter still. (3, H, W) -> (3, H, W)
        """
        changed = self.values[0].exp()[:, None, None] * rgb + self.values[1][:, None, None]
        return torch.where(self._clipped(changed), self.photo, changed)

    def loss_and_gradient(
        self, rgb: Tensor, target: Target, ssim_weight: float, mask: Tensor | None
    ) -> tuple[float, Tensor]:
        """`cpu_loss.loss_and_gradient` of what `applied` gives, with the gradient in `rgb`; that of `values` is left on it."""
        with torch.no_grad():
            gain = self.values[0].exp()
            changed = gain[:, None, None] * rgb + self.values[1][:, None, None]
            clipped = self._clipped(changed)
            changed = torch.where(clipped, self.photo, changed)
            loss, gradient = cpu_loss.loss_and_gradient(changed, target, ssim_weight, mask)
            gradient.masked_fill_(clipped, 0.0)
            self.values.grad = torch.stack([gain * (gradient * rgb).sum((1, 2)), gradient.sum((1, 2))])
            return loss, gradient.mul_(gain[:, None, None])

    def _clipped(self, changed: Tensor) -> Tensor:
        return (self.photo >= _WHITE) & (changed > self.photo)


class Exposures:
    """The transforms of V views, and the Adam that moves them. Those of generated views stay none: they show the scene's colours."""

    def __init__(self, views: Sequence[View], log_gains: Tensor | None = None) -> None:
        """No change, or gains to start from.

        Args:
            views: Whose they are.
            log_gains: (V, 3) natural logarithms.
        """
        self.names = [view.name for view in views]
        self.free = [not view.generated for view in views]
        self.values = [torch.zeros(2, 3) for _ in views]
        self.moments = [(torch.zeros(2, 3), torch.zeros(2, 3)) for _ in views]
        self.counts = [0] * len(self.names)
        if log_gains is not None:
            for value, free, log_gain in zip(self.values, self.free, log_gains, strict=True):
                value[0] = log_gain * free
        self._centre()
        self.start = [value.clone() for value in self.values]
        for value, free in zip(self.values, self.free, strict=True):
            value.requires_grad_(free)

    def of(self, index: int, view: View) -> ViewExposure:
        """The transform of a view at the size that is drawn."""
        return ViewExposure(self.values[index], view.image)

    @torch.no_grad()
    def step(self, index: int, step: int, config: OptimizeConfig) -> None:
        """Moves a view's transform against the gradient that was left on it, and all of them so that their mean stays.

        Args:
            index: Of the view that was drawn.
            step: Of the optimization.
            config: `steps`, for the learning rate.
        """
        value, (mean, square) = self.values[index], self.moments[index]
        gradient, value.grad = value.grad, None
        if not self.free[index] or gradient is None or not torch.isfinite(gradient).all():
            return
        self.counts[index] += 1
        rates, rows = torch.full((3,), exponential(*_RATE, step, config.steps)), torch.ones(2, dtype=torch.bool)
        selective_adam(
            value.detach(),
            gradient + _PULL * (value - self.start[index]),
            mean,
            square,
            rates,
            rows,
            self.counts[index],
        )
        self._centre()

    @torch.no_grad()
    def _centre(self) -> None:
        moving = [value for value, free in zip(self.values, self.free, strict=True) if free]
        if moving:
            common = torch.stack([value.detach() for value in moving]).mean(0)
            for value in moving:
                value -= common

    def summary(self) -> str:
        """Which photos were taken with another exposure than the others, in words; empty when none was to speak of."""
        parts = []
        for name, value in zip(self.names, self.values, strict=True):
            shown = (value.detach()[0].exp() + value.detach()[1] / 0.5).tolist()  # of middle grey, relative
            if max(abs(change - 1) for change in shown) >= _TOLD:
                parts.append(
                    f"{name} ({', '.join(f'{c} x{x:.2f}' for c, x in zip(('red', 'green', 'blue'), shown, strict=True))})"
                )
        return ", ".join(parts)

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on to the same result."""
        return {"values": [value.detach() for value in self.values], "moments": self.moments, "counts": self.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a saved state of the same views."""
        self.values = [
            value.clone().requires_grad_(free) for value, free in zip(state["values"], self.free, strict=True)
        ]
        self.moments = [(mean.clone(), square.clone()) for mean, square in state["moments"]]
        self.counts = list(state["counts"])


def find_exposures(
    gaussians: Gaussians, views: Sequence[View], config: OptimizeConfig, rasterize: Rasterizer, look: Look
) -> Exposures | None:
    """What to start from when `config.exposure` is "on", or "auto" and some photo's gain is evident; None otherwise.

    Args:
        gaussians: The scene at first.
        views: What it is fitted to.
        config: `exposure`.
        rasterize: The renderer.
        look: How the scene is drawn.
    """
    if config.exposure == "off":
        return None
    log_gains = guessed_log_gains(gaussians, views, rasterize, look)
    if config.exposure == "auto" and float(log_gains.abs().max()) < _EVIDENT:
        return None
    return Exposures(views, log_gains)


@torch.no_grad()
def guessed_log_gains(gaussians: Gaussians, views: Sequence[View], rasterize: Rasterizer, look: Look) -> Tensor:
    """Natural logarithms of each view's gain, by surface points that two views see, with the mean 0.

    For two views it is the median of log(colour here / colour there) over the Gaussians that both see, which bears that nearly half
    of them are wrong or shine. The gains of all views follow by least squares, each pair weighed by how many it shares; views that share
    none are left at 0.

    Returns:
        (V, 3)
    """
    some = gaussians[slice(None, None, max(1, -(-len(gaussians) // _POINTS)))].means
    seen = [_colors(some, gaussians, view, rasterize, look) for view in views]
    count = len(views)
    information, pull = torch.zeros(count, count, dtype=torch.float64), torch.zeros(count, 3, dtype=torch.float64)
    for i in range(count):
        for j in range(i):
            both = torch.isfinite(seen[i]).all(1) & torch.isfinite(seen[j]).all(1)
            shared = int(both.sum())
            if shared >= _LEAST_POINTS:
                ratio = (seen[i][both].log() - seen[j][both].log()).median(0).values.double()
                information[i, i] += shared
                information[j, j] += shared
                information[i, j] -= shared
                information[j, i] -= shared
                pull[i] += shared * ratio
                pull[j] -= shared * ratio
    # the common gain is free: of all solutions the shortest, whose mean is 0 in each group of views that are connected
    return (torch.linalg.pinv(information, hermitian=True) @ pull).float()


def _colors(points: Tensor, gaussians: Gaussians, view: View, rasterize: Rasterizer, look: Look) -> Tensor:
    """Colours in a view of the points that it sees, and nan of others and where they are not sure. (P, 3) -> (P, 3)"""
    small = view.resized(*fitted_size(view.height, view.width, _SIZE))
    _, alpha, _, depth = rasterize(
        gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh[:, :1].contiguous(),
        small.cameras.w2c, small.cameras.K, small.width, small.height,
        sh_degree=0, antialiased=look.antialiased, near_plane=look.near_plane,
    )  # fmt: skip
    pixels, z = project(points, small.cameras.w2c[0], small.K)
    column, row = pixels[:, 0].floor().long(), pixels[:, 1].floor().long()
    inside = (z > 0) & (column >= 0) & (column < small.width) & (row >= 0) & (row < small.height)
    column, row = column.clamp(0, small.width - 1), row.clamp(0, small.height - 1)
    there = depth[0].to(z)[row, column]
    inside &= (z - there).abs() < _SAME_DEPTH * there
    if small.mask is not None:
        inside &= small.mask[row, column]
    grid = pixels / torch.tensor([small.width, small.height]) * 2 - 1
    colors = F.grid_sample(small.image[None], grid[None, None], padding_mode="border", align_corners=False)[0, :, 0].T
    sure = ((colors > _SURE[0]) & (colors < _SURE[1])).all(1)
    return torch.where((inside & sure)[:, None], colors, torch.nan)

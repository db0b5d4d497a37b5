"""Depth of one picture brought to what is known of it: scale and shift, then what is left, smoothly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.shapes import check_shapes

_CELLS = 8  # of the bilateral grid, along each axis
_ROUNDS = 10  # of reweighting
_ENOUGH = 50  # known pixels
_MOST = 0.25  # natural logarithm: what the smooth field may change at most


def aligned(predicted: Tensor, known: Tensor, weight: Tensor) -> Tensor:
    """A predicted depth map that goes on where the known one ends.

    Inverse depths are fitted by gain and offset, by least squares with Cauchy weights; the logarithm of what is left is smoothed over a grid of
    8 x 8 cells and 8 steps of log depth (bilateral grid, Chen et al., SIGGRAPH 2007) and taken away, so that seams close and edges stay.

    Args:
        predicted: (H, W) above 0, infinite for the sky; of any scale and, in inverse depth, any offset.
        known: (H, W) world units, 0 where unknown.
        weight: (H, W) in [0, 1], how far the known depth may be trusted.

    Returns:
        (H, W) world units; where predicted is infinite, infinite. With fewer than 50 known pixels the prediction scaled to their median.

    Raises:
        ValueError: nothing is known.
    """
    check_shapes(predicted=(predicted, "H W"), known=(known, "H W"), weight=(weight, "H W"))
    both = (known > 0) & predicted.isfinite() & (weight > 0)
    if not both.any():
        raise ValueError("no pixel has both a predicted and a known depth, so there is nothing to align by")
    inverse = torch.where(predicted.isfinite(), 1 / predicted, 0.0)
    if int(both.sum()) < _ENOUGH:
        return predicted * (known[both] / predicted[both]).median()
    gain, offset = _line(inverse[both], 1 / known[both], weight[both])
    least = 0.2 * float((1 / known[both]).amin())
    fitted = (gain * inverse + offset).clamp(min=least)
    left = torch.where(both, (1 / known.clamp(min=1e-12)).log() - fitted.log(), 0.0)
    smooth = _smooth(left.clamp(-_MOST, _MOST), fitted.log(), both * weight)
    return torch.where(predicted.isfinite(), 1 / (fitted * smooth.exp()), torch.inf)


def _line(x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """y = gain x + offset by reweighted least squares; through the origin where the gain would not be above 0."""
    x, y, w = x.double(), y.double(), weight.double()
    robust = w
    gain, offset = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for _ in range(_ROUNDS):
        total = robust.sum()
        mx, my = (robust * x).sum() / total, (robust * y).sum() / total
        spread = (robust * (x - mx) ** 2).sum()
        gain = (robust * (x - mx) * (y - my)).sum() / spread.clamp(min=1e-12 * float(mx) ** 2 * float(total))
        offset = my - gain * mx
        error = (gain * x + offset - y).abs()
        robust = w / (1 + (error / (2 * error.median().clamp(min=1e-9 * float(my)))) ** 2)
    if not gain > 0:
        return (y / x).median().float(), torch.zeros(())
    return gain.float(), offset.float()


def _smooth(values: Tensor, guide: Tensor, weight: Tensor) -> Tensor:
    """Values (H, W) averaged over a grid of place and guide, spread to where nothing is known."""
    height, width = values.shape
    low, high = guide.amin(), guide.amax()
    rows = torch.linspace(0, _CELLS - 1, height)[:, None].expand(height, width)
    columns = torch.linspace(0, _CELLS - 1, width)[None].expand(height, width)
    steps = (guide - low) / (high - low).clamp(min=1e-6) * (_CELLS - 1)
    cell = (steps.round() * _CELLS + rows.round()) * _CELLS + columns.round()
    sums = torch.zeros(2, _CELLS**3)
    sums.index_add_(1, cell.long().flatten(), torch.stack([values * weight, weight]).flatten(1))
    grid = sums.reshape(1, 2, _CELLS, _CELLS, _CELLS)
    spread, blurred = grid, grid
    for power in range(1, 7):  # ever wider, each counting for a tenth of the one before
        blurred = F.avg_pool3d(blurred, 3, 1, 1, count_include_pad=False)
        spread = spread + 0.1**power * blurred
    field = spread[:, :1] / spread[:, 1:].clamp(min=1e-12)
    at = torch.stack([columns, rows, steps], dim=-1)[None, None] * (2 / (_CELLS - 1)) - 1
    return F.grid_sample(field, at, align_corners=True)[0, 0, 0]

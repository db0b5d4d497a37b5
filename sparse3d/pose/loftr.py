"""EfficientLoFTR's two stages of matching, on the features that the network of transformers computes.

Wang et al. 2024 (arXiv:2403.04765), section 3: features of cells by a transformer, one match a cell, then a pixel in each
cell, then a fraction of a pixel. transformers has the stages too, and is not asked for them: up to 5.23 at least, the two rows
of its matches belong to different matches, and its pixels are always the first of the cell.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def match_cells(features: Tensor, temperature: float, threshold: float, border: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cells that are each other's best match (section 3.3, eq. 2).

    Args:
        features: (2, C, h, w) of the cells of both pictures.
        temperature: tau, by which similarities are divided.
        threshold: Scores that matches must exceed.
        border: Cells at every side of both pictures that are left out.

    Returns:
        Indices of cells, row by row, in the first and in the second picture, and scores in [0, 1]. (M,), (M,), (M,)
    """
    _, channels, height, width = features.shape
    first, second = (features / channels**0.5).flatten(2).transpose(1, 2)
    similarity = first @ second.T / temperature
    score = similarity.softmax(0) * similarity.softmax(1)
    best = score.argmax(1)
    row, column = torch.arange(height)[:, None], torch.arange(width)
    inner = (row >= border) & (row < height - border) & (column >= border) & (column < width - border)
    cells = torch.arange(height * width)
    sure = score[cells, best]
    kept = inner.flatten() & inner.flatten()[best] & (score.argmax(0)[best] == cells) & (sure > threshold)
    return cells[kept], best[kept], sure[kept]


def refine(windows0: Tensor, windows1: Tensor, regressed: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Where in their cells the points of M matches lie (section 3.4).

    Args:
        windows0: (M, W W, C) features of the pixels of a cell, W pixels wide, of the first picture.
        windows1: (M, (W + 2) (W + 2), C) of a cell of the second picture and one more pixel around it.
        regressed: The last channels, that are for fractions of a pixel; those before find the pixel.
        temperature: By which the similarities of fractions are divided.

    Returns:
        x, y from the middle of the cell, pixels. (M, 2) in the first picture, (M, 2) in the second.
    """
    matches, pixels, channels = windows0.shape
    side = round(pixels**0.5)
    first, second = windows0[..., :-regressed], windows1[..., :-regressed]
    similarity = first @ second.transpose(1, 2) / channels
    score = (similarity.softmax(1) * similarity.softmax(2)).unflatten(2, (side + 2, side + 2))
    best = score[..., 1:-1, 1:-1].flatten(1).argmax(1)
    pixel0, pixel1 = best // pixels, best % pixels
    # the 3x3 similarities around the second pixel; that they are read one pixel up and left of it, and past the edge from
    # the other side, is how the network was trained
    each = torch.arange(matches)
    wanted = windows0[each, pixel0, -regressed:, None]
    around = (windows1[..., -regressed:] @ wanted).squeeze(2).unflatten(1, (side + 2, side + 2)) / regressed**0.5
    step = torch.arange(-1, 2)
    row = (pixel1[:, None, None] // side + step[:, None]) % (side + 2)
    column = (pixel1[:, None, None] % side + step) % (side + 2)
    heat = (around[each[:, None, None], row, column] / temperature).flatten(1).softmax(1).unflatten(1, (3, 3))
    fraction = torch.stack([(heat * step).sum((1, 2)), (heat * step[:, None]).sum((1, 2))], dim=1)
    return _offset(pixel0, side), _offset(pixel1, side) + fraction


def match_pictures(network: Any, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Matches of two pictures.

    Args:
        network: EfficientLoFTRForKeypointMatching of transformers; only its features are used.
        pixels: (2, 1, H, W) grey, both sides multiples of 32.

    Returns:
        x, y in both pictures, pixel centres at +0.5 (M, 2), (M, 2), and scores in [0, 1] (M,).
    """
    settings = network.config
    coarse, *finer = network.efficientloftr(pixels[None]).feature_maps  # (1, 2, C, h, w), and of more pixels
    cells0, cells1, scores = match_cells(
        coarse[0],
        settings.coarse_matching_temperature,
        settings.coarse_matching_threshold,
        settings.coarse_matching_border_removal,
    )
    windows0, windows1 = network.refinement_layer(coarse / coarse.shape[2] ** 0.5, finer)
    offset0, offset1 = refine(
        windows0[0, cells0],
        windows1[0, cells1],
        settings.fine_matching_slice_dim,
        settings.fine_matching_regress_temperature,
    )
    # the features of a cell are about its first pixel: convolutions of stride 2 stay on pixels 0, 2, 4 ...; and pixel centres
    # are whole numbers in the depth maps that the network learned from
    width, size = coarse.shape[4], pixels.shape[3] // coarse.shape[4]
    middle0, middle1 = (torch.stack([cells % width, cells // width], dim=1) * size + 0.5 for cells in (cells0, cells1))
    return middle0 + offset0, middle1 + offset1, scores


def _offset(pixel: Tensor, side: int) -> Tensor:
    return torch.stack([pixel % side, pixel // side], dim=1) - (side - 1) / 2

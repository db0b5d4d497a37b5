"""Plane sweep by the census transform in PyTorch, any dtype and device: the meaning of the fast kernels.

Zabih and Woodfill, "Non-parametric local transforms for computing visual correspondence", ECCV 1994: of each neighbour
of a pixel one bit says whether it is darker, and patches are compared by how many bits differ (Hamming distance). Only
the order of grey values counts, so exposure, white balance and vignetting, which differ between photos, change nothing.

The window is the 9x7 of Hirschmüller and Scharstein 2009 (doi 10.1109/TPAMI.2008.221), whose 62 bits fit a machine word.
The bits of a source come from its grey values warped onto the reference, not from its own census image at the nearest
pixel: that one would hold windows along the axes of the source, which differ from the reference's as soon as a camera
is rolled or nearer, and would step from pixel to pixel where depths are to be told apart within one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.kernels.sweep import inside, pooled, warps

HALF_WIDTH, HALF_HEIGHT = 4, 3  # of the window, without its middle


def census_sweep(
    reference: Tensor,
    K: Tensor,
    sources: Sequence[Tensor],
    source_Ks: Tensor,
    reference_to_sources: Tensor,
    depths: Tensor,
    relief: Tensor | None = None,
) -> Tensor:
    """Matching score of a view with its sources over depth planes: the `census_volume` of each, `pooled`.

    Args:
        reference: (H, W) grey, any range.
        K: (3, 3) of `reference`, pixels.
        sources: S of (Hs, Ws) grey, each of its own size and range.
        source_Ks: (S, 3, 3) of `sources`, pixels.
        reference_to_sources: (S, 4, 4) camera axes of the one to those of the others.
        depths: (D,) world units.
        relief: (H, W) what depths are multiplied by at each pixel: the shape of a surface at depth 1; planes when left out.

    Returns:
        (D, H, W) in [-1, 1]; -1 where no source sees the pixel at that depth.
    """
    return pooled(
        [
            census_volume(reference, K, source, source_K, transform, depths, relief)
            for source, source_K, transform in zip(sources, source_Ks, reference_to_sources, strict=True)
        ]
    )


def census_volume(
    reference: Tensor,
    K: Tensor,
    source: Tensor,
    source_K: Tensor,
    reference_to_source: Tensor,
    depths: Tensor,
    relief: Tensor | None = None,
) -> Tensor:
    """Agreement of the census bits of a view with those of one source warped over depth planes.

    With n neighbours inside the reference, of which h differ in their bit: (n - 2 h) / n, so that equal patches score 1,
    unrelated ones about 0 and opposite ones -1, as correlation would. A lone pixel has nothing to compare: 0.

    Args:
        reference: (H, W) grey, any range.
        K: (3, 3) of `reference`, pixels.
        source: (Hs, Ws) grey, any range.
        source_K: (3, 3) of `source`, pixels.
        reference_to_source: (4, 4) camera axes of one to those of the other.
        depths: (D,) world units.
        relief: (H, W) what depths are multiplied by at each pixel: the shape of a surface at depth 1; planes when left out.

    Returns:
        (D, H, W) in [-1, 1]; NaN where the source does not see the pixel at that depth.
    """
    darker = [near < reference for near in _neighbours(reference)]
    exists = [near > 0 for near in _neighbours(torch.ones_like(reference))]
    count = torch.stack(exists).sum(dim=0)
    scores = reference.new_empty(len(depths), *reference.shape)
    for planes, pixels, ahead in warps(reference.shape, K, source_K, reference_to_source, depths, relief):
        warped = bilinear(source, pixels)
        differ = torch.zeros_like(warped)
        for near, expected, there in zip(_neighbours(warped), darker, exists, strict=True):
            differ += ((near < warped) != expected) & there
        score = (count - 2 * differ) / count.clamp(min=1)
        scores[planes] = torch.where(ahead & inside(pixels, source), score, torch.full_like(score, torch.nan))
    return scores


def bilinear(image: Tensor, pixels: Tensor) -> Tensor:
    """Grey values between pixel centres, borders repeated, exact where the four around are equal.

    `grid_sample` weighs the four by products whose sum is not quite 1, which in a patch of one grey would set bits at
    random.

    Args:
        image: (H, W)
        pixels: (..., 2), a pixel's centre at +0.5.

    Returns:
        (...)
    """
    height, width = image.shape
    x, y = (pixels[..., 0] - 0.5).clamp(0, width - 1), (pixels[..., 1] - 0.5).clamp(0, height - 1)
    left, top = x.long(), y.long()
    right, below = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    above = _between(image[top, left], image[top, right], x - left)
    return _between(above, _between(image[below, left], image[below, right], x - left), y - top)


def _between(a: Tensor, b: Tensor, part: Tensor) -> Tensor:
    return a + part * (b - a)


def _neighbours(images: Tensor) -> Iterator[Tensor]:
    """The neighbours of every pixel of (..., H, W), each as such a tensor; 0 beyond the border."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (HALF_WIDTH, HALF_WIDTH, HALF_HEIGHT, HALF_HEIGHT))
    for row in range(2 * HALF_HEIGHT + 1):
        for column in range(2 * HALF_WIDTH + 1):
            if (row, column) != (HALF_HEIGHT, HALF_WIDTH):
                yield padded[..., row : row + height, column : column + width]

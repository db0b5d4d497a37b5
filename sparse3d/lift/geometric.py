"""Depth from the picture's geometry alone: ground below the horizon, what stands on it, sky. For machines without a depth network.

The reasoning of Hoiem et al. 2005 (Automatic Photo Pop-up) without their learned labels: it is a stage set, and says so.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.lift.depth import RANGE, PhotoDepth, unit_median
from sparse3d.lift.horizon import LEVEL, Held, segments, upright

SOURCE = "the picture's geometry (approximate)"

_SIDE = 320  # pixels of the longer side at which labels are found
_SEED = 0.12  # share of the picture, at the bottom, that is ground to begin with
_ROUNDS = 3
_LEAST_SKY = 0.01  # share of the picture
_SMOOTH = 0.02  # radius of the guided filter over the longer side
_DETAIL = 1e-3  # squared contrast above which it keeps edges


def geometric_depth(image: Tensor, K: Tensor) -> PhotoDepth:
    """Depth of a photo without any network.

    1. Up from vertical lines (`upright`), level where there are none: the horizon.
    2. Ground: below the horizon, of the colours of the lowest part (GrabCut, Rother et al. 2004). Its depth is camera height over slope.
    3. Sky: smooth, bright and joined to the upper edge.
    4. The rest stands upright where it meets the ground in its column, or at the farthest ground where it does not.
    5. Smoothed within edges of the picture (guided filter, He et al. 2013).

    Args:
        image: (3, H, W) sRGB in [0, 1].
        K: (3, 3) pixels.

    Returns:
        Approximate, relative, of median 1.
    """
    height, width = image.shape[1:]
    scale = min(1.0, _SIDE / max(height, width))
    rows, columns = max(8, round(height * scale)), max(8, round(width * scale))
    small = F.interpolate(image[None], (rows, columns), mode="bilinear", antialias=True)[0].clamp(0, 1)
    lines = segments(image)
    held = upright(lines, K) if len(lines) else LEVEL
    k = K.clone()
    k[0], k[1] = K[0] * columns / width, K[1] * rows / height
    inverse, sky = _staged(small, held, k)
    guided = _guided(inverse, small)
    full = F.interpolate(torch.stack([guided, sky.float()])[None], (height, width), mode="bilinear")[0]
    depth = torch.where(full[1] > 0.5, torch.inf, 1 / full[0].clamp(min=1e-6))
    return PhotoDepth(unit_median(depth), False, SOURCE, "none", approximate=True)


def _staged(image: Tensor, held: Held, K: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse depth of the stage set in units of the camera's height, and where the sky is. (H, W) each"""
    height, width = image.shape[1:]
    slope = held.horizon(K, height, width)
    sky = _sky(image, slope < 0)
    nearest = max(float(slope.max()), 1e-3)
    farthest = nearest / RANGE
    ground = _ground(image, slope > farthest, sky) if nearest > 2e-2 else torch.zeros_like(sky)
    inverse = slope.clamp(farthest, nearest)
    row = torch.arange(height)[:, None].expand(height, width)
    top = torch.where(ground, row, height).amin(0)  # first row of ground in each column
    foot = torch.where(top < height, top, height - 1)
    standing = inverse.gather(0, foot[None])[0]
    standing = _median(standing, max(3, width // 40))
    return torch.where(ground, inverse, standing[None].expand(height, width)), sky


def _ground(image: Tensor, below: Tensor, sky: Tensor) -> Tensor:
    """What is ground: joined to the lower edge in its column. (H, W) bool"""
    from sparse3d.io._pycolmap import cv2

    height = image.shape[1]
    labels = np.full(below.shape, cv2().GC_BGD, np.uint8)
    labels[(below & ~sky).numpy()] = cv2().GC_PR_BGD
    seed = below & ~sky & (torch.arange(height) >= (1 - _SEED) * height)[:, None]
    if int(seed.sum()) < 20 or int((~below).sum()) < 20:
        return seed
    labels[(below & ~sky).numpy() & (np.arange(height) >= 0.7 * height)[:, None]] = cv2().GC_PR_FGD
    labels[seed.numpy()] = cv2().GC_FGD
    pixels = (image.permute(1, 2, 0) * 255).to(torch.uint8).numpy()[..., ::-1].copy()
    cv2().setRNGSeed(0)
    cv2().grabCut(pixels, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2().GC_INIT_WITH_MASK)
    found = torch.from_numpy((labels == cv2().GC_FGD) | (labels == cv2().GC_PR_FGD))
    closed = -F.max_pool2d(-F.max_pool2d(found[None].float(), 5, 1, 2), 5, 1, 2)[0] > 0.5
    joined = closed.flip(0).int().cummin(0).values.flip(0) > 0
    return joined & below


def _sky(image: Tensor, above: Tensor) -> Tensor:
    """Smooth and bright pixels above the horizon that are joined to the upper edge. (H, W) bool"""
    from sparse3d.io._pycolmap import cv2

    grey = image.mean(0)
    rough = F.max_pool2d((F.max_pool2d(grey[None], 3, 1, 1) + F.max_pool2d(-grey[None], 3, 1, 1)), 3, 1, 1)[0]
    warm = image[0] - image[2]
    upper = grey[above]
    if not len(upper):
        return torch.zeros_like(above)
    bright = grey > max(0.35, float(upper.quantile(0.4)))
    candidate = above & (rough < 0.06) & (warm < 0.03) & bright
    count, labels = cv2().connectedComponents(candidate.numpy().astype(np.uint8))
    edge = set(np.unique(labels[0])) - {0}
    if count < 2 or not edge:
        return torch.zeros_like(above)
    joined = torch.from_numpy(np.isin(labels, list(edge)))
    joined = -F.max_pool2d(-F.max_pool2d(joined[None].float(), 7, 1, 3), 7, 1, 3)[0] > 0.5
    return joined if float(joined.float().mean()) > _LEAST_SKY else torch.zeros_like(above)


def _median(values: Tensor, radius: int) -> Tensor:
    """Running median of (N,)."""
    padded = F.pad(values[None, None], (radius, radius), mode="replicate")[0, 0]
    return padded.unfold(0, 2 * radius + 1, 1).median(-1).values


def _guided(values: Tensor, image: Tensor) -> Tensor:
    """Values (H, W) smoothed within the picture's edges."""
    from kornia.filters import guided_blur

    size = 2 * max(1, round(_SMOOTH * max(values.shape))) + 1
    smoothed: Tensor = guided_blur(image[None], values[None, None], size, _DETAIL)[0, 0]
    return smoothed.clamp(min=float(values.min()), max=float(values.max()))

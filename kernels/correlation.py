"""Plane sweep by correlation of feature maps in PyTorch, any dtype and device: the meaning of the fast kernels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.kernels.sweep import normalized, warps


def feature_sweep(
    reference: Tensor,
    K: Tensor,
    sources: Tensor,
    source_Ks: Tensor,
    reference_to_sources: Tensor,
    depths: Tensor,
) -> Tensor:
    """Dot products of the features of a view with those of its sources over depth planes, as learned sweeps want them.

    MVSplat (arXiv:2403.14627) eq. 2 and 3: sum over C channels / sqrt(C), averaged over the sources. Sources are sampled
    bilinearly with zeros beyond their border, and count as 0 where the point is behind their camera. Differentiable in
    all tensors.

    A feature's centre is at +0.5, as everywhere here, and `K` is in pixels of the feature map. MVSplat's published code
    has it at 0 with the same K: to feed its weights what they were trained on, add 0.5 to the principal point of every K.

    Args:
        reference: (C, H, W)
        K: (3, 3) of `reference`, in its pixels.
        sources: (S, C, Hs, Ws)
        source_Ks: (S, 3, 3) of `sources`, in their pixels.
        reference_to_sources: (S, 4, 4) camera axes of the one to those of the others.
        depths: (D,) world units.

    Returns:
        (D, H, W), in units of the features squared.
    """
    total = reference.new_zeros(len(depths), *reference.shape[1:])
    for source, source_K, transform in zip(sources, source_Ks, reference_to_sources, strict=True):
        scores = []
        for _, pixels, ahead in warps(reference.shape[1:], K, source_K, transform, depths):
            grid = torch.where(ahead[..., None], normalized(pixels, source), -3.0)  # -3: wholly beyond the border
            # planes one below the other: sampling them as one image is faster than as several
            warped = F.grid_sample(source[None], grid.flatten(0, 1)[None], padding_mode="zeros", align_corners=False)
            scores.append((warped.unflatten(2, grid.shape[:2])[0] * reference[:, None]).sum(dim=0))
        total = total + torch.cat(scores)
    return total / (len(sources) * len(reference) ** 0.5)

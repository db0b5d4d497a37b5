"""Which views are matched, and candidate depths with their cost volumes from coarse to fine (arXiv:2410.13862, section 3.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.init.networks.mvsplat.encoder import feature_Ks
from sparse3d.init.networks.mvsplat.transformer import everyone
from sparse3d.kernels.sweep import NEAREST, normalized, plane_transfer

_NEIGHBOURS = 2  # views that a view is matched with, where there are more than three


def neighbours(c2w: Tensor) -> list[list[int]]:
    """Which views each view is matched with: all others of up to three views, else the two nearest.

    Args:
        c2w: (V, 4, 4)

    Returns:
        For each view the indices of others: in order, or nearest first where there are more than three views.
    """
    others = everyone(len(c2w))
    if len(c2w) <= _NEIGHBOURS + 1:
        return others
    centres = c2w[:, :3, 3]
    distances = (centres[:, None] - centres).norm(dim=-1).tolist()
    return [sorted(row, key=distances[view].__getitem__)[:_NEIGHBOURS] for view, row in enumerate(others)]


def uniform_candidates(near: float, far: float, count: int, like: Tensor) -> Tensor:
    """Inverse depths from far to near in even steps. (D,) of the type and on the device of `like`"""
    return 1 / far + _steps(count, like) * (1 / near - 1 / far)


def candidates_around(disparity: Tensor, near: float, far: float, step: float, count: int) -> Tensor:
    """Inverse depths about an estimate; where they would leave the range it is cut, and they are spread evenly again.

    Args:
        disparity: (V, 1, H, W)
        near, far: Depths at the ends of the range.
        step: Between two candidates where nothing is cut, in inverse depth.
        count: D, even.

    Returns:
        (V, D, H, W)
    """
    low = (disparity - step * (count // 2)).clamp(min=1 / far)
    high = (disparity + step * (count // 2 - 1)).clamp(max=1 / near)
    return low + _steps(count, disparity)[:, None, None] * (high - low)


def match_pixels(features: Tensor, c2w: Tensor, K: Tensor, pairs: list[list[int]], disparities: Tensor) -> Tensor:
    """Cost volumes with candidates of each pixel's own; `mvsplat.encoder.cost_volume` has them where all pixels share theirs.

    Args:
        features: (V, C, H, W)
        c2w: (V, 4, 4)
        K: (V, 3, 3) normalized.
        pairs: For each view the views that it is matched with.
        disparities: (V, D, H, W) inverse depths.

    Returns:
        (V, D, H, W) dot products over the square root of C, averaged over the views matched with.
    """
    v, u = (torch.arange(n, dtype=K.dtype, device=K.device) + 0.5 for n in features.shape[-2:])
    pixels = F.pad(torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1), (0, 1), value=1.0)  # (H, W, 3)
    Ks, depths = feature_Ks(K, features), (1 / disparities)[..., None]
    volumes = torch.zeros_like(disparities)
    for view, others in enumerate(pairs):
        for other in others:
            transform = torch.linalg.inv(c2w[other].double()) @ c2w[view].double()
            turn, shift = plane_transfer(Ks[view], Ks[other], transform.to(features))
            seen = depths[view] * (pixels @ turn.T) + shift  # (D, H, W, 3)
            grid = normalized(seen[..., :2] / seen[..., 2:].clamp(min=NEAREST), features)
            grid = torch.where(seen[..., 2:] > NEAREST, grid, -3.0)  # -3: wholly beyond the border
            for plane, where in enumerate(grid):  # one by one, for each needs memory for all channels
                warped = F.grid_sample(features[other, None], where[None], padding_mode="zeros", align_corners=False)
                volumes[view, plane] += (warped[0] * features[view]).sum(dim=0)
        volumes[view] /= len(others) * features.shape[1] ** 0.5
    return volumes


def _steps(count: int, like: Tensor) -> Tensor:
    """0 to 1 in so many even steps. (D,)"""
    return torch.linspace(0, 1, count, dtype=like.dtype, device=like.device)

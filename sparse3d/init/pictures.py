"""Depth maps to look at."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse3d.init.depth_map import DepthMap
from sparse3d.io._pycolmap import cv2


def depth_picture(found: DepthMap) -> Tensor:
    """A view, its depth and its confidence side by side.

    Depth is coloured by its inverse, from red for the nearest to blue for the farthest percentile; black is unknown. Confidence is
    white for 1, and half as bright where a small hole was filled.

    Returns:
        (3, H, 3 W) in [0, 1].
    """
    depth = depth_colors(found.depth, depth_ends(found.depth))
    confidence = (found.confidence * torch.where(found.filled, 0.5, 1.0)).expand(3, -1, -1)
    return torch.cat([found.view.image, depth, confidence], dim=2)


def depth_ends(depth: Tensor) -> Tensor:
    """First and last percentile of inverse depth where it is known. (2,)"""
    known = depth > 0
    return torch.quantile(1 / depth[known], torch.tensor([0.01, 0.99])) if known.any() else torch.tensor([0.0, 1.0])


def depth_colors(depth: Tensor, ends: Tensor) -> Tensor:
    """Inverse depth between two ends from blue to red (Turbo), black where depth is unknown. (H, W) -> (3, H, W) in [0, 1]"""
    known = depth > 0
    inverse = torch.where(known, 1 / depth.clamp(min=1e-12), 0.0)
    share = ((inverse - ends[0]) / (ends[1] - ends[0]).clamp(min=1e-12)).clamp(0, 1)
    colored = cv2().applyColorMap((255 * share).byte().numpy(), cv2().COLORMAP_TURBO)[..., ::-1]
    return torch.from_numpy(colored.copy()).permute(2, 0, 1) / 255 * known


def depth_facts(found: DepthMap) -> dict[str, float]:
    """Shares of the pixels of a depth map: with a depth, with one that another view confirms, filled, and mean confidence."""
    known = (found.depth > 0).float()
    return {
        "known": round(float(known.mean()), 4),
        "confirmed": round(float((found.support > 0).float().mean()), 4),
        "filled": round(float(found.filled.float().mean()), 4),
        "confidence": round(float(found.confidence.sum() / known.sum().clamp(min=1)), 4),
    }

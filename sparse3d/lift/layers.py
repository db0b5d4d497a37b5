"""One photo with depth to Gaussians: the surfaces it shows, what lies behind their edges, the sky."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.init.depth_map import DepthMap
from sparse3d.init.fusion import flat_gaussians
from sparse3d.init.initialization import Origin, Start
from sparse3d.init.surfels import surfels
from sparse3d.push_pull import push_pull
from sparse3d.types import Gaussians, View

JUMP = 0.05  # relative difference of neighbouring depths that is an edge
SHELL = 3.0  # distance of the sky in depths of the farthest surface
_LONGEST = 0.12  # of the longer side: how far behind an edge the background is continued at most
_BAND = 3  # pixels beside an edge that say what the background is like
_OPACITY = 0.95
_FARTHEST = 0.99  # quantile of depth that counts as farthest


@dataclass(frozen=True)
class Layers:
    """What a photo shows and what is supposed behind it. (H, W), 0 where there is nothing."""

    front: Tensor  # depth of surfaces; what mixes two of them has none
    behind: Tensor  # depth of the background continued behind edges
    behind_color: Tensor  # (3, H, W)
    sky: Tensor  # depth of the shell


def layers(view: View, depth: Tensor, travel: float) -> Layers:
    """Depth cut at its edges, with a background behind them as far as a camera that travels sees (layered depth images, Shade et al. 1998).

    Behind an edge from depth a to b a camera that moves by t across the axis sees f t (1/a - 1/b) pixels more. As far is the background continued,
    its inverse depth and its colours by push and pull from beside the edge.

    Args:
        view: The photo with its camera.
        depth: (H, W) world units along the axis, infinite for the sky.
        travel: How far cameras will move, world units.
    """
    finite = depth.isfinite()
    far = float(depth[finite].quantile(_FARTHEST)) if finite.any() else 1.0
    shell = torch.where(finite, 0.0, SHELL * far)
    whole = torch.where(finite, depth, SHELL * far)
    near_side, far_side = _sides(1 / whole)
    mixed = near_side & far_side  # of two surfaces, as resized maps have them
    front = torch.where(finite & ~mixed, depth, 0.0)
    beyond = -F.max_pool2d(-torch.where(far_side & ~mixed, whole, torch.inf)[None], 2 * _BAND + 1, 1, _BAND)[0]
    beside = beyond.isfinite() & (whole * (1 + JUMP) >= beyond) & ~mixed
    if not beside.any():
        nothing = torch.zeros_like(depth)
        return Layers(front, nothing, torch.zeros_like(view.image), shell)
    background = push_pull((1 / whole)[None], beside.float())[0]
    gained = float(view.K[0, 0]) * travel * (1 / whole - background)
    reach = gained.clamp(0, _LONGEST * max(depth.shape))
    before = 1 / whole > (1 + JUMP) * background
    behind = ((_distance(near_side) < reach + 1) & before) | mixed
    seen = beside | ~(_grown(before, 1) | mixed)  # a pixel of what stands before is in the colours of the next one, too
    color = push_pull(view.image, seen.float())
    return Layers(front, torch.where(behind, 1 / background.clamp(min=1e-12), 0.0), color, shell)


def lifted(view: View, found: Layers, stride: int = 1) -> Start:
    """Gaussians of the layers.

    Args:
        view: The photo with its camera.
        found: Its layers.
        stride: One Gaussian for each stride x stride pixels.

    Returns:
        Of SH degree 0, opaque, as large as what their pixels show. Their origin: PREDICTED what the photo shows, FILLED what is behind,
        GUESSED the sky.
    """
    pictures = (
        (found.front, view, Origin.PREDICTED),
        (found.behind, replace(view, image=found.behind_color), Origin.FILLED),
        (found.sky, view, Origin.GUESSED),
    )
    return Start.joined([Start.of(gaussians_of(picture, depth, stride), origin) for depth, picture, origin in pictures])


def gaussians_of(view: View, depth: Tensor, stride: int) -> Gaussians:
    """One for each stride x stride pixels of a picture that have a depth, opaque. `depth` (H, W) world units, 0 where there is none."""
    known = depth > 0
    nowhere = torch.zeros_like(known)
    found = DepthMap(view, depth, known.float(), torch.zeros_like(depth, dtype=torch.long), nowhere, float(depth.max()))
    made = flat_gaussians(surfels(found, stride))
    return replace(made, logit_opacities=torch.full_like(made.logit_opacities, _OPACITY).logit())


def _sides(inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels on the near and on the far side of an edge, along rows or columns. (H, W) bool each

    Planes are linear in inverse depth: an edge is a step of more than 5 % beyond the smaller one of the steps before and after it.
    """
    near, far = torch.zeros_like(inverse, dtype=torch.bool), torch.zeros_like(inverse, dtype=torch.bool)
    for w, n, f in ((inverse, near, far), (inverse.T, near.T, far.T)):
        step = w.diff(dim=1)
        padded = F.pad(step[None], (1, 1), mode="replicate")[0]
        usual = torch.minimum(padded[:, :-2].abs(), padded[:, 2:].abs())
        edge = step.abs() - usual > JUMP * torch.minimum(w[:, 1:], w[:, :-1])
        rising, falling = edge & (step > 0), edge & (step < 0)
        n[:, 1:] |= rising
        f[:, :-1] |= rising
        n[:, :-1] |= falling
        f[:, 1:] |= falling
    return near, far


def _grown(mask: Tensor, pixels: int) -> Tensor:
    return F.max_pool2d(mask[None].float(), 2 * pixels + 1, 1, pixels)[0] > 0


def _distance(mask: Tensor) -> Tensor:
    """Distance of each pixel to the mask, pixels. (H, W)"""
    from sparse3d.io._pycolmap import cv2

    return torch.from_numpy(
        cv2().distanceTransform((~mask).to(torch.uint8).numpy(), cv2().DIST_L2, cv2().DIST_MASK_PRECISE)
    )

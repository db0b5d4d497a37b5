"""Which depths a sweep looks at: how many planes, where, and how they are tilted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sparse3d.geometry import pixel_rays, project
from sparse3d.types import View

_FEWEST = 32
_TILT_DEG = 40.0  # of the tilted families to either side: walls seen askew, floor and ceiling
_NEAREST = 0.05  # of the ray's slope against a plane: what is seen flatter than this is taken as this flat


def sweep_depths(near: float, far: float, planes: int) -> Tensor:
    """Depth planes of a plane-sweep cost volume, even in inverse depth.

    Even steps in 1/depth are about even steps along the epipolar line, so no plane is spent on distances
    that pixels cannot tell apart. Source: MVSplat (arXiv:2403.14627), cost volume.

    Args:
        near, far: Depth range in world units, 0 < near < far.
        planes: Number of planes D, at least 2.

    Returns:
        Depths from near to far. (D,) float32, world units.

    Raises:
        ValueError: the range is empty or reaches behind the camera.
    """
    if not 0 < near < far or planes < 2:
        raise ValueError(
            f"depth range [{near}, {far}] with {planes} planes; needed 0 < near < far and at least 2 planes"
        )
    return 1.0 / torch.linspace(1.0 / near, 1.0 / far, planes)


def plane_count(view: View, sources: Sequence[View], near: float, far: float, step_px: float, most: int) -> int:
    """How many planes tell apart what moves by `step_px` in the source that moves most.

    Args:
        view: Whose depth is looked for.
        sources: At least one.
        near, far: World units.
        step_px: Pixels of a source between two planes.
        most: Limit.

    Returns:
        From 32 to `most`.
    """
    K = view.K / torch.tensor([view.width / 8, view.height / 8, 1.0])[:, None]
    rays = pixel_rays(K, 8, 8).reshape(-1, 3)
    longest = 0.0
    for source in sources:
        ends = []
        for depth in (near, far):
            points = rays * depth @ view.c2w[:3, :3].T + view.c2w[:3, 3]
            ends.append(project(points, source.cameras.w2c[0], source.K))
        (first, z_first), (last, z_last) = ends
        moved = (first - last).norm(dim=1)[(z_first > 0) & (z_last > 0)]
        if len(moved):
            longest = max(longest, min(float(moved.median()), math.hypot(source.width, source.height)))
    return min(max(math.ceil(longest / step_px) + 1, min(_FEWEST, most)), most)


def tilts(view: View) -> list[Tensor]:
    """The shapes of four families of tilted planes: what their depth is at each pixel, 1 on the optical axis.

    Walls, floors and ceilings are seldom parallel to the picture; a window of pixels on them matches only along planes that
    are tilted as they are (Gallup et al., "Real-time plane-sweeping stereo with multiple sweeping directions", CVPR 2007).

    Args:
        view: Its camera.

    Returns:
        Four of (H, W): turned to the left, right, top and bottom by 40 degrees.
    """
    rays = pixel_rays(view.K, view.height, view.width)
    slope = math.tan(math.radians(_TILT_DEG))
    normals = [(slope, 0.0, 1.0), (-slope, 0.0, 1.0), (0.0, slope, 1.0), (0.0, -slope, 1.0)]
    return [1 / (rays @ torch.tensor(normal)).clamp(min=_NEAREST) for normal in normals]


def at_depths(scores: Tensor, depths: Tensor, relief: Tensor) -> Tensor:
    """Scores of a sweep along a relief as scores at the depths themselves, linear between two.

    Args:
        scores: (D, H, W) of the surfaces depths[d] * relief.
        depths: (D,) even in inverse depth.
        relief: (H, W)

    Returns:
        (D, H, W) at depths[d]; -1 where none of the surfaces comes near.
    """
    inverse, last = 1 / depths, len(depths) - 1
    step = (inverse[-1] - inverse[0]) / last
    place = (inverse * relief[..., None] - inverse[0]) / step  # (H, W, D), the layout of the compiled sweeps
    lower = place.floor().clamp(0, last - 1)
    index, volume = lower.long(), scores.permute(1, 2, 0)
    between = torch.lerp(volume.gather(2, index), volume.gather(2, index + 1), (place - lower).clamp(0, 1))
    there = (place >= -0.5) & (place <= last + 0.5)
    return torch.where(there, between, torch.full_like(between, -1.0)).permute(2, 0, 1)

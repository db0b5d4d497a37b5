"""Dense depth for every view by plane sweep, then Gaussians from the depth. No weights, no GPU.

Multi-view plane sweep (Collins 1996; Gallup et al. 2007) with ZNCC over a window, semi-global smoothing and a check of each
depth against the depth of its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.config import InitConfig
from sparse3d.geometry import fitted_size, pixel_rays, project, scene_extent
from sparse3d.init.costs import sweep_depths, winner
from sparse3d.init.neighbours import choose_sources, depth_range
from sparse3d.kernels import plane_sweep
from sparse3d.progress import StageReporter
from sparse3d.shapes import check_shapes
from sparse3d.types import PosedViews, View

_GREY = (0.299, 0.587, 0.114)
_PATHS = 4  # of semi-global matching; 8 put more of tests/support's slanted plane off by over 3 % (2 % of pixels: 7 %)


@dataclass(frozen=True)
class DepthMap:
    """Depth of one view at the size it was swept."""

    view: View  # resized to the size of `depth`
    depth: Tensor  # (H, W) world units, 0 where unknown
    score: Tensor  # (H, W) ZNCC of the chosen depth, in [-1, 1]
    support: Tensor  # (H, W) int, how many other views' depth agrees

    def __post_init__(self) -> None:
        check_shapes(depth=(self.depth, "H W"), score=(self.score, "H W"), support=(self.support, "H W"))


def estimate_depths(views: PosedViews, config: InitConfig, progress: StageReporter) -> tuple[DepthMap, ...]:
    """Depth of every view that has another to compare with.

    Args:
        views: At least two views.
        config: Planes, window, sources, size.
        progress: Told each view.

    Returns:
        One map for each view; a view with no usable source has depth 0 everywhere, and a warning says so.
    """
    small = tuple(view.resized(*fitted_size(view.height, view.width, config.max_size)) for view in views.views)
    sources = choose_sources(views, config.sources)
    extent = scene_extent(torch.stack([view.c2w for view in small]))
    maps = []
    for index, view in enumerate(small):
        if sources[index]:
            near, far = depth_range(view, views.points, config.near, config.far, extent)
            chosen = [small[j] for j in sources[index]]
            depth, score = _sweep(view, chosen, sweep_depths(near, far, config.planes), config.window)
        else:
            progress.warning(f"{view.name}: no other view looks the same way, so it gets no depth")
            depth, score = torch.zeros(view.height, view.width), torch.full((view.height, view.width), -1.0)
        maps.append((view, depth, score))
        progress.step(index + 1, len(small), f"depth of {view.name}")
    depths = [depth for _, depth, _ in maps]
    return tuple(
        DepthMap(view, depth, score, _support(index, small, depths, sources[index], config.consistency))
        for index, (view, depth, score) in enumerate(maps)
    )


def _grey(image: Tensor) -> Tensor:
    return (image * torch.tensor(_GREY)[:, None, None]).sum(dim=0)


def _sweep(view: View, sources: list[View], depths: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Depth and ZNCC of one view against its sources."""
    grey = _grey(view.image)
    scores = plane_sweep.zncc_sweep(
        grey,
        view.K,
        [_grey(source.image) for source in sources],
        torch.stack([source.K for source in sources]),
        torch.stack([source.cameras.w2c[0] @ view.c2w for source in sources]),
        depths,
        window,
    )
    depth, plane = winner(plane_sweep.semi_global(1 - scores, grey, paths=_PATHS), depths)
    if view.mask is not None:
        depth = torch.where(view.mask, depth, torch.zeros_like(depth))
    if any(source.mask is not None for source in sources):
        depth = torch.where(_seen_unmasked(world_points(view, depth), sources), depth, torch.zeros_like(depth))
    return depth, scores.gather(0, plane[None])[0]


def _seen_unmasked(points: Tensor, sources: list[View]) -> Tensor:
    """Which points a source sees where its mask lets it: the others matched background. (H, W, 3) -> (H, W) bool"""
    seen = torch.zeros(points.shape[:2], dtype=torch.bool)
    for source in sources:
        mask = torch.ones(source.height, source.width) if source.mask is None else source.mask.float()
        seen |= (sampled(mask, source, points.reshape(-1, 3))[0] > 0).reshape(seen.shape)
    return seen


def _support(index: int, views: tuple[View, ...], depths: list[Tensor], sources: list[int], tolerance: float) -> Tensor:
    """How many source views see a view's points at the depth that they found themselves.

    Forward-backward check: a pixel is carried into the source, the source's depth there is compared.
    """
    view, depth = views[index], depths[index]
    points = world_points(view, depth).reshape(-1, 3)
    support = torch.zeros(depth.numel(), dtype=torch.int32)
    for j in sources:
        found, z = sampled(depths[j], views[j], points)
        support += ((found > 0) & ((found - z).abs() <= tolerance * z)).int()
    return torch.where(depth > 0, support.reshape(depth.shape), torch.zeros_like(support.reshape(depth.shape)))


def sampled(values: Tensor, view: View, points: Tensor) -> tuple[Tensor, Tensor]:
    """What a view's (H, W) `values` hold where the view sees P points, 0 where it does not; and the points' depths.

    Args:
        values: (H, W) float32.
        view: Of that size.
        points: (P, 3) in the world.

    Returns:
        (P,) values and (P,) depths.
    """
    pixels, z = project(points, view.cameras.w2c[0], view.K)
    size = torch.tensor([view.width, view.height], dtype=torch.float32)
    grid = (2 * pixels / size - 1)[None, None]
    # the nearest pixel, not a blend: a blend across an edge is a depth that nothing has
    found = F.grid_sample(values[None, None], grid, mode="nearest", align_corners=False)[0, 0, 0]
    return torch.where(z > 0, found, torch.zeros_like(found)), z


def world_points(view: View, depth: Tensor, stride: int = 1) -> Tensor:
    """Points of a depth map in the world.

    Args:
        view: Its camera.
        depth: (H, W), one for each stride x stride pixels of the view, on the ray through the middle of that block.
        stride: Pixels.

    Returns:
        (H, W, 3)
    """
    K = view.K / torch.tensor([stride, stride, 1.0])[:, None]
    camera = pixel_rays(K, *depth.shape) * depth[..., None]
    return camera @ view.c2w[:3, :3].T + view.c2w[:3, 3]

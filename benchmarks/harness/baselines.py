"""What a scene is made with: the settings that are measured, or a fixed baseline to compare them with.

A baseline starts from the balanced preset and shares `pose` and `renderer` with the settings that are measured, no more.
A setting that is added to sparse3d later, and changes results by default, has to be turned off in both lists below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from sparse3d.config import Config, load_config
from sparse3d.geometry import pixel_rays, scene_extent
from sparse3d.init.initialization import Initialization, Origin, Start
from sparse3d.init.initialize import initialize
from sparse3d.init.neighbours import depth_range
from sparse3d.init.sfm import START_OPACITY, from_points, neighbour_distance, round_gaussians
from sparse3d.progress import StageReporter
from sparse3d.types import Gaussians, PosedViews

# 3DGS (arXiv:2308.04079) as its program runs it for 7000 iterations, but for densification, which is that of 3DGS-MCMC
# (arXiv:2404.09591) with its published noise, interval and share of the steps (25,000 of 30,000). Not offered by sparse3d:
# that paper's regularization of opacities and scales, and that it leaves the first 500 steps alone.
PLAIN = (
    "init.method=sfm",
    "optimize.steps=7000",
    "optimize.coarse=0",
    "optimize.ssim_weight=0.2",
    "optimize.means_lr=1.6e-4",
    "optimize.means_lr_final=1.6e-6",
    "optimize.means_lr_unit=rig",
    "optimize.scales_lr=5e-3",
    "optimize.quats_lr=1e-3",
    "optimize.opacities_lr=0.05",
    "optimize.sh_lr=2.5e-3",
    "optimize.sh_degree=3",
    "optimize.sh_interval=1000",
    "optimize.dropout=0",
    "optimize.opacity_decay=1",
    "optimize.guess_decay=1",
    "optimize.exposure=off",
    "optimize.background=black",
    "optimize.antialiased=false",
    "optimize.strategy=mcmc",
    "optimize.max_gaussians=200000",
    "optimize.refine_interval=100",
    "optimize.refine_stop=0.8333",
    "optimize.noise=5e5",
    "optimize.prune_opacity=0.005",
    "optimize.refine_cameras=off",
    "optimize.time_limit_s=null",
)

# sparse3d 0.1.0, before it was tuned for few views
FIRST = (
    "init.method=auto",
    "init.max_size=504",
    "init.planes=128",
    "init.plane_step=1",
    "init.sources=4",
    "init.window=7",
    "init.feature_weight=0",
    "init.min_confidence=0.5",
    "init.consistency=0.03",
    "init.stride=2",
    "init.max_gaussians=250000",
    "optimize.steps=1500",
    "optimize.coarse=0.5",
    "optimize.ssim_weight=0.2",
    "optimize.means_lr=1.6e-4",
    "optimize.means_lr_final=1.6e-6",
    "optimize.means_lr_unit=rig",
    "optimize.scales_lr=5e-3",
    "optimize.quats_lr=1e-3",
    "optimize.opacities_lr=0.05",
    "optimize.sh_lr=2.5e-3",
    "optimize.sh_degree=1",
    "optimize.sh_interval=1000",
    "optimize.dropout=0.2",
    "optimize.dropout_from=0.1",
    "optimize.opacity_decay=0.996",
    "optimize.guess_decay=1",
    "optimize.exposure=off",
    "optimize.background=mean",
    "optimize.antialiased=false",
    "optimize.strategy=none",
    "optimize.prune_opacity=0.005",
    "optimize.refine_cameras=auto",
    "optimize.cameras_lr_deg=0.02",
    "optimize.cameras_lr_final_deg=2e-4",
    "optimize.cameras_from=0.05",
    "optimize.cameras_max_deg=1",
    "optimize.cameras_max_focal=0",
    "optimize.time_limit_s=null",
)

_RANDOM_POINTS = 100_000  # 3DGS, for synthetic scenes
_FEWEST_POINTS = 20  # fewer cannot grow: densification adds a twentieth


@dataclass(frozen=True)
class Method:
    """How scenes are made from posed views."""

    name: str
    config: Config
    first: Callable[[PosedViews, Config], Initialization]


def measured(config: Config) -> Method:
    """sparse3d with these settings."""
    return Method("sparse3d", config, initialized)


def baseline(name: str, config: Config) -> Method:
    """A baseline beside these settings.

    Args:
        name: A key of BASELINES.
        config: Whose `pose` and `renderer` it takes.
    """
    assignments, first = BASELINES[name]
    fixed = replace(load_config("balanced", assignments), pose=config.pose, renderer=config.renderer)
    return Method(name, fixed, first)


def initialized(views: PosedViews, config: Config) -> Initialization:
    """First Gaussians by sparse3d's own initialization, with what it says of the views."""
    generator = torch.Generator().manual_seed(config.seed)
    return initialize(views, config.init, StageReporter("init"), generator)


def unguarded(views: PosedViews, config: Config) -> Initialization:
    """The same without a word about the views, which sparse3d 0.1.0 did not judge."""
    return replace(initialized(views, config), support=None)


def points_or_random(views: PosedViews, config: Config) -> Initialization:
    """Gaussians on the sparse points, as 3DGS starts; where there are next to none, on random points."""
    sparse = from_points(views.points)
    enough = len(sparse) >= _FEWEST_POINTS
    first = sparse if enough else random_points(views, _RANDOM_POINTS, config.seed)
    return Initialization(Start.of(first, Origin.SPARSE), (), "sfm", "as 3DGS starts")


def random_points(views: PosedViews, count: int, seed: int) -> Gaussians:
    """Gaussians of random colours at random places that the views see, even over the pictures and in inverse depth.

    3DGS draws them from a cube around its synthetic scenes; photographed scenes have no such bounds, so these are drawn
    from what the cameras see, up to a hundred times their distance.

    Args:
        views: Without points that would tell the range of depth.
        count: How many, about: a multiple of the number of views.
        seed: Of places and colours.
    """
    generator = torch.Generator().manual_seed(seed)
    extent = scene_extent(torch.stack([view.c2w for view in views.views]))
    each = -(-count // len(views.views))
    parts = []
    for view in views.views:
        near, far = depth_range(view, views.points, None, None, extent)
        rays = pixel_rays(view.K, view.height, view.width).reshape(-1, 3)
        chosen = rays[torch.randint(len(rays), (each,), generator=generator)]
        inverse = 1 / far + (1 / near - 1 / far) * torch.rand(each, 1, generator=generator)
        parts.append(chosen / inverse @ view.c2w[:3, :3].T + view.c2w[:3, 3])
    places = torch.cat(parts)
    colours = torch.rand(len(places), 3, generator=generator)
    return round_gaussians(places, neighbour_distance(places).clamp(min=1e-7), START_OPACITY, colours)


BASELINES = {"plain": (PLAIN, points_or_random), "first": (FIRST, unguarded)}


def methods(preset: str, settings: Sequence[str], baselines: Sequence[str]) -> list[Method]:
    """sparse3d with a preset and assignments, and the baselines that were asked for."""
    config = load_config(preset, settings)
    return [measured(config), *(baseline(name, config) for name in baselines)]

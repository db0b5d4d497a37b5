"""What steps in the world are measured in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse3d.config import OptimizeConfig
from sparse3d.geometry import project, scene_extent
from sparse3d.types import Gaussians, View


def means_unit(gaussians: Gaussians, views: Sequence[View], config: OptimizeConfig) -> float:
    """World units that the rates of means are multiples of, as `config.means_lr_unit` says.

    3DGS (arXiv:2308.04079) takes the size of the camera rig. A forward-facing rig is a tenth as large as what it looks at is far, one
    around an object as large: counted in pixels, steps of the one would be a tenth of the other's. The depth of what is seen has no such bias.
    """
    views = [view for view in views if not view.generated] or views
    if config.means_lr_unit == "rig":
        return scene_extent(torch.stack([view.c2w for view in views]))
    return typical_depth(gaussians.means.detach(), views)


def typical_depth(points: Tensor, views: Sequence[View]) -> float:
    """Median depth of points over all views that have them in the picture.

    Args:
        points: (N, 3) in the world.
        views: At least one.

    Returns:
        World units, above 0; the size of the rig where no view sees any point.
    """
    depths = []
    for view in views:
        pixels, z = project(points, view.cameras.w2c[0], view.K)
        size = pixels.new_tensor([view.width, view.height])
        depths.append(z[(z > 0) & ((pixels >= 0) & (pixels < size)).all(1)])
    seen = torch.cat(depths)
    return max(float(seen.median()), 1e-6) if len(seen) else scene_extent(torch.stack([view.c2w for view in views]))

"""Which Gaussians photos speak for: how many of them see each, in colour."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse3d.geometry import fitted_size, project
from sparse3d.render import Draw
from sparse3d.types import Gaussians, PosedViews, View

_SIZE = 320  # longer side of the renders that say what is seen, pixels
_TOLERANCE = 0.05  # of the depth: how far behind the visible surface a Gaussian still belongs to it

# seen by three photos or more, by two, by one, by drawn views alone, by none
LEGEND = (
    ("three or more photos", (0.15, 0.65, 0.30)),
    ("two photos", (0.70, 0.80, 0.20)),
    ("one photo: a guess in depth", (0.95, 0.55, 0.10)),
    ("drawn views alone", (0.58, 0.32, 0.94)),
    ("no view", (0.80, 0.15, 0.20)),
)


def confidence_colours(gaussians: Gaussians, posed: PosedViews, draw: Draw) -> Tensor:
    """A colour for each Gaussian by the views that see it; see `LEGEND`. (N, 3) in [0, 1]"""
    photos = times_seen(gaussians, [view for view in posed.views if not view.generated], draw)
    drawn = times_seen(gaussians, [view for view in posed.views if view.generated], draw)
    kind = torch.where(photos > 0, 3 - photos.clamp(max=3), torch.where(drawn > 0, 3, 4))
    return torch.tensor([colour for _, colour in LEGEND])[kind]


def times_seen(gaussians: Gaussians, views: list[View], draw: Draw) -> Tensor:
    """In how many views each Gaussian's centre lies on the surface that is visible, or in front of it. (N,) int64

    The surface is the median depth of the scene drawn from the view; where nothing is drawn nothing is seen.
    """
    seen = torch.zeros(len(gaussians), dtype=torch.int64)
    for view in views:
        height, width = fitted_size(view.height, view.width, _SIZE)
        camera = view.cameras.scaled_to(height, width)
        surface = draw(camera).median_depth[0].cpu()
        pixels, depth = project(gaussians.means.cpu(), camera.w2c[0], camera.K[0])
        column, row = pixels.floor().long().unbind(-1)
        inside = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        there = surface[row.clamp(0, height - 1), column.clamp(0, width - 1)]
        seen += inside & (there > 0) & (depth <= (1 + _TOLERANCE) * there)
    return seen

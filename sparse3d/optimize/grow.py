"""New Gaussians where a prior stands for something and the scene shows nothing."""

from __future__ import annotations

from torch import Tensor

from sparse3d.init.depth_map import block_size, world_points
from sparse3d.init.sfm import round_gaussians
from sparse3d.init.surfels import block_colors
from sparse3d.kernels.warp import Warp
from sparse3d.optimize.regularize import Fitting
from sparse3d.push_pull import block_means
from sparse3d.types import Gaussians, View

_SIGMA = 0.6  # standard deviation, in distances to the next Gaussian
_OPACITY = 0.5
_EMPTY = 0.5  # opacity of a render and validity of the photos, below which a pixel shows nothing
_STRIDE = 2  # pixels from one Gaussian to the next


def fill_empty(fitting: Fitting, view: View, seen: Warp, depth: Tensor, where: Tensor | None = None) -> int:
    """Adds Gaussians to a scene where it is empty and no photo shows anything.

    Args:
        fitting: The scene.
        view: From where, and what they are to show.
        seen: What the photos show of this view.
        depth: (H, W) where they are, world units, above 0.
        where: (H, W) bool, nowhere else; anywhere when None.

    Returns:
        Their number.
    """
    empty = (fitting.drawn(view.cameras).alpha[0] < _EMPTY) & (seen.validity < _EMPTY)
    if where is not None:
        empty &= where
    if not empty.any():
        return 0
    made = seeds(view, empty, depth, _STRIDE)
    fitting.add(made)
    return len(made)


def seeds(view: View, empty: Tensor, depth: Tensor, stride: int) -> Gaussians:
    """Round Gaussians in the view's colours, one for each block of which more than half is empty.

    Args:
        view: What they are to show.
        empty: (H, W) bool.
        depth: (H, W) where they are, world units, above 0.
        stride: Side of a block, pixels.

    Returns:
        Of SH degree 0 and opacity 0.5.
    """
    chosen = block_means(empty[None].float(), stride)[0] > 0.5
    z = 1 / block_means(1 / depth[None], stride)[0]
    points = world_points(view, z, stride)[chosen]
    size = _SIGMA * block_size(view, stride) * z[chosen]
    return round_gaussians(points, size, _OPACITY, block_colors(view.image, stride)[chosen])

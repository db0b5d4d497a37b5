"""Our types as the arrays that viser draws: splats, thumbnails, depth as points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparse3d.geometry import fitted_size, pixel_rays, resize_image, rotation_from_quat
from sparse3d.kernels.reference import sh_to_rgb
from sparse3d.shapes import check_shapes
from sparse3d.types import Gaussians, View
from sparse3d.viewer.placement import Placement

# Standard deviations in viewer units between which a variance survives float16: below it would come back as 0 and
# nothing be drawn, above as infinity.
SMALLEST_SCALE, LARGEST_SCALE = 5e-4, 250.0


@dataclass(frozen=True)
class Splats:
    """Gaussians as viser takes them, in viewer coordinates."""

    centers: npt.NDArray[np.float32]  # (N, 3) viewer units
    covariances: npt.NDArray[np.float32]  # (N, 3, 3) viewer units squared
    rgbs: npt.NDArray[np.uint8]  # (N, 3)
    opacities: npt.NDArray[np.float32]  # (N, 1) in [0, 1]

    def __len__(self) -> int:
        return len(self.centers)

    def chunk(self, start: int, size: int) -> Splats:
        """`size` of the Gaussians from `start`, fewer at the end."""
        part = slice(start, start + size)
        return Splats(self.centers[part], self.covariances[part], self.rgbs[part], self.opacities[part])


def splats_from_gaussians(
    gaussians: Gaussians, placement: Placement, max_gaussians: int, colours: Tensor | None = None
) -> Splats:
    """The Gaussians for drawing, in one colour each: viser has no spherical harmonics.

    That colour is a row of `colours`, (N, 3) in [0, 1], or that of degree 0 when None.

    When there are more than `max_gaussians`, those with the least opacity times cross-section are left out. Gaussians
    with a value that is not finite cannot be drawn and are left out too.
    """
    with torch.no_grad():
        numbers = [gaussians.means, gaussians.quats, gaussians.log_scales, gaussians.logit_opacities[:, None]]
        finite = torch.cat([*numbers, gaussians.sh[:, 0]], dim=1).isfinite().all(dim=1)
        chosen = finite.nonzero()[:, 0]
        if len(chosen) > max_gaussians:
            two_largest = gaussians.log_scales[chosen].sort(dim=1).values[:, 1:].sum(dim=1)
            weight = torch.log(gaussians.opacities[chosen]) + two_largest
            chosen = chosen[weight.topk(max_gaussians).indices.sort().values]

        # covariance R diag(s^2) R^T; 3DGS (arXiv:2308.04079) eq. 6
        rotations = rotation_from_quat(gaussians.quats[chosen])
        scales = (gaussians.scales[chosen] * placement.scale).clamp(SMALLEST_SCALE, LARGEST_SCALE)
        columns = rotations * scales[:, None, :]
        covariances = columns @ columns.transpose(1, 2)
        if colours is None:
            rgbs = sh_to_rgb(0, gaussians.means[chosen], gaussians.sh[chosen])  # at degree 0, any direction does
        else:
            rgbs = colours[chosen]
        return Splats(
            placement.points(gaussians.means[chosen]),
            covariances.float().cpu().numpy(),
            to_uint8(rgbs),
            gaussians.opacities[chosen, None].float().cpu().numpy(),
        )


def thumbnail(view: View, max_size: int) -> npt.NDArray[np.uint8]:
    """The view's picture with its longer side at most `max_size` pixels. (h, w, 3)"""
    small, _ = resize_image(view.image, view.K, *fitted_size(view.height, view.width, max_size))
    return to_uint8(small.movedim(0, -1))


def depth_points(
    view: View, depth: Tensor, placement: Placement, max_points: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """A depth map as a coloured point cloud, one point for each pixel whose depth is known.

    Args:
        view: The view that the depth belongs to; gives camera and colours.
        depth: (h, w) z-depth in world units, 0 where unknown; may be smaller than the view.
        placement: Of the viewer.
        max_points: A larger map is thinned to every second, third ... row and column.

    Returns:
        (P, 3) viewer coordinates and (P, 3) colours.

    Raises:
        ValueError: the depth is no (h, w) map.
    """
    check_shapes(depth=(depth, "h w"))
    depth = depth.detach().to(view.image.device)
    image, K = resize_image(view.image, view.K, *depth.shape)
    step = max(1, int(np.ceil((depth.numel() / max_points) ** 0.5)))
    rays = pixel_rays(K, *depth.shape)[::step, ::step]
    colours = image.movedim(0, -1)[::step, ::step]
    depth = depth[::step, ::step]
    known = depth.isfinite() & (depth > 0)
    camera = rays[known] * depth[known][:, None]
    world = camera @ view.c2w[:3, :3].T + view.c2w[:3, 3]
    return placement.points(world), to_uint8(colours[known])


def to_uint8(colours: Tensor) -> npt.NDArray[np.uint8]:
    """Colours from [0, 1], clipped and rounded to 0 ... 255; viser by itself would round down."""
    return (colours.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()

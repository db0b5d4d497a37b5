"""Cameras as Stable Virtual Camera is told of them (Zhou et al. 2025, arXiv:2503.14489): a scale of its own, and a ray at every pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.geometry import invert_rigid, pixel_rays
from sparse3d.shapes import check_shapes
from sparse3d.types import Cameras

REACH = 2.0  # distance of the first camera from the middle of all, units of the network
_FAR = 10.0  # a centre so many times as far out as most does not count for the middle
_MOST = 0.97


def normalized_poses(c2w: Tensor, reach: float = REACH) -> Tensor:
    """The same cameras about the mean of their centres, the first one at distance `reach` from it.

    Centres more than ten times as far from the median centre as 97 % of all are left out of the mean. A first camera in the middle
    has no distance to scale by: then lengths are multiplied by `reach` as they are.

    Args:
        c2w: (V, 4, 4), world units, rigid.
        reach: Units of the network.

    Returns:
        (V, 4, 4), rotations unchanged.
    """
    check_shapes(c2w=(c2w, "V 4 4"))
    centres = c2w[:, :3, 3]
    spread = (centres - centres.median(dim=0).values).norm(dim=1)  # of an even number the lower of the two
    centred = centres - centres[spread <= _FAR * torch.quantile(spread, _MOST)].mean(dim=0)
    distance = float(centred[0].norm())
    scaled = c2w.clone()
    scaled[:, :3, 3] = centred * (reach if distance <= 1e-5 else reach / distance)
    return scaled


def plucker_maps(cameras: Cameras, shrink: int = 8) -> Tensor:
    """The rays of all cameras in the axes of the first: unit direction d, then moment o x d about the first camera's centre.

    Rays go through the middles of the pixels of a picture 1/8 as large. Intrinsics are in pixels and shrink with width and height
    each for itself. The published code takes them relative to the picture, and divides principal points that are not by (height, width)
    where (width, height) is meant: this is right for pictures of any shape, and the same for those given relative.

    Args:
        cameras: V, normalized, of pictures of a size that `shrink` divides.
        shrink: Pixels of the picture along a pixel of the map.

    Returns:
        (V, 6, height / shrink, width / shrink)

    Raises:
        ValueError: `shrink` does not divide the size.
    """
    if cameras.height % shrink or cameras.width % shrink:
        raise ValueError(f"pictures of {cameras.height}x{cameras.width}, needed multiples of {shrink}")
    height, width = cameras.height // shrink, cameras.width // shrink
    relative = invert_rigid(cameras.c2w[:1]) @ cameras.c2w
    K = cameras.scaled_to(height, width).K
    rays = F.normalize(torch.stack([pixel_rays(one, height, width) for one in K]), dim=-1)  # (V, h, w, 3)
    directions = torch.einsum("vij,vhwj->vhwi", relative[:, :3, :3], rays)
    origins = relative[:, None, None, :3, 3].expand_as(directions)
    return torch.cat([directions, torch.linalg.cross(origins, directions)], dim=-1).permute(0, 3, 1, 2)


def distance_to_inputs(c2w: Tensor, inputs: Tensor) -> Tensor:
    """How far each camera is from the nearest input, with 0 for the same and 1 for the farthest of all.

    The length of the difference of the matrices [R | t]: of normalized cameras, turning about the scene and moving count alike.

    Args:
        c2w: (V, 4, 4), normalized.
        inputs: (V,) bool, at least one.

    Returns:
        (V,) in [0, 1]; zeros where all cameras are inputs.
    """
    flat = c2w[:, :3].flatten(1)
    nearest = (flat[:, None] - flat[inputs]).norm(dim=2).min(dim=1).values
    return nearest / nearest.max().clamp(min=1e-6)

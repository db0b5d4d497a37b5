"""Gaussians in another frame: turned by half a turn about x, between OpenCV's axes and those with y up."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse3d.types import Gaussians

# signs of the real harmonics under y -> -y, z -> -z, in the order of 3DGS: minus where y and z come to an odd power together
_SIGNS = (1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1)


def half_turn(gaussians: Gaussians) -> Gaussians:
    """The scene with y and z negated: from x right, y down, z forward to x right, y up, z backward, and back.

    A proper rotation, so that covariances and view-dependent colours stay exact: of a quaternion (w, x, y, z) of the axes comes
    (w, x, -y, -z), the same rotation in turned axes, whose ellipsoid is the same for its axes may point either way.
    """
    flip = torch.tensor([1.0, -1.0, -1.0])
    quats = gaussians.quats * torch.tensor([1.0, 1.0, -1.0, -1.0])
    signs = torch.tensor(_SIGNS[: gaussians.sh.shape[1]], dtype=torch.float32)
    return Gaussians(
        gaussians.means * flip,
        quats,
        gaussians.log_scales,
        gaussians.logit_opacities,
        gaussians.sh * signs[:, None],
    )


def to_degree(gaussians: Gaussians, degree: int) -> Gaussians:
    """With spherical harmonics of this degree: higher ones are left out, missing ones are 0."""
    count = (degree + 1) ** 2
    sh: Tensor = torch.nn.functional.pad(gaussians.sh[:, :count], (0, 0, 0, max(0, count - gaussians.sh.shape[1])))
    return Gaussians(*gaussians.values()[:4], sh)

"""What a network gave becomes a Prediction, checked on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.pose.networks.placement import Placement, to_photos
from sparse3d.pose.networks.protocol import Prediction
from sparse3d.pose.networks.weights import Package

_ORTHONORMAL = 1e-3  # largest entry of R^T R - 1 that passes: float32 stays far below
_FOCAL = (0.05, 100.0)  # focal length over the longer side: 169 to 0.6 degrees of view


def tensor_of(package: Package, name: str, value: Any, *shapes: Sequence[int]) -> Tensor:
    """A network's output as float32 on the CPU.

    Args:
        package: For the message.
        name: What the package calls it.
        value: Tensor or array; None when the package gave nothing.
        shapes: Those that its documentation allows.

    Raises:
        UserError: missing, or of another shape: another version of the package, or weights of another kind.
    """
    shape = getattr(value, "shape", None)
    if shape is None or tuple(shape) not in {tuple(allowed) for allowed in shapes}:
        found = f"a {type(value).__name__}" if shape is None else f"shape {tuple(shape)}"
        raise UserError(
            f"{package.title} gave {found} for {name}, needed {' or '.join(str(tuple(allowed)) for allowed in shapes)}. "
            f"This is another version of {package.module}, or weights of another kind, than sparse3d was written for; "
            f"install the current one with: {package.install}"
        )
    return torch.as_tensor(value).detach().to("cpu", torch.float32, copy=True)


def prediction(
    package: Package,
    name: str,
    verified: bool,
    placements: list[Placement],
    w2c: Tensor,
    K: Tensor,
    depth: Tensor,
    depth_confidence: Tensor,
) -> Prediction:
    """A checked prediction, its cameras in pixels of the photos.

    Args:
        package, name, verified: Whose it is.
        placements: V, where the photos lie in the network's pictures.
        w2c: (V, 3, 4) or (V, 4, 4)
        K: (V, 3, 3) pixels of the pictures, pixel centres at +0.5.
        depth, depth_confidence: (V, h, w)

    Raises:
        UserError: a camera that is not finite, no rotation, or of an absurd focal length.
    """
    views = len(placements)
    full = torch.eye(4).repeat(views, 1, 1)
    full[:, :3] = w2c[:, :3]
    rotation = full[:, :3, :3]
    off = (rotation.mT @ rotation - torch.eye(3)).abs().amax(dim=(1, 2))
    focal = torch.stack([K[:, 0, 0], K[:, 1, 1]]) / max(placements[0].picture)
    good = full.isfinite().all(dim=(1, 2)) & K.isfinite().all(dim=(1, 2))
    good &= (off < _ORTHONORMAL) & (torch.linalg.det(rotation.nan_to_num()) > 0)
    good &= ((focal > _FOCAL[0]) & (focal < _FOCAL[1])).all(dim=0)
    if not good.all():
        which = ", ".join(str(i + 1) for i in (~good).nonzero()[:, 0].tolist())
        raise UserError(
            f"{package.title} gave no valid camera for photo {which} of {views}: a number is not finite, the rotation is "
            "none, or the focal length is out of all measure. Leave the photo out, or find the cameras another way"
        )
    inside = torch.stack([placement.inside for placement in placements])
    valid = inside & depth.isfinite() & (depth > 0) & depth_confidence.isfinite()
    depth, depth_confidence = depth.where(valid, 0.0), depth_confidence.where(valid, 0.0)
    confidence = torch.stack(
        [c[v].median() if v.any() else c.new_zeros(()) for c, v in zip(depth_confidence, valid, strict=True)]
    )
    return Prediction(
        full, to_photos(K, placements).float(), confidence, name, verified, depth, depth_confidence, K.float()
    )

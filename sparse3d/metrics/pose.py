"""How far estimated cameras are from true ones, after the best similarity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse3d.shapes import check_shapes


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation @ x + translation."""

    scale: float
    rotation: Tensor  # (3, 3)
    translation: Tensor  # (3,)

    def apply_to_cameras(self, c2w: Tensor) -> Tensor:
        """Moves cameras into the other frame; they stay rigid. (V, 4, 4) -> (V, 4, 4)"""
        moved = c2w.clone()
        moved[:, :3, :3] = self.rotation @ c2w[:, :3, :3]
        moved[:, :3, 3] = self.scale * c2w[:, :3, 3] @ self.rotation.T + self.translation
        return moved


@dataclass(frozen=True)
class PoseErrors:
    """Errors of V cameras after alignment."""

    rotation_deg: Tensor  # (V,)
    position: Tensor  # (V,) share of the true rig's extent: its largest distance to the mean centre


def align_cameras(c2w: Tensor, truth: Tensor) -> Similarity:
    """The similarity that brings camera centres onto the true ones in least squares.

    Umeyama 1991 (doi 10.1109/34.88573). Two cameras, or cameras on a line, leave the turn around that line
    open; their orientations then decide it: each camera also lends the ends of its axes, at a small weight.

    Args:
        c2w: (V, 4, 4) estimated, V >= 2.
        truth: (V, 4, 4) the same cameras in the true frame.

    Raises:
        ValueError: fewer than two cameras, or all in one place.
    """
    check_shapes(c2w=(c2w, "V 4 4"), truth=(truth, "V 4 4"))
    if len(c2w) < 2:
        raise ValueError(f"aligning needs at least 2 cameras, found {len(c2w)}")
    source, target = c2w[:, :3, 3].double(), truth[:, :3, 3].double()
    source_mean, target_mean = source.mean(0), target.mean(0)
    a, b = source - source_mean, target - target_mean
    if a.norm() < 1e-12 or b.norm() < 1e-12:
        raise ValueError("aligning needs cameras in at least two places; all are in one")
    spread_a, spread_b = a.norm() / len(a) ** 0.5, b.norm() / len(b) ** 0.5
    # orientations: R_truth R_estimate^T is the rotation each camera votes for
    votes = (truth[:, :3, :3].double() @ c2w[:, :3, :3].double().transpose(1, 2)).mean(0)
    covariance = (b / spread_b).T @ (a / spread_a) / len(a) + 1e-2 * votes
    u, _, vt = torch.linalg.svd(covariance)
    sign = torch.diag(torch.tensor([1.0, 1.0, float(torch.sign(torch.det(u @ vt)))], dtype=torch.float64))
    rotation = u @ sign @ vt
    scale = float((b * (a @ rotation.T)).sum() / (a * a).sum())
    translation = target_mean - scale * rotation @ source_mean
    return Similarity(scale, rotation.to(c2w.dtype), translation.to(c2w.dtype))


def pose_errors(c2w: Tensor, truth: Tensor) -> PoseErrors:
    """Rotation and position errors of cameras after the best similarity. Arguments as in `align_cameras`."""
    aligned = align_cameras(c2w, truth).apply_to_cameras(c2w)
    relative = aligned[:, :3, :3].transpose(1, 2) @ truth[:, :3, :3]
    # sin from the skew part stays exact for small angles, where acos does not
    skew = torch.stack(
        [
            relative[:, 2, 1] - relative[:, 1, 2],
            relative[:, 0, 2] - relative[:, 2, 0],
            relative[:, 1, 0] - relative[:, 0, 1],
        ],
        -1,
    )
    cosine = (relative.diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2
    angle = torch.rad2deg(torch.atan2(skew.norm(dim=-1) / 2, cosine))
    centres = truth[:, :3, 3]
    extent = (centres - centres.mean(0)).norm(dim=1).max()
    return PoseErrors(angle, (aligned[:, :3, 3] - centres).norm(dim=1) / extent)

"""Cameras that are wrong on purpose, and how wrong cameras are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from sparse3d.geometry import se3_exp
from sparse3d.metrics.pose import pose_errors
from sparse3d.types import View


@dataclass(frozen=True)
class Perturbation:
    """What is done to the set's own cameras: what structure from motion may err by."""

    angle_deg: float
    focal_percent: float

    def __call__(self, views: Sequence[View], names: Sequence[str], seed: int) -> tuple[View, ...]:
        """The views with their cameras turned and focal lengths changed, none of them in the same way for another seed.

        Args:
            views: Some of the set's.
            names: Of all photos of the set, so that a view is turned the same way whichever others there are.
            seed: Of the axes.
        """
        generator = torch.Generator().manual_seed(1000 + seed)
        axes = {name: torch.randn(3, generator=generator) for name in names}
        changed = []
        for view in views:
            axis = torch.nn.functional.normalize(axes[view.name], dim=0)
            turn = se3_exp(torch.cat([axis * math.radians(self.angle_deg), torch.zeros(3)]))
            K = view.K.clone()
            K[:2, :2] *= 1 + self.focal_percent / 100
            changed.append(replace(view, c2w=view.c2w @ turn, K=K))
        return tuple(changed)


def camera_errors(views: Sequence[View], truth: Sequence[View]) -> dict[str, float]:
    """Mean rotation error in degrees and position error in per cent of the rig after alignment, focal error in per cent."""
    errors = pose_errors(*(torch.stack([view.c2w for view in some]).double() for some in (views, truth)))
    focal = [float(view.K[0, 0] / true.K[0, 0]) - 1 for view, true in zip(views, truth, strict=True)]
    return {
        "rotation deg": float(errors.rotation_deg.mean()),
        "position %": 100 * float(errors.position.mean()),
        "focal %": 100 * statistics.fmean(focal),
    }

"""The unit of length and the depth range that the network was trained with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse3d.shapes import check_shapes

_NEAR_DISPARITY = 3.0  # of a point at the near end, in sides of the image
_FAR_DISPARITY_PX = 0.5  # of a point at the far end


@dataclass(frozen=True)
class PairFrame:
    """Two cameras at distance 1, and the distances between which the network looks."""

    c2w: Tensor  # (2, 4, 4)
    K: Tensor  # (2, 3, 3) normalized
    near: float  # along rays, in baselines
    far: float
    baseline: float  # what 1 is in the unit that the poses came in


def pair_frame(c2w: Tensor, K: Tensor, height: int, width: int) -> PairFrame:
    """Cameras in units of their baseline.

    The depth range follows: between its ends, a point moves by 3 image sides and by half a pixel from one view to the other.

    Args:
        c2w: (2, 4, 4), from two places.
        K: (2, 3, 3) normalized.
        height, width: Of the images, pixels.
    """
    check_shapes(c2w=(c2w, "2 4 4"), K=(K, "2 3 3"))
    baseline = (c2w[1, :3, 3] - c2w[0, :3, 3]).norm()
    scaled = c2w.clone()
    scaled[:, :3, 3] /= baseline
    pixel = (torch.linalg.inv(K[:, :2, :2]) @ K.new_tensor([1 / width, 1 / height])).mean()  # at distance 1
    near, far = 1 / (_NEAR_DISPARITY * min(height, width) * pixel), 1 / (_FAR_DISPARITY_PX * pixel)
    return PairFrame(scaled, K, float(near), float(far), float(baseline))

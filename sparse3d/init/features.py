"""Features that a network sees at each place of a picture, as another thing to match by than grey values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.kernels import plane_sweep
from sparse3d.models.store import require
from sparse3d.models.weights import load_state
from sparse3d.types import View

_CELL = 8  # pixels of the picture in a feature, to each side
_MULTIPLE = 32  # of the sides of what the network takes, pixels


@dataclass(frozen=True)
class FeatureMap:
    """Features of one view."""

    features: Tensor  # (C, h, w), each of length 1
    K: Tensor  # (3, 3) intrinsics in pixels of `features`


def similarity(
    view: View, own: FeatureMap, sources: Sequence[View], maps: Sequence[FeatureMap], depths: Tensor
) -> Tensor:
    """Mean cosine of the angle between the features of a view and those of its sources over depth planes.

    Args:
        view: Its camera.
        own: Its features.
        sources: S others.
        maps: Their features.
        depths: (D,) world units.

    Returns:
        (D, h, w) in [-1, 1]; a source counts as 0 where it does not see the place.
    """
    scores = plane_sweep.feature_sweep(
        own.features,
        own.K,
        torch.stack([of.features for of in maps]),
        torch.stack([of.K for of in maps]),
        torch.stack([source.cameras.w2c[0] @ view.c2w for source in sources]),
        depths,
    )
    return scores * len(own.features) ** 0.5  # feature_sweep divides by this, as networks want it


class DenseXFeat:
    """XFeat's dense descriptors (Potje et al., CVPR 2024, arXiv:2404.19174): 64 numbers of length 1 for each 8 x 8 pixels."""

    def __init__(self) -> None:
        """Reads the weights.

        Raises:
            UserError: they are not on this machine; says how to get them.
        """
        from kornia.feature import XFeat

        network = XFeat().net
        network.load_state_dict(load_state(require("xfeat")))
        self._network = network.eval()

    def __call__(self, view: View) -> FeatureMap:
        """Features of a view, of at least 32 x 32 pixels. (64, H / 8, W / 8)"""
        height, width = (max(_MULTIPLE, round(side / _MULTIPLE) * _MULTIPLE) for side in (view.height, view.width))
        fitted = view.resized(height, width)
        with torch.inference_mode():
            features = F.normalize(self._network(fitted.image[None])[0][0], dim=0)
        K = fitted.K / torch.tensor([_CELL, _CELL, 1.0])[:, None]
        return FeatureMap(features.clone(), K)

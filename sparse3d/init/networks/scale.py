"""Networks that were trained with one range of depths, in worlds of any scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from sparse3d.init.networks.mvsplat.encoder import Encoded
from sparse3d.init.networks.pairs import Answer
from sparse3d.init.networks.prediction import Prediction

# called with images (V, 3, H, W), poses (V, 4, 4), normalized K (V, 3, 3), near and far in units of the poses
Encoder = Callable[[Tensor, Tensor, Tensor, float, float], Encoded]


class FixedRange:
    """Asks a network for Gaussians: the world is divided until its nearest depth is where the network expects it.

    The range stays that of training whatever the farthest depth is, for what each of its planes means is learned.
    """

    def __init__(self, network: Encoder, near: float, far: float, device: str, nearest: float | None = None) -> None:
        """All in units of the network.

        Args:
            network: On the device.
            near, far: Ends of its range.
            device: Where the network runs.
            nearest: Where the nearest depth of a world is put; None: at `near`.
        """
        self._network, self._near, self._far, self._device = network, near, far, device
        self._nearest = near if nearest is None else nearest
        self._reach = 0.0  # largest ratio of the farthest and the nearest depth that it was asked for

    def __call__(self, images: Tensor, c2w: Tensor, K: Tensor, near: float, far: float) -> Answer:
        """One answer, see `pairs.PairNetwork`."""
        self._reach = max(self._reach, far / near)
        unit, device = near / self._nearest, self._device
        scaled = c2w.clone()
        scaled[:, :3, 3] /= unit
        # convolutions in TF32, CUDA's default, would be off by a thousandth
        with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
            encoded = self._network(images.to(device), scaled.to(device), K.to(device), self._near, self._far)
        raw, distances, opacities, confidences = (part.cpu() for part in encoded)
        return Answer(raw, distances[..., None], opacities[..., None], confidences, unit)

    def noted(self, prediction: Prediction) -> Prediction:
        """The prediction, with a note if the network was asked for depths beyond its range."""
        span = self._far / self._nearest
        if self._reach <= span:
            return prediction
        note = f"the farthest depth is {self._reach:.0f} times the nearest; what is beyond {span:.0f} times is placed there"
        return replace(prediction, notes=(*prediction.notes, note))

"""What a network that predicts cameras takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sparse3d.shapes import check_shapes


@dataclass(frozen=True)
class Prediction:
    """Cameras and, where the network gives it, depth of V photos: a start for refinement, never the last word.

    All tensors are float32 on the CPU. World frame and scale are the network's own; depth has the scale of the cameras.
    """

    w2c: Tensor  # (V, 4, 4) world to camera, OpenCV axes
    K: Tensor  # (V, 3, 3) pixels of the given photos, pixel centres at +0.5
    confidence: Tensor  # (V,) median of the network's depth confidence over the photo; compare within a prediction only
    network: str  # name in the table, as `vggt`
    verified: bool  # True when this loader was run with the published weights
    depth: Tensor | None = None  # (V, h, w) z at the network's own size; 0 where there is no photo or no depth
    depth_confidence: Tensor | None = None  # (V, h, w) on the network's own scale, higher is surer; 0 where depth is 0
    depth_K: Tensor | None = None  # (V, 3, 3) the same cameras in pixels of `depth`

    def __post_init__(self) -> None:
        check_shapes(w2c=(self.w2c, "V 4 4"), K=(self.K, "V 3 3"), confidence=(self.confidence, "V"))
        given = [part is not None for part in (self.depth, self.depth_confidence, self.depth_K)]
        if any(given) and not all(given):
            raise ValueError("depth, depth_confidence and depth_K belong together; give all three or none")
        if self.depth is not None:
            check_shapes(
                w2c=(self.w2c, "V 4 4"),
                depth=(self.depth, "V H W"),
                depth_confidence=(self.depth_confidence, "V H W"),
                depth_K=(self.depth_K, "V 3 3"),
            )


class PoseNetwork(Protocol):
    """A network with its weights in memory."""

    name: str  # in the table

    def predict(self, images: Sequence[Tensor], device: str | torch.device, K: Tensor | None = None) -> Prediction:
        """Cameras of photos of one scene.

        Args:
            images: V photos, each (3, H, W) sRGB in [0, 1]; sizes may differ.
            device: Where the network runs.
            K: (V, 3, 3) known intrinsics in pixels of the photos. Only MapAnything takes them as input; the others have
                no such input and ignore them. The `K` that comes back is the network's own in every case.

        Raises:
            ValueError: no photo, or one of another shape than (3, H, W).
            UserError: what the network gave is not what its package documents.
        """
        ...


def check_photos(images: Sequence[Tensor], K: Tensor | None) -> list[tuple[int, int]]:
    """Height and width of every photo, after checking them.

    Raises:
        ValueError: no photo, a wrong shape, or another number of intrinsics than photos.
    """
    if not images:
        raise ValueError("no photos: a network needs at least one")
    for index, image in enumerate(images):
        check_shapes(**{f"images[{index}]": (image, "3 H W")})
    if K is not None:
        check_shapes(K=(K, f"{len(images)} 3 3"))
    return [(image.shape[1], image.shape[2]) for image in images]


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Half precision that the networks' authors run with: bfloat16 from compute capability 8, float16 on older GPUs.

    Source: README of facebookresearch/vggt. None (full precision) without CUDA.
    """
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16

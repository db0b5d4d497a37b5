"""Depth Anything 3 (Lin et al. 2025, arXiv:2511.10647): cameras and depth of any number of photos.

Through the package `depth_anything_3` of github.com/ByteDance-Seed/Depth-Anything-3 (Apache-2.0); the wheel
`depth-anything-3` 0.1.1 on the package index has the same code. It asks for numpy below 2 and for xformers, though it runs
without both, and needs torchvision. What is written here was read in that repository: README, docs/API.md,
`InputProcessor`, `OutputProcessor` and `DepthAnything3.inference`.

- Weights: DA3-BASE and DA3-SMALL are Apache-2.0, the larger ones CC BY-NC 4.0 (README, model cards).
- Size: the longer side becomes 504 pixels, then each side the nearest multiple of 14; photos that still differ are
  cropped around their middle to the smallest height and the smallest width (`upper_bound_resize`). Landscape mixed with
  portrait therefore loses a quarter and more of every photo.
- Cameras: `extrinsics` are world to camera in OpenCV axes, `intrinsics` in pixels of the processed picture, its principal
  point at (width / 2, height / 2): pixel centres at +0.5.
- Known intrinsics count only together with known extrinsics (`DepthAnything3Net.forward`), so K is not given to it.
- Precision: chosen by the package, which computes in half precision on a CPU too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse3d.pose.networks.outputs import prediction, tensor_of
from sparse3d.pose.networks.placement import Placement, resized
from sparse3d.pose.networks.protocol import Prediction, check_photos
from sparse3d.pose.networks.weights import Package, Published, import_network, load_model, prints_to_stderr

PACKAGE = Package(
    "Depth Anything 3",
    "depth_anything_3",
    "pip install git+https://github.com/ByteDance-Seed/Depth-Anything-3",
)
BASE = Published("depth-anything/DA3-BASE", "Apache-2.0", restricted=False)
OTHERS = (
    Published("depth-anything/DA3-SMALL", "Apache-2.0", restricted=False),
    *(
        Published(f"depth-anything/{size}", "CC BY-NC 4.0 (non-commercial)", restricted=True)
        for size in ("DA3-LARGE-1.1", "DA3-LARGE", "DA3-GIANT-1.1", "DA3-GIANT")
    ),
)
VERIFIED = False  # not yet run with the published weights

_SIZE = 504  # longer side, pixels: the package's process_res
_PATCH = 14


class DepthAnything3:
    """Depth Anything 3 with its weights in memory."""

    def __init__(self, name: str, model: Any) -> None:
        self.name = name
        self._model = model

    def predict(self, images: Sequence[Tensor], device: str | torch.device, K: Tensor | None = None) -> Prediction:
        """See `PoseNetwork.predict`; `K` is not used."""
        placements = placed(check_photos(images, K))
        pictures = [(image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy() for image in images]
        device = torch.device(device)
        with torch.no_grad(), prints_to_stderr():
            self._model.to(device)
            self._model.device = device  # the package remembers the device of its first call
            raw = self._model.inference(pictures, process_res=_SIZE, process_res_method="upper_bound_resize")
        views, (height, width) = len(images), placements[0].picture
        maps = (views, height, width)
        return prediction(
            PACKAGE,
            self.name,
            VERIFIED,
            placements,
            tensor_of(PACKAGE, "extrinsics", raw.extrinsics, (views, 3, 4), (views, 4, 4)),
            tensor_of(PACKAGE, "intrinsics", raw.intrinsics, (views, 3, 3)),
            tensor_of(PACKAGE, "depth", raw.depth, maps),
            tensor_of(PACKAGE, "conf", raw.conf, maps),
        )


def load(name: str, published: Published, weights: str | Path | None) -> DepthAnything3:
    """The network with its weights; see `pose_network`."""
    needs = f"the weights {published.hub_id} ({published.license})"
    api = import_network(PACKAGE, "depth_anything_3.api", needs)
    return DepthAnything3(name, load_model(api.DepthAnything3, PACKAGE, published, weights))


def placed(sizes: Sequence[tuple[int, int]]) -> list[Placement]:
    """Where photos of these (height, width) lie in the processed pictures, which are of one size."""
    each = [resized(size, _processed(*size)) for size in sizes]
    height = min(placement.picture[0] for placement in each)
    width = min(placement.picture[1] for placement in each)
    return [placement.centred_in(height, width) for placement in each]


def _processed(height: int, width: int) -> tuple[int, int]:
    scale = _SIZE / max(height, width)
    return tuple(_nearest_multiple(max(1, round(side * scale))) for side in (height, width))  # type: ignore[return-value]


def _nearest_multiple(side: int) -> int:
    """The nearest multiple of the patch, the larger of two equally near ones."""
    return max(1, (side + _PATCH // 2) // _PATCH * _PATCH)

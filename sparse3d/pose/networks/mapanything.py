"""MapAnything (Keetha et al. 2025, arXiv:2509.13414): metric cameras and depth, from known intrinsics too.

Through the package `mapanything` of github.com/facebookresearch/map-anything (Apache-2.0), which is not on the package
index and needs torchvision. What is written here was read in that repository: README, `preprocess_inputs`,
`crop_resize_if_necessary`, `MapAnything.infer` and `recover_pinhole_intrinsics_from_ray_directions`.

- Weights: facebook/map-anything is CC BY-NC 4.0, facebook/map-anything-apache is Apache-2.0 (README). Its DINOv2 encoder is
  built with torch.hub, which fetches facebookresearch/dinov2 on first use.
- Size: one for all photos, the entry of a fixed table nearest to their mean aspect ratio; each photo is resized to cover
  it and cropped around its middle.
- Cameras: `camera_poses` are camera to world in OpenCV axes, in metres. `intrinsics` have pixel centres at whole numbers:
  half a pixel is added to their principal point here, and taken off on the way in.
- Precision: bfloat16 from compute capability 8, else float16; full precision without CUDA.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse3d.geometry import invert_rigid
from sparse3d.pose.networks.outputs import prediction, tensor_of
from sparse3d.pose.networks.placement import Placement, resized, to_pictures
from sparse3d.pose.networks.protocol import Prediction, autocast_dtype, check_photos
from sparse3d.pose.networks.weights import Package, Published, import_network, load_model, prints_to_stderr

PACKAGE = Package(
    "MapAnything", "mapanything", "pip install torchvision git+https://github.com/facebookresearch/map-anything"
)
RESEARCH = Published("facebook/map-anything", "CC BY-NC 4.0 (non-commercial)", restricted=True)
APACHE = Published("facebook/map-anything-apache", "Apache-2.0", restricted=False)
VERIFIED = False  # not yet run with the published weights

_HALF_PIXEL = torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, 0.5], [0.0, 0.0, 0.0]])


class MapAnything:
    """MapAnything with its weights in memory."""

    def __init__(self, name: str, model: Any, preprocess: Callable[..., Any]) -> None:
        self.name = name
        self._model = model
        self._preprocess = preprocess  # the package's preprocess_inputs

    def predict(self, images: Sequence[Tensor], device: str | torch.device, K: Tensor | None = None) -> Prediction:
        """See `PoseNetwork.predict`; a given `K` is an input of the network."""
        sizes = check_photos(images, K)
        pictures = [(image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy() for image in images]
        device = torch.device(device)
        dtype = autocast_dtype(device)
        with torch.no_grad(), prints_to_stderr():
            views = self._preprocess([{"img": picture} for picture in pictures])
            height, width = (int(side) for side in views[0]["img"].shape[-2:])
            placements = placed(sizes, height, width)
            if K is not None:
                K_in = to_pictures(K.cpu(), placements).float() - _HALF_PIXEL
                views = [{**view, "intrinsics": k[None]} for view, k in zip(views, K_in, strict=True)]
            self._model.to(device)
            raw = self._model.infer(
                views, use_amp=dtype is not None, amp_dtype="fp16" if dtype == torch.float16 else "bf16"
            )
        maps = (1, height, width)
        c2w = torch.cat([tensor_of(PACKAGE, "camera_poses", view.get("camera_poses"), (1, 4, 4)) for view in raw])
        K_out = torch.cat([tensor_of(PACKAGE, "intrinsics", view.get("intrinsics"), (1, 3, 3)) for view in raw])
        depth = torch.cat([tensor_of(PACKAGE, "depth_z", view.get("depth_z"), (*maps, 1)) for view in raw])[..., 0]
        depth_confidence = torch.cat([tensor_of(PACKAGE, "conf", view.get("conf"), maps) for view in raw])
        return prediction(
            PACKAGE, self.name, VERIFIED, placements, invert_rigid(c2w), K_out + _HALF_PIXEL, depth, depth_confidence
        )


def load(name: str, published: Published, weights: str | Path | None) -> MapAnything:
    """The network with its weights; see `pose_network`."""
    needs = f"the weights {published.hub_id} ({published.license})"
    model_class = import_network(PACKAGE, "mapanything.models", needs).MapAnything
    preprocess = import_network(PACKAGE, "mapanything.utils.image", needs).preprocess_inputs
    return MapAnything(name, load_model(model_class, PACKAGE, published, weights), preprocess)


def placed(sizes: Sequence[tuple[int, int]], height: int, width: int) -> list[Placement]:
    """Where photos of these (height, width) lie in pictures of one size: each covers it and is cropped."""
    placements = []
    for photo in sizes:
        scale = max(height / photo[0], width / photo[1]) + 1e-8
        covering = (math.floor(photo[0] * scale), math.floor(photo[1] * scale))
        placements.append(resized(photo, covering).centred_in(height, width))
    return placements

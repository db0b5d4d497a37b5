"""VGGT (Wang et al. 2025, arXiv:2503.11651): cameras and depth of one to hundreds of photos.

Through the package `vggt` of github.com/facebookresearch/vggt, which is not on the package index and needs torchvision.
What is written here was read in that repository: README, `load_and_preprocess_images`, `VGGT.forward` and
`pose_encoding_to_extri_intri`.

- Weights: facebook/VGGT-1B is for non-commercial use; facebook/VGGT-1B-Commercial permits commercial use other than
  military, after a request on its page (README, 29 July 2025).
- Size: mode "crop" makes the width 518 pixels and the height a multiple of 14, cut to the middle 518; mode "pad" makes the
  longer side 518 and fills up to a square with white. Pictures that still differ are filled up with white. "crop" is the
  package's default and cuts off the ends of portrait photos, so with a photo taller than wide it is "pad" here.
- Cameras: the pose encoding becomes world to camera in OpenCV axes, and intrinsics in pixels of the picture with the
  principal point at (width / 2, height / 2): pixel centres at +0.5. Known intrinsics are no input.
- Precision: bfloat16 from compute capability 8, else float16; full precision without CUDA.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse3d.io.images import write_image
from sparse3d.pose.networks.outputs import prediction, tensor_of
from sparse3d.pose.networks.placement import Placement, resized
from sparse3d.pose.networks.protocol import Prediction, autocast_dtype, check_photos
from sparse3d.pose.networks.weights import Package, Published, import_network, load_model, prints_to_stderr

PACKAGE = Package("VGGT", "vggt", "pip install torchvision git+https://github.com/facebookresearch/vggt")
ONE_B = Published("facebook/VGGT-1B", "CC BY-NC 4.0 (non-commercial)", restricted=True, checkpoint="model.pt")
COMMERCIAL = Published(
    "facebook/VGGT-1B-Commercial",
    "VGGT License (commercial use permitted, military use not)",
    restricted=True,
    checkpoint="vggt_1B_commercial.pt",
    note="Access is granted on request on its page; then sign in with: hf auth login.",
)
VERIFIED = False  # not yet run with the published weights

_SIZE = 518
_PATCH = 14


class VGGT:
    """VGGT with its weights in memory."""

    def __init__(self, name: str, model: Any, preprocess: Callable[..., Any], decode: Callable[..., Any]) -> None:
        self.name = name
        self._model = model
        self._preprocess = preprocess  # the package's load_and_preprocess_images
        self._decode = decode  # the package's pose_encoding_to_extri_intri

    def predict(self, images: Sequence[Tensor], device: str | torch.device, K: Tensor | None = None) -> Prediction:
        """See `PoseNetwork.predict`; `K` is not used."""
        sizes = check_photos(images, K)
        mode = "pad" if any(height > width for height, width in sizes) else "crop"
        placements = placed(sizes, mode)
        views, (height, width) = len(images), placements[0].picture
        device = torch.device(device)
        dtype = autocast_dtype(device)
        with tempfile.TemporaryDirectory(prefix="sparse3d-vggt-") as folder, torch.no_grad(), prints_to_stderr():
            paths = [str(Path(folder) / f"{index:05d}.png") for index in range(views)]
            for path, image in zip(paths, images, strict=True):
                write_image(Path(path), image.cpu())
            pictures = tensor_of(PACKAGE, "the pictures", self._preprocess(paths, mode=mode), (views, 3, height, width))
            self._model.to(device)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                raw = self._model(pictures.to(device))
            w2c, K_picture = self._decode(raw["pose_enc"].float(), (height, width))
        maps = (1, views, height, width)
        return prediction(
            PACKAGE,
            self.name,
            VERIFIED,
            placements,
            tensor_of(PACKAGE, "extrinsics", w2c, (1, views, 3, 4))[0],
            tensor_of(PACKAGE, "intrinsics", K_picture, (1, views, 3, 3))[0],
            tensor_of(PACKAGE, "depth", raw.get("depth"), (*maps, 1))[0, ..., 0],
            tensor_of(PACKAGE, "depth_conf", raw.get("depth_conf"), maps)[0],
        )


def load(name: str, published: Published, weights: str | Path | None) -> VGGT:
    """The network with its weights; see `pose_network`."""
    needs = f"the weights {published.hub_id} ({published.license})"
    model_class = import_network(PACKAGE, "vggt.models.vggt", needs).VGGT
    preprocess = import_network(PACKAGE, "vggt.utils.load_fn", needs).load_and_preprocess_images
    decode = import_network(PACKAGE, "vggt.utils.pose_enc", needs).pose_encoding_to_extri_intri
    return VGGT(name, load_model(model_class, PACKAGE, published, weights), preprocess, decode)


def placed(sizes: Sequence[tuple[int, int]], mode: str) -> list[Placement]:
    """Where photos of these (height, width) lie in the pictures of a mode, which are of one size."""
    each = [_placed(height, width, mode) for height, width in sizes]
    height = max(placement.picture[0] for placement in each)
    width = max(placement.picture[1] for placement in each)
    return [placement.centred_in(height, width) for placement in each]


def _placed(height: int, width: int, mode: str) -> Placement:
    if mode == "pad" and height > width:
        picture = (_SIZE, _multiple(width * (_SIZE / height)))
    else:
        picture = (_multiple(height * (_SIZE / width)), _SIZE)
    placement = resized((height, width), picture)
    if mode == "pad":
        return placement.centred_in(_SIZE, _SIZE)
    return placement.centred_in(min(picture[0], _SIZE), _SIZE)


def _multiple(side: float) -> int:
    """The nearest multiple of the patch."""
    return round(side / _PATCH) * _PATCH

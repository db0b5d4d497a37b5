"""Depth by networks of transformers: Depth Anything V2, DPT, ZoeDepth, GLPN, Depth Pro."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.errors import UserError, require
from sparse3d.lift.depth import PhotoDepth, from_disparity, resized
from sparse3d.models.fetch import offline
from sparse3d.priors.pipelines import as_pil

_PROCESSORS = {  # on PIL: those on torchvision cannot be had everywhere
    "depth_anything": "DPTImageProcessorPil",
    "dpt": "DPTImageProcessorPil",
    "glpn": "GLPNImageProcessorPil",
    "zoedepth": "ZoeDepthImageProcessorPil",
    "depth_pro": "",  # has none
}
_METRIC = ("zoedepth", "depth_pro", "glpn")
_ZOE_PAD = 3  # ZoeDepth pads a side s by 3 sqrt(s / 2) mirrored pixels before it looks
_FAR = 1e4  # Depth Pro's inverse depth is held to [1 / far, far]


class NetworkDepth:
    """A network with its preprocessing, on its device."""

    def __init__(self, model: Any, processor: Any | None, name: str, licence: str) -> None:
        """Takes what `load` has found.

        Args:
            model: Of AutoModelForDepthEstimation.
            processor: Its image processor on PIL; None for Depth Pro, which has none without torchvision.
            name: For the record.
            licence: Likewise.
        """
        self.model, self.processor, self.name, self.licence = model.eval(), processor, name, licence

    @classmethod
    def load(cls, weights: str, licence: str = "that of its weights", device: str | None = None) -> NetworkDepth:
        """From a hub id, or a folder as `save_pretrained` writes it.

        Raises:
            UserError: transformers or the weights are missing, or they are no depth network's.
        """
        transformers = require("transformers", extra="diffusion", purpose="estimating depth by a network")
        local = Path(weights).is_dir()
        options = {"local_files_only": local or offline() is not None}
        try:
            model = transformers.AutoModelForDepthEstimation.from_pretrained(weights, **options)
            kind = model.config.model_type
            if kind not in _PROCESSORS:
                raise ValueError(f"it is a {kind}; known here are {', '.join(_PROCESSORS)}")
            name = _PROCESSORS[kind]
            processor = getattr(transformers, name).from_pretrained(weights, **options) if name else None
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"no depth network could be loaded from {weights!r} ({str(error).splitlines()[0]}). Fetch one where there is a network, with: "
                "sparse3d models fetch depth-anything-v2-small, give a folder with --depth-model, a depth map with --depth, or --depth-model geometric, "
                "which needs no weights"
            ) from error
        return cls(model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")), processor, weights, licence)

    @torch.no_grad()
    def __call__(self, image: Tensor, focal: float | None = None) -> PhotoDepth:
        """As `DepthModel`. Relative networks tell disparity (`from_disparity`), the others metres."""
        height, width = image.shape[1:]
        if self.processor is None:
            return self._depth_pro(image, focal)
        fed = self.processor(images=as_pil(image), return_tensors="pt").to(self.model.device)
        predicted = self.model(**fed).predicted_depth.float().cpu()
        padded = self.model.config.model_type == "zoedepth" and self.processor.do_pad
        rows, columns = (int(_ZOE_PAD * math.sqrt(side / 2)) if padded else 0 for side in (height, width))
        values = _unpadded(predicted, (height, width), (rows, columns))
        if not bool(values.isfinite().all()):
            raise UserError(
                f"the depth network {self.name} answers with values that are not numbers; its weights may be broken"
            )
        metric = self.metric
        try:
            depth = values.clamp(min=1e-3) if metric else from_disparity(values)
        except ValueError as error:
            raise UserError(f"the depth network {self.name} finds no depth in this picture ({error})") from error
        return PhotoDepth(depth, metric, self.name, self.licence)

    @property
    def metric(self) -> bool:
        """Whether it tells metres: ZoeDepth, Depth Pro, GLPN, and Depth Anything where its configuration says so."""
        config = self.model.config
        if config.model_type in _METRIC:
            return True
        return getattr(config, "depth_estimation_type", "relative") == "metric"

    def _depth_pro(self, image: Tensor, focal: float | None) -> PhotoDepth:
        """Depth Pro (Bochkovskii et al. 2024, arXiv:2410.02073): inverse depth of a camera as wide as its picture, and a field of view."""
        height, width = image.shape[1:]
        side = 4 * int(self.model.config.patch_size)  # 1536: what it sees, cut into patches of 384
        fed = F.interpolate(2 * image[None] - 1, (side, side), mode="bilinear", antialias=True)
        output = self.model(pixel_values=fed.to(self.model.device, self.model.dtype))
        if focal is None:
            if output.field_of_view is None:
                raise UserError(
                    f"{self.name} tells no field of view, and the photo none either; say it with --intrinsics"
                )
            focal = 0.5 * width / math.tan(0.5 * math.radians(float(output.field_of_view)))
        inverse = output.predicted_depth.float().cpu()[0] * width / focal
        depth = resized(1 / inverse.clamp(1 / _FAR, _FAR), height, width)
        return PhotoDepth(depth, True, self.name, self.licence, focal)


def _unpadded(predicted: Tensor, size: tuple[int, int], pad: tuple[int, int]) -> Tensor:
    """What was predicted of a padded picture, at the size of the picture. (1, h, w) -> (H, W)"""
    (height, width), (rows, columns) = size, pad
    whole = (height + 2 * rows, width + 2 * columns)
    full = F.interpolate(predicted[None], whole, mode="bicubic", align_corners=False)[0, 0]
    return full[rows : rows + height, columns : columns + width]

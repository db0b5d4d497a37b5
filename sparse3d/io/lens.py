"""A camera as files describe it: one of COLMAP's camera models with its parameters and image size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparse3d.io._pycolmap import pycolmap

# models that are a pinhole when their distortion is 0; a fisheye without distortion is still no pinhole
_PINHOLE_LIKE = {
    "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV", "SIMPLE_DIVISION", "DIVISION"
}  # fmt: skip


@dataclass(frozen=True)
class Lens:
    """Intrinsics with lens distortion, in COLMAP's models; pixel centres at +0.5."""

    model: str  # COLMAP's name, as OPENCV
    params: tuple[float, ...]  # in COLMAP's order, pixels of a height x width image
    height: int
    width: int

    @staticmethod
    def pinhole(K: Tensor, height: int, width: int) -> Lens:
        """A lens without distortion. K: (3, 3) pixels."""
        fx, fy, cx, cy = (float(K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
        return Lens("PINHOLE", (fx, fy, cx, cy), height, width)

    def camera(self, camera_id: int = 1) -> Any:
        """The same as a `pycolmap.Camera`.

        Raises:
            ValueError: no such model, or another number of parameters.
        """
        colmap = pycolmap()
        known = [name for name in colmap.CameraModelId.__members__ if name != "INVALID"]
        if self.model not in known:
            raise ValueError(f"there is no camera model {self.model!r}; COLMAP knows {', '.join(known)}")
        camera = colmap.Camera(
            model=self.model, width=self.width, height=self.height, params=list(self.params), camera_id=camera_id
        )
        if not camera.verify_params() or not all(map(math.isfinite, self.params)):
            raise ValueError(
                f"camera model {self.model} with the parameters {self.params}; needed {camera.params_info}"
            )
        return camera

    @property
    def K(self) -> Tensor:
        """Intrinsics of the model without its distortion. (3, 3) float32, pixels."""
        return torch.from_numpy(self.camera().calibration_matrix()).float()

    @property
    def is_distorted(self) -> bool:
        """False for pinhole models and for models whose distortion is all zero."""
        if self.model not in _PINHOLE_LIKE:
            return True
        extra = self.camera().extra_params_idxs()
        return any(abs(self.params[i]) > 0 for i in extra)

    def scaled_to(self, height: int, width: int) -> Lens:
        """The same lens for images of another size."""
        if (height, width) == (self.height, self.width):
            return self
        camera = self.camera()
        camera.rescale(new_width=width, new_height=height)
        return Lens(self.model, tuple(map(float, camera.params)), height, width)

"""A camera as files describe it: one of COLMAP's camera models with its parameters and image size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse3d.io._pycolmap import pycolmap

# models that are a pinhole when their distortion is 0; a fisheye without distortion is still no pinhole
_PINHOLE_LIKE = {
    "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV", "SIMPLE_DIVISION", "DIVISION"
}  # fmt: skip


_FIT_PX = 1e-2  # a fitted distortion may be off by this much at most


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

    @staticmethod
    def perspective(
        pinhole: tuple[float, float, float, float],
        radial: tuple[float, float, float, float],
        tangential: tuple[float, float],
        height: int,
        width: int,
    ) -> Lens:
        """Brown's polynomial, x (1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8) + 2 p1 xy + p2 (r^2 + 2 x^2), y alike.

        The simplest of COLMAP's models that has these terms. None has k4; there, FULL_OPENCV's rational function is
        fitted to the polynomial.

        Args:
            pinhole: fx, fy, cx, cy, pixels of a height x width image.
            radial: k1 to k4.
            tangential: p1 and p2 in OpenCV's order.

        Raises:
            ValueError: with k4, a distortion that no rational function follows over the whole photo.
        """
        k1, k2, k3, k4 = radial
        if k4:
            rational = _rational(pinhole, radial, height, width)
            return Lens("FULL_OPENCV", (*pinhole, *rational[:2], *tangential, *rational[2:]), height, width)
        if k3:
            return Lens("FULL_OPENCV", (*pinhole, k1, k2, *tangential, k3, 0.0, 0.0, 0.0), height, width)
        if any((k1, k2, *tangential)):
            return Lens("OPENCV", (*pinhole, k1, k2, *tangential), height, width)
        return Lens("PINHOLE", pinhole, height, width)

    @staticmethod
    def fisheye(
        pinhole: tuple[float, float, float, float],
        radial: tuple[float, float, float, float],
        tangential: tuple[float, float],
        height: int,
        width: int,
    ) -> Lens:
        """Equidistant fisheye: the polynomial of `perspective` on the angle to the axis instead of its tangent."""
        if any(tangential):
            params = (*pinhole, *radial[:2], *tangential, *radial[2:], 0.0, 0.0)
            return Lens("THIN_PRISM_FISHEYE", params, height, width)
        return Lens("OPENCV_FISHEYE", (*pinhole, *radial), height, width)

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


@dataclass(frozen=True)
class KnownCamera:
    """One camera of a file."""

    name: str  # of its photo, as the file has it
    lens: Lens
    c2w: Tensor  # (4, 4) float64, OpenCV axes, world units of the file


def _rational(
    pinhole: tuple[float, float, float, float], radial: tuple[float, float, float, float], height: int, width: int
) -> tuple[float, ...]:
    """a1 to a3 and b1 to b3 of (1 + a1 s + a2 s^2 + a3 s^3) / (1 + b1 s + b2 s^2 + b3 s^3), s = r^2.

    Fitted to 1 + k1 s + k2 s^2 + k3 s^3 + k4 s^4 where the photo is: from the axis to the radius that the polynomial
    takes to the farthest corner. Least squares of numerator - polynomial * denominator, which is linear.
    """
    fx, fy, cx, cy = pinhole
    corner = math.hypot(max(cx, width - cx) / fx, max(cy, height - cy) / fy)
    r = np.linspace(0, 2 * corner, 2001)[1:]
    powers = np.stack([r ** (2 * n) for n in range(5)], 1)
    distorted = r * (powers @ np.array([1.0, *radial]))
    reached = np.flatnonzero(distorted >= corner)
    end = int(reached[0]) + 1 if len(reached) else int(np.argmax(distorted)) + 1
    s, polynomial = (r[:end] / r[end - 1]) ** 2, distorted[:end] / r[:end]
    terms = np.stack([s, s**2, s**3], 1)
    columns = np.concatenate([terms, -polynomial[:, None] * terms], 1)
    weights = r[:end, None]  # an error of the factor moves a pixel by that much times r
    fit, *_ = np.linalg.lstsq(weights * columns, weights[:, 0] * (polynomial - 1), rcond=None)
    rational = (1 + terms @ fit[:3]) / (1 + terms @ fit[3:])
    off = float(np.abs((rational - polynomial) * r[:end]).max() * max(fx, fy))
    if not off <= _FIT_PX:
        raise ValueError(
            f"k4 is {radial[3]}: COLMAP's camera models have no such term, and the nearest one is off by {off:.2g} pixels. "
            "Calibrate again with k4 fixed to 0"
        )
    return tuple(float(v) for v in fit / r[end - 1] ** np.array([2, 4, 6, 2, 4, 6]))

"""A depth map that the user gives: .npy, .exr, .png."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tokenize import TokenError

import numpy as np
import torch
from torch import Tensor

from sparse3d.errors import UserError, require
from sparse3d.io.images import UnreadableImage, read_depth
from sparse3d.lift.depth import PhotoDepth, from_disparity, resized
from sparse3d.push_pull import push_pull

_SHAPE = 0.02  # relative difference of the sides' ratio that is still the same picture
_LEAST = 0.05  # share of pixels that must have a depth
_MILLIMETRE = 1e-3
# what numpy raises at files that are damaged, or claim to be larger than the memory
_NO_ARRAY = (ValueError, OSError, EOFError, SyntaxError, TypeError, KeyError, OverflowError, MemoryError, TokenError)


def depth_of_file(path: Path, height: int, width: int, warn: Callable[[str], None]) -> PhotoDepth:
    """The depth map for a photo of height x width.

    `.npy` and `.exr` hold depth along the optical axis in metres; a 16-bit PNG millimetres, as most depth cameras write it, or what its
    text chunk says if sparse3d wrote it; an 8-bit PNG inverse depth without unit, brighter is nearer. Values that are 0, negative or nan mean
    unknown, and take the depth around them; infinite ones are sky.

    Args:
        path: Of the file.
        height, width: Of the photo; a map of the same shape and another size is resized.
        warn: Told what was filled and resized.

    Raises:
        UserError: unreadable, another shape than the photo's, or hardly anything in it.
    """
    values, metric = _read(path)
    rows, columns = values.shape
    if abs(columns * height / (rows * width) - 1) > _SHAPE:
        raise UserError(
            f"{path} is {columns}x{rows}, and the photo {width}x{height}: give a depth map of the photo as a whole"
        )
    unknown = values.isnan() | (values <= 0)
    share = float(unknown.float().mean())
    if 1 - share < _LEAST:
        raise UserError(
            f"{path}: {100 * share:.0f} % of its values are 0, negative or nan: there is too little depth in it"
        )
    if share > 0:
        warn(f"{path.name}: {100 * share:.1f} % of the depths are 0, negative or nan, and take the depth around them")
        values = _filled(values, unknown)
    if (rows, columns) != (height, width):
        warn(f"{path.name} is {columns}x{rows} and is resized to the photo's {width}x{height}")
        values = resized(values, height, width)
    return PhotoDepth(values, metric, f"the depth map {path.name}", "your own")


def _filled(values: Tensor, unknown: Tensor) -> Tensor:
    """Depths with those unknown taken from around: sky where there is more sky, else the surfaces alone."""
    surface = ~unknown & values.isfinite()
    sky = push_pull(values.isinf().float()[None], (~unknown).float())[0] > 0.5
    inverse = push_pull(torch.where(surface, 1 / values, 0.0)[None], surface.float())[0]
    around = torch.where(sky | (inverse <= 0), torch.inf, 1 / inverse.clamp(min=1e-12))
    return torch.where(unknown, around, values)


def _read(path: Path) -> tuple[Tensor, bool]:
    """(H, W) float32 and whether its unit is the metre."""
    if not path.is_file():
        raise UserError(f"{path}: no such depth map")
    kind = path.suffix.lower()
    if kind == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except _NO_ARRAY as error:
            raise UserError(f"{path} is no array of numbers as np.save writes it: {error}") from error
        return _plane(array, path), True
    if kind == ".exr":
        return _plane(_of_exr(path), path), True
    if kind == ".png":
        try:
            return read_depth(path), True
        except UnreadableImage:
            array = _by_opencv(path)
        if array.dtype == np.uint16:
            return _plane(array, path) * _MILLIMETRE, True
        return _of_bytes(_plane(array, path), path), False
    raise UserError(f"{path}: depth maps are .npy, .exr or .png")


def _of_bytes(values: Tensor, path: Path) -> Tensor:
    try:
        return from_disparity(values)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _of_exr(path: Path) -> np.ndarray:
    """The channel Z, else the first."""
    library = require("OpenEXR", extra="exr", purpose="reading .exr depth maps")
    try:
        with library.File(str(path), separate_channels=True) as file:
            channels = {name: np.asarray(channel.pixels) for name, channel in file.channels().items()}
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return channels.get("Z", next(iter(channels.values())))


def _by_opencv(path: Path) -> np.ndarray:
    from sparse3d.io._pycolmap import cv2

    try:
        array = cv2().imread(str(path), cv2().IMREAD_UNCHANGED)
    except cv2().error as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if array is None:
        raise UserError(f"{path} cannot be read as a picture")
    return np.asarray(array)


def _plane(array: np.ndarray, path: Path) -> Tensor:
    """The one channel, or the first of channels that are all the same."""
    if (
        array.ndim == 3
        and array.shape[2] in (1, 3, 4)
        and all(
            np.array_equal(array[..., 0], array[..., k], equal_nan=array.dtype.kind == "f")
            for k in range(min(3, array.shape[2]))
        )
    ):
        array = array[..., 0]
    if array.ndim != 2 or array.dtype.kind not in "fiu" or min(array.shape) < 2:
        raise UserError(f"{path} holds {array.dtype} of shape {array.shape}, needed numbers of shape (height, width)")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))

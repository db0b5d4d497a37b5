"""Compressed PLY, SuperSplat's: 16 bytes a Gaussian in chunks of 256 with bounds of their own, and a byte for each coefficient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse3d.errors import UserError
from sparse3d.io._atomic import replacing
from sparse3d.io.ply import read_elements
from sparse3d.io.splats.packing import (
    SH_C0,
    arrays,
    from_smallest_three,
    gaussians_from,
    logits,
    morton_order,
    opacity_bytes,
    smallest_three,
)
from sparse3d.types import Gaussians

_CHUNK = 256
_BOUNDS = [f"{end}_{name}" for group in ("x y z", "scale_x scale_y scale_z", "r g b") for end in ("min", "max") for name in group.split()]  # fmt: skip
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_BITS = (11, 10, 11)
_SH_RANGE = 8.0  # coefficients lie in [-4, 4]


def write_compressed_ply(path: Path, gaussians: Gaussians, comments: Sequence[str] = ()) -> None:
    """Writes Gaussians in the order of a Z curve, so that a chunk is small and its bounds are narrow.

    Positions and log scales get 11, 10 and 11 bits between the chunk's bounds, colour and opacity 8, the quaternion's smaller three
    components 10 each; other coefficients 8 bits between -4 and 4.
    """
    import plyfile

    gaussians = gaussians[torch.from_numpy(morton_order(arrays(gaussians)[0]))]
    means, quats, log_scales, _, sh = arrays(gaussians)
    chunks = -(-len(gaussians) // _CHUNK)
    vertices = np.zeros(len(gaussians), dtype=[(name, "<u4") for name in _PACKED])
    bounds = np.zeros((chunks, len(_BOUNDS)), dtype=np.float32)

    def scaled(values: np.ndarray, column: int) -> np.ndarray:
        """Values between their chunk's bounds, in [0, 1]; the bounds go to the columns from `column` on."""
        starts = np.arange(0, len(values), _CHUNK)
        low = np.minimum.reduceat(values, starts).astype(np.float32)
        high = np.maximum.reduceat(values, starts).astype(np.float32)
        bounds[:, column : column + 3], bounds[:, column + 3 : column + 6] = low, high
        each = np.repeat(np.arange(chunks), _CHUNK)[: len(values)]
        width = (high.astype(np.float64) - low)[each]
        return np.clip((values - low[each]) / np.where(width > 0, width, 1), 0, 1)

    if len(gaussians):
        vertices["packed_position"] = _join(scaled(means, 0), _BITS)
        vertices["packed_scale"] = _join(scaled(np.clip(log_scales, -20, 20), 6), _BITS)
        color = np.rint(scaled(0.5 + SH_C0 * sh[:, 0], 12) * 255).astype(np.uint32)
        red, green, blue = color.T
        vertices["packed_color"] = (red << 24) | (green << 16) | (blue << 8) | opacity_bytes(gaussians)
        largest, three = smallest_three(quats)
        vertices["packed_rotation"] = (largest.astype(np.uint32) << 30) | _join(three / 2 + 0.5, (10, 10, 10))
    elements = [
        plyfile.PlyElement.describe(bounds.view([(name, "<f4") for name in _BOUNDS])[:, 0], "chunk"),
        plyfile.PlyElement.describe(vertices, "vertex"),
    ]
    if gaussians.sh_degree:
        rest = sh[:, 1:].transpose(0, 2, 1).reshape(len(sh), -1)  # channel-major
        packed = np.clip(np.floor((rest / _SH_RANGE + 0.5) * 256), 0, 255).astype(np.uint8)
        names = [(f"f_rest_{i}", "u1") for i in range(rest.shape[1])]
        elements.append(plyfile.PlyElement.describe(np.ascontiguousarray(packed).view(names)[:, 0], "sh"))
    data = plyfile.PlyData(elements, byte_order="<", comments=list(comments))
    with replacing(path) as temporary:
        data.write(str(temporary))


def is_compressed(ply: Any) -> bool:
    """Whether a `plyfile.PlyData` is a compressed one."""
    return {"chunk", "vertex"} <= {element.name for element in ply.elements}


def read_compressed_ply(path: Path) -> Gaussians:
    """Gaussians of a compressed PLY.

    Raises:
        UserError: damaged, or not one of these.
    """
    ply = read_elements(path)
    if not is_compressed(ply):
        raise UserError(f"{path}: is no compressed PLY: it has no chunks")
    chunk, vertices = ply["chunk"].data, ply["vertex"].data
    missing = [name for name in _BOUNDS[:12] if name not in (chunk.dtype.names or ())]
    missing += [name for name in _PACKED if name not in (vertices.dtype.names or ())]
    if missing:
        raise UserError(f"{path}: is a compressed PLY without {' '.join(missing)}")
    if len(chunk) != -(-len(vertices) // _CHUNK):
        raise UserError(
            f"{path}: has {len(chunk)} chunks for {len(vertices)} Gaussians, needed one for each {_CHUNK}; it is damaged"
        )
    each = np.repeat(np.arange(len(chunk)), _CHUNK)[: len(vertices)]

    def between(unit: np.ndarray, names: Sequence[str]) -> np.ndarray:
        low, high = (np.stack([chunk[name] for name in part], 1).astype(np.float64) for part in (names[:3], names[3:]))
        return low[each] + (high - low)[each] * unit

    packed = {name: vertices[name].astype(np.uint32) for name in _PACKED}
    color_bytes = np.stack([(packed["packed_color"] >> shift) & 255 for shift in (24, 16, 8, 0)], axis=1)
    color = color_bytes[:, :3] / 255
    if _BOUNDS[12] in (chunk.dtype.names or ()):  # files of older versions have no bounds of colours
        color = between(color, _BOUNDS[12:])
    dc = ((color - 0.5) / SH_C0)[:, None]
    quats = from_smallest_three(
        (packed["packed_rotation"] >> 30).astype(np.int64), _split(packed["packed_rotation"], (10, 10, 10)) * 2 - 1
    )
    return gaussians_from(
        between(_split(packed["packed_position"], _BITS), _BOUNDS[0:6]),
        quats,
        between(_split(packed["packed_scale"], _BITS), _BOUNDS[6:12]),
        logits(color_bytes[:, 3]),
        np.concatenate([dc, _rest(ply, path, len(vertices))], axis=1),
    )


def _rest(ply: Any, path: Path, count: int) -> np.ndarray:
    """Coefficients of degree 1 and above. (N, C - 1, 3)"""
    if "sh" not in [element.name for element in ply.elements]:
        return np.zeros((count, 0, 3))
    data = ply["sh"].data
    names = [f"f_rest_{i}" for i in range(len(data.dtype.names or ()))]
    if len(names) not in (9, 24, 45) or set(names) != set(data.dtype.names or ()) or len(data) != count:
        raise UserError(
            f"{path}: its element sh has {len(names)} properties of {len(data)} Gaussians; needed are f_rest_0 to 8, 23 or 44, of {count}"
        )
    values = np.stack([data[name] for name in names], axis=1).astype(np.float64)
    unit = np.where(values == 0, 0, np.where(values == 255, 1, (values + 0.5) / 256))
    return ((unit - 0.5) * _SH_RANGE).reshape(count, 3, -1).transpose(0, 2, 1)


def _join(unit: np.ndarray, bits: tuple[int, int, int]) -> np.ndarray:
    """Three numbers in [0, 1] as one word, the first in the highest bits. (N, 3) -> (N,)"""
    word = np.zeros(len(unit), dtype=np.uint32)
    for axis, count in enumerate(bits):
        word = (word << np.uint32(count)) | np.rint(np.clip(unit[:, axis], 0, 1) * (2**count - 1)).astype(np.uint32)
    return word


def _split(word: np.ndarray, bits: tuple[int, int, int]) -> np.ndarray:
    """The inverse of `_join`. (N,) -> (N, 3)"""
    shifts = (bits[1] + bits[2], bits[2], 0)
    return np.stack([((word >> s) & (2**n - 1)) / (2**n - 1) for s, n in zip(shifts, bits, strict=True)], axis=1)

"""SuperSplat's compressed PLY (PlayCanvas): chunks of 256 neighbouring Gaussians, 16 bytes each within the bounds of their chunk, and harmonics in bytes.

Written here and not by gaussforge, whose files (0.6) have harmonics in another order than SuperSplat reads.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plyfile
import torch

from sparse3d.errors import UserError
from sparse3d.io._atomic import replacing
from sparse3d.kernels.reference import SH_C0
from sparse3d.types import Gaussians

_CHUNK = 256
_AXES, _SCALES, _COLORS = ("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b")
_BITS = (11, 10, 11)
_ROOT = np.sqrt(0.5)
_SH_RANGE = 4.0  # harmonics beyond are cut
_DEGREES = {0: 0, 9: 1, 24: 2, 45: 3}
_CLEAR = 1e-4


def write_compressed(path: Path, gaussians: Gaussians) -> None:
    """Neighbours come together along a Morton curve, so that the bounds of a chunk are narrow; the order is not kept."""
    made = gaussians[torch.from_numpy(_morton_order(gaussians.means.numpy()))]
    means, scales = made.means.numpy(), made.log_scales.clamp(-20, 20).numpy()
    rgb = (0.5 + SH_C0 * made.sh[:, 0]).numpy()
    count = len(made)
    chunks = -(-count // _CHUNK)
    fields = [
        (f"{end}_{name}", "<f4") for names in (_AXES, _SCALES, _COLORS) for end in ("min", "max") for name in names
    ]
    chunk = np.zeros(chunks, fields)
    packed = np.zeros(count, [(f"packed_{n}", "<u4") for n in ("position", "rotation", "scale", "color")])
    shares = [_shares(values, names, chunk) for values, names in ((means, _AXES), (scales, _SCALES), (rgb, _COLORS))]
    packed["packed_position"], packed["packed_scale"] = _pack(shares[0]), _pack(shares[1])
    channels = np.concatenate([shares[2], made.opacities.numpy()[:, None]], axis=1)
    red, green, blue, alpha = (_unsigned(channels[:, i], 8) for i in range(4))
    packed["packed_color"] = red << 24 | green << 16 | blue << 8 | alpha
    packed["packed_rotation"] = _packed_rotations(made.quats.double().numpy())
    elements = [plyfile.PlyElement.describe(chunk, "chunk"), plyfile.PlyElement.describe(packed, "vertex")]
    rest = made.sh[:, 1:].transpose(1, 2).flatten(1).numpy()  # channel-major, as in a standard PLY
    if rest.shape[1]:
        table = np.zeros(count, [(f"f_rest_{i}", "u1") for i in range(rest.shape[1])])
        for i in range(rest.shape[1]):
            table[f"f_rest_{i}"] = np.clip(np.trunc((rest[:, i] / (2 * _SH_RANGE) + 0.5) * 256), 0, 255)
        elements.append(plyfile.PlyElement.describe(table, "sh"))
    with replacing(path) as temporary:
        plyfile.PlyData(elements, byte_order="<").write(str(temporary))


def read_compressed(path: Path) -> Gaussians:
    """Of any SH degree.

    Raises:
        UserError: it is cut off, or no compressed PLY.
    """
    try:
        ply = plyfile.PlyData.read(str(path), mmap="c")
        chunk, packed = ply["chunk"].data, ply["vertex"].data
        of = np.arange(len(packed)) // _CHUNK
        if len(packed) == 0 or len(chunk) <= of[-1]:
            raise ValueError(f"{len(packed)} Gaussians in {len(chunk)} chunks of {_CHUNK}")
        means = _bounded(_unpack(packed["packed_position"]), chunk, of, _AXES)
        scales = _bounded(_unpack(packed["packed_scale"]), chunk, of, _SCALES)
        word = packed["packed_color"].astype(np.int64)
        rgba = np.stack([word >> shift & 255 for shift in (24, 16, 8, 0)], axis=1) / 255
        rgb = _bounded(rgba[:, :3], chunk, of, _COLORS) if "min_r" in (chunk.dtype.names or ()) else rgba[:, :3]
        rest = np.zeros((len(packed), 0))
        if "sh" in [element.name for element in ply.elements]:
            table = ply["sh"].data
            rest = np.stack([table[f"f_rest_{i}"] for i in range(len(table.dtype.names or ()))], axis=1)
        if rest.shape[1] not in _DEGREES or len(rest) != len(packed):
            raise ValueError(f"{rest.shape[1]} harmonics for each of {len(rest)} Gaussians")
        sh = ((rest + 0.5) / 256 - 0.5) * 2 * _SH_RANGE
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (plyfile.PlyParseError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is no whole compressed PLY: {error}") from error
    f32 = lambda values: torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    higher = f32(sh).reshape(len(packed), 3, rest.shape[1] // 3).transpose(1, 2)
    return Gaussians(
        f32(means),
        f32(_unpacked_rotations(packed["packed_rotation"].astype(np.int64))),
        f32(scales),
        f32(rgba[:, 3]).clamp(_CLEAR, 1 - _CLEAR).logit(),
        torch.cat([f32((rgb - 0.5) / SH_C0)[:, None], higher], dim=1),
    )


def _morton_order(means: np.ndarray) -> np.ndarray:
    low, high = means.min(0), means.max(0)
    cells = ((means - low) / np.maximum(high - low, 1e-12) * 1023).astype(np.int64)
    code = np.zeros(len(means), np.int64)
    for bit in range(10):
        for axis in range(3):
            code |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")


def _shares(values: np.ndarray, names: tuple[str, ...], chunk: np.ndarray) -> np.ndarray:
    """Where values lie between the bounds of their chunk, which are entered. (N, 3) in [0, 1]"""
    of = np.arange(len(values)) // _CHUNK
    shares = np.zeros_like(values)
    starts = np.arange(0, len(values), _CHUNK)
    for axis, name in enumerate(names):
        low, high = (f.reduceat(values[:, axis], starts) for f in (np.minimum, np.maximum))
        chunk[f"min_{name}"], chunk[f"max_{name}"] = low, high
        shares[:, axis] = (values[:, axis] - low[of]) / np.maximum(high - low, 1e-12)[of]
    return shares


def _bounded(shares: np.ndarray, chunk: np.ndarray, of: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    columns = [
        chunk[f"min_{name}"][of] * (1 - shares[:, axis]) + chunk[f"max_{name}"][of] * shares[:, axis]
        for axis, name in enumerate(names)
    ]
    return np.stack(columns, axis=1)


def _unsigned(shares: np.ndarray, bits: int) -> np.ndarray:
    steps = (1 << bits) - 1
    return np.clip(np.floor(shares * steps + 0.5), 0, steps).astype(np.uint32)


def _pack(shares: np.ndarray) -> np.ndarray:
    x, y, z = (_unsigned(shares[:, i], bits) for i, bits in enumerate(_BITS))
    return x << 21 | y << 11 | z


def _unpack(word: np.ndarray) -> np.ndarray:
    w = word.astype(np.int64)
    return np.stack([(w >> 21) / 2047, (w >> 11 & 1023) / 1023, (w & 2047) / 2047], axis=1)


def _packed_rotations(quats: np.ndarray) -> np.ndarray:
    """The place of the largest component in 2 bits, the others in 10 each, in the order w, x, y, z; the largest is taken above 0."""
    unit = quats / np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-12)
    largest = np.abs(unit).argmax(1)
    unit = unit * np.where(unit[np.arange(len(unit)), largest] < 0, -1, 1)[:, None]
    word = largest.astype(np.uint32)
    for component in range(4):
        part = _unsigned(unit[:, component] * _ROOT + 0.5, 10)
        word = np.where(component == largest, word, word << 10 | part).astype(np.uint32)
    return word


def _unpacked_rotations(word: np.ndarray) -> np.ndarray:
    largest = word >> 30
    parts = [((word >> shift & 1023) / 1023 - 0.5) / _ROOT for shift in (20, 10, 0)]
    rest = np.sqrt(np.maximum(0, 1 - sum(part**2 for part in parts)))
    quats = np.zeros((len(word), 4))
    taken = np.zeros(len(word), np.int64)
    for component in range(4):
        own = component == largest
        others = np.choose(np.minimum(taken, 2), parts)
        quats[:, component] = np.where(own, rest, others)
        taken += ~own
    return quats

"""What the packed formats share: quaternions in three numbers, opacities in bytes, an order that packs well, limits on unpacking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sparse3d.errors import UserError
from sparse3d.types import Gaussians

SH_C0 = 0.28209479177387814  # the constant harmonic: colour = 1/2 + SH_C0 * sh[0]
_ROOT_HALF = np.sqrt(0.5)
_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])  # the components that stay, by the one left out
_ALWAYS = 64 << 20  # bytes that a file may always unpack to
_RATIO = 64  # beyond that, this many times its size; files of Gaussians reach about 10


def smallest_three(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quaternions as the place of their largest component and the other three, signed so that the largest is positive.

    Args:
        quats: (N, 4) in any order, not zero.

    Returns:
        (N,) places 0 to 3, and (N, 3) in [-1, 1]: the others divided by sqrt(1/2), which they cannot exceed.
    """
    length = np.linalg.norm(quats, axis=1, keepdims=True)
    unit = np.where(length > 0, quats / np.where(length > 0, length, 1), [1.0, 0.0, 0.0, 0.0])
    largest = np.abs(unit).argmax(axis=1)
    sign = np.where(np.take_along_axis(unit, largest[:, None], 1) < 0, -1.0, 1.0)
    return largest, np.take_along_axis(unit * sign, _OTHERS[largest], 1) / _ROOT_HALF


def from_smallest_three(largest: np.ndarray, three: np.ndarray) -> np.ndarray:
    """The inverse of `smallest_three`. (N, 4) normalized"""
    others = three * _ROOT_HALF
    quats = np.zeros((len(largest), 4))
    np.put_along_axis(quats, _OTHERS[largest], others, 1)
    rest = np.sqrt(np.maximum(0, 1 - (others * others).sum(axis=1)))
    np.put_along_axis(quats, largest[:, None], rest[:, None], 1)
    return quats / np.linalg.norm(quats, axis=1, keepdims=True)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Values rounded to 0 ... 255; what lies outside becomes the nearest."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def opacity_bytes(gaussians: Gaussians) -> np.ndarray:
    """Opacities in steps of 1/255. (N,)"""
    return to_bytes(gaussians.opacities.detach().cpu().double().numpy() * 255)


def logits(bytes_: np.ndarray) -> np.ndarray:
    """Logit of opacities in steps of 1/255; 0 and 255, which stand for all below and above half a step, at a quarter of it."""
    p = np.clip(bytes_ / 255, 0.25 / 255, 1 - 0.25 / 255)
    return np.log(p / (1 - p))


def gaussians_from(
    means: np.ndarray, quats: np.ndarray, log_scales: np.ndarray, logit_opacities: np.ndarray, sh: np.ndarray
) -> Gaussians:
    """Gaussians of arrays, as float32."""
    values = (means, quats, log_scales, logit_opacities, sh)
    return Gaussians(*(torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32)) for value in values))


def arrays(gaussians: Gaussians) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means, quats, log scales, logit opacities and sh as float64."""
    means, quats, log_scales, logit_opacities, sh = (v.detach().cpu().double().numpy() for v in gaussians.values())
    return means, quats, log_scales, logit_opacities, sh


def morton_order(means: np.ndarray) -> np.ndarray:
    """An order in which neighbours in the file are neighbours in space: along a Z curve of 2^10 cells an axis. (N, 3) -> (N,)"""
    if not len(means):
        return np.zeros(0, dtype=np.int64)
    low, high = means.min(axis=0), means.max(axis=0)
    cells = ((means - low) / np.where(high > low, high - low, 1) * 1023).astype(np.uint64)
    code = np.zeros(len(means), dtype=np.uint64)
    for bit in range(10):
        for axis in range(3):
            code |= ((cells[:, axis] >> np.uint64(bit)) & np.uint64(1)) << np.uint64(3 * bit + axis)
    return np.argsort(code, kind="stable")


def check_expansion(path: Path, packed: int, unpacked: int) -> None:
    """Stops before a small file is unpacked into all of the memory.

    Args:
        packed, unpacked: Bytes in the file, and those it says to unpack to.

    Raises:
        UserError: more than any file of Gaussians does.
    """
    if unpacked > max(_ALWAYS, _RATIO * packed):
        raise UserError(
            f"{path}: its {packed} bytes claim to unpack to {unpacked / 1e6:.0f} MB, {unpacked // max(packed, 1)} times as much; files of "
            "Gaussians reach about 10 times. It is damaged or made to fill the memory, and was not unpacked"
        )


def read_bytes(path: Path) -> bytes:
    """A whole file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error

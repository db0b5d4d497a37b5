"""`.splat` files: 32 bytes a Gaussian, colour without view-dependence, no header."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sparse3d.errors import UserError
from sparse3d.io._atomic import replacing
from sparse3d.io.splats.packing import SH_C0, arrays, gaussians_from, logits, opacity_bytes, read_bytes, to_bytes
from sparse3d.types import Gaussians

_RECORD = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])


def write_splat(path: Path, gaussians: Gaussians) -> None:
    """Writes position and standard deviations as float32, colour and opacity as bytes, the quaternion wxyz as (q + 1) * 128."""
    means, quats, log_scales, _, sh = arrays(gaussians)
    records = np.zeros(len(gaussians), dtype=_RECORD)
    records["mean"], records["scale"] = means, np.exp(log_scales)
    records["rgba"][:, :3] = to_bytes((0.5 + SH_C0 * sh[:, 0]) * 255)
    records["rgba"][:, 3] = opacity_bytes(gaussians)
    records["quat"] = to_bytes(quats / np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-12) * 128 + 128)
    with replacing(path) as temporary:
        temporary.write_bytes(records.tobytes())


def read_splat(path: Path) -> Gaussians:
    """Gaussians of a .splat file, SH degree 0.

    Raises:
        UserError: its size is no multiple of 32, it is empty, or its numbers make no sense.
    """
    data = read_bytes(path)
    if not data or len(data) % _RECORD.itemsize:
        raise UserError(
            f"{path}: has {len(data)} bytes; a .splat file has 32 for each Gaussian. It is cut short or something else"
        )
    records = np.frombuffer(data, dtype=_RECORD)
    scales = records["scale"].astype(np.float64)
    if not (np.isfinite(records["mean"]).all() and np.isfinite(scales).all() and (scales >= 0).all()):
        raise UserError(f"{path}: is no .splat file: positions or scales in it are no numbers, or negative")
    return gaussians_from(
        records["mean"],
        (records["quat"].astype(np.float64) - 128) / 128,
        np.log(np.maximum(scales, 1e-30)),
        logits(records["rgba"][:, 3]),
        ((records["rgba"][:, :3] / 255 - 0.5) / SH_C0)[:, None],
    )

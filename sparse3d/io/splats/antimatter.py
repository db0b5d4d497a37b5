""".splat, the format of the first web viewer (github.com/antimatter15/splat): 32 bytes a Gaussian, no view dependence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sparse3d.errors import UserError
from sparse3d.io._atomic import replacing
from sparse3d.kernels.reference import SH_C0
from sparse3d.types import Gaussians

_ROW = np.dtype([("xyz", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])
_CLEAR = 1e-4  # of opacities that a byte rounds to 0 and 1


def write_splat(path: Path, gaussians: Gaussians) -> None:
    """Position and standard deviations as float32, colour and opacity in a byte each, the quaternion's w, x, y, z as (q + 1) 128.

    The largest and most opaque are first, for viewers that stop early.
    """
    size = gaussians.log_scales.sum(1) + gaussians.opacities.clamp(min=1e-12).log()
    chosen = gaussians[size.argsort(descending=True, stable=True)]
    rows = np.zeros(len(chosen), _ROW)
    rows["xyz"], rows["scale"] = chosen.means.numpy(), chosen.scales.numpy()
    rgb = (0.5 + SH_C0 * chosen.sh[:, 0]).clamp(0, 1)
    rgba = torch.cat([rgb, chosen.opacities[:, None]], dim=1)
    rows["rgba"] = (rgba * 255 + 0.5).byte().numpy()
    quats = torch.nn.functional.normalize(chosen.quats, dim=1)
    rows["quat"] = (quats * 128 + 128).round().clamp(0, 255).byte().numpy()
    with replacing(path) as temporary:
        rows.tofile(temporary)


def read_splat(path: Path) -> Gaussians:
    """Of SH degree 0.

    Raises:
        UserError: its length is no multiple of 32 bytes, or it has numbers that are none.
    """
    length = path.stat().st_size
    if length == 0 or length % _ROW.itemsize:
        raise UserError(
            f"{path}: is {length} bytes long; a .splat has 32 for each Gaussian. It is cut off or something else"
        )
    rows = np.fromfile(path, _ROW)
    means, scales = torch.from_numpy(rows["xyz"].copy()), torch.from_numpy(rows["scale"].copy())
    if not (bool(means.isfinite().all()) and bool((scales >= 0).all()) and bool(scales.isfinite().all())):
        raise UserError(f"{path}: holds positions or sizes that are not numbers: it is no .splat")
    rgba = torch.from_numpy(rows["rgba"].astype(np.float32)) / 255
    return Gaussians(
        means,
        (torch.from_numpy(rows["quat"].astype(np.float32)) - 128) / 128,
        scales.clamp(min=1e-12).log(),
        rgba[:, 3].clamp(_CLEAR, 1 - _CLEAR).logit(),
        ((rgba[:, :3] - 0.5) / SH_C0)[:, None],
    )

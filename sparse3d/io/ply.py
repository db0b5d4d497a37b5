"""PLY files: 3D Gaussians in the layout of 3DGS, and coloured points. Read and written by plyfile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse3d.errors import UserError
from sparse3d.io._atomic import replacing
from sparse3d.types import Gaussians, Points

_REST = {0: 0, 9: 1, 24: 2, 45: 3}  # number of f_rest properties -> SH degree


def write_gaussians(path: Path, gaussians: Gaussians, comments: Sequence[str] = ()) -> None:
    """Writes Gaussians in the layout that 3DGS (arXiv:2308.04079) wrote first and every tool reads.

    Binary little endian float32, in this order: x y z, nx ny nz (zero), f_dc_0..2, f_rest_* (all of red, then green,
    then blue), opacity (logit), scale_0..2 (log), rot_0..3 (wxyz, as they are). The bits of float32 values are kept.

    Args:
        path: Written whole or not at all.
        comments: Header comments, one line of ASCII each; the format has no other place for axes and units.
    """
    import plyfile

    for comment in comments:
        if not comment.isascii() or not comment.isprintable():
            raise ValueError(f"PLY comments are one line of ASCII, this is not: {comment!r}")
    rest = gaussians.sh[:, 1:].transpose(1, 2).flatten(1)  # channel-major
    columns = torch.cat(
        [
            gaussians.means,
            torch.zeros_like(gaussians.means),
            gaussians.sh[:, 0],
            rest,
            gaussians.logit_opacities[:, None],
            gaussians.log_scales,
            gaussians.quats,
        ],
        dim=1,
    )
    names = ["x", "y", "z", "nx", "ny", "nz", *_numbered("f_dc", 3), *_numbered("f_rest", rest.shape[1]), "opacity"]
    names += [*_numbered("scale", 3), *_numbered("rot", 4)]
    table = np.ascontiguousarray(columns.detach().cpu().numpy().astype("<f4"))
    vertices = table.view(np.dtype([(name, "<f4") for name in names]))[:, 0]
    data = plyfile.PlyData([plyfile.PlyElement.describe(vertices, "vertex")], byte_order="<", comments=list(comments))
    with replacing(path) as temporary:
        data.write(str(temporary))


def read_gaussians(path: Path) -> Gaussians:
    """Gaussians of a PLY file in the 3DGS layout: ASCII or binary, any order of properties, SH degree 0 to 3.

    Properties that are not Gaussian (normals, others) are passed over. Values are float32 and kept as they are.

    Raises:
        UserError: not a PLY file, damaged, something else than Gaussians, or a property is missing.
    """
    ply = read_elements(path)
    vertices = _vertices(ply, path)
    found = vertices.dtype.names or ()
    needed = ["x", "y", "z", *_numbered("f_dc", 3), "opacity", *_numbered("scale", 3), *_numbered("rot", 4)]
    missing = [name for name in needed if name not in found]
    if len(missing) == len(needed) - 3 and "x" not in missing:
        kind = "mesh" if any(e.name == "face" and e.count for e in ply.elements) else "point cloud"
        raise UserError(
            f"{path} is a {kind} of {len(vertices)} points with the properties {' '.join(found)}, not 3D Gaussians; "
            "they need opacity, scale_0..2, rot_0..3 and f_dc_0..2"
        )
    if missing:
        plural = "properties" if len(missing) > 1 else "property"
        raise UserError(f"{path}: 3D Gaussians need the missing {plural} {' '.join(missing)}")
    rest_count = sum(name.startswith("f_rest_") for name in found)
    rest_names = _numbered("f_rest", rest_count)
    if rest_count not in _REST or not set(rest_names) <= set(found):
        raise UserError(
            f"{path}: has {rest_count} f_rest properties; needed are 0, 9, 24 or 45 (SH degree 0 to 3), numbered from 0"
        )

    def columns(names: list[str]) -> torch.Tensor:
        table = np.empty((len(vertices), len(names)), np.float32)
        for i, name in enumerate(names):
            table[:, i] = vertices[name]
        return torch.from_numpy(table)

    rest = columns(rest_names).reshape(len(vertices), 3, rest_count // 3).transpose(1, 2)
    return Gaussians(
        means=columns(["x", "y", "z"]),
        quats=columns(_numbered("rot", 4)),
        log_scales=columns(_numbered("scale", 3)),
        logit_opacities=columns(["opacity"])[:, 0],
        sh=torch.cat([columns(_numbered("f_dc", 3))[:, None], rest], dim=1),
    )


def write_points(path: Path, points: Points) -> None:
    """Writes points as a coloured point cloud: x y z float32, red green blue 8 bits; whole or not at all."""
    import plyfile

    vertices = np.empty(
        len(points), dtype=[(n, "<f4") for n in ("x", "y", "z")] + [(n, "u1") for n in ("red", "green", "blue")]
    )
    colors = (points.rgb.detach().cpu().clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()
    for i, (axis, color) in enumerate(zip("xyz", ("red", "green", "blue"), strict=True)):
        vertices[axis] = points.xyz[:, i].detach().cpu().numpy()
        vertices[color] = colors[:, i]
    data = plyfile.PlyData([plyfile.PlyElement.describe(vertices, "vertex")], byte_order="<")
    with replacing(path) as temporary:
        data.write(str(temporary))


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{i}" for i in range(count)]


def read_elements(path: Path) -> Any:
    """The file as a `plyfile.PlyData`. Mapped and private, for without mapping plyfile reads each number by itself: 20 s for a million Gaussians."""
    import plyfile

    try:
        return plyfile.PlyData.read(str(path), mmap="c")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (plyfile.PlyParseError, ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not a whole PLY file: {error}") from error


def _vertices(ply: Any, path: Path) -> np.ndarray:
    names = [element.name for element in ply.elements]
    if "chunk" in names and "vertex" in names:
        raise UserError(
            f"{path} is a compressed PLY of SuperSplat, not a standard one. Make one of it with: sparse3d export {path} --format ply"
        )
    if "vertex" not in names:
        there = ", ".join(names) or "an empty header"
        raise UserError(f"{path}: has no vertices, only {there}; needed are 3D Gaussians")
    return ply["vertex"].data

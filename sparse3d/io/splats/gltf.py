"""glTF with KHR_gaussian_splatting, a release candidate of the Khronos Group (2026): one .glb, readable as a point cloud where it is not known.

y is up and z towards the viewer (glTF 2.0, section 3.4), so scenes are turned by `frames.half_turn`.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse3d import __version__
from sparse3d.errors import UserError
from sparse3d.frames import half_turn
from sparse3d.io._atomic import replacing
from sparse3d.kernels.reference import SH_C0
from sparse3d.types import Gaussians

EXTENSION = "KHR_gaussian_splatting"
_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_FLOAT, _POINTS, _VERTICES = 5126, 0, 34962
_KINDS = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
_CLEAR = 1e-6


def write_glb(path: Path, gaussians: Gaussians) -> None:
    """Positions, rotations (x, y, z, w), linear standard deviations, opacities in [0, 1], spherical harmonics, and a colour for other viewers."""
    up = half_turn(gaussians)
    quats = torch.nn.functional.normalize(up.quats, dim=1)
    attributes: dict[str, Tensor] = {
        "POSITION": up.means,
        "COLOR_0": torch.cat([(0.5 + SH_C0 * up.sh[:, 0]).clamp(0, 1), up.opacities[:, None]], dim=1),
        f"{EXTENSION}:ROTATION": quats[:, [1, 2, 3, 0]],
        f"{EXTENSION}:SCALE": up.scales,
        f"{EXTENSION}:OPACITY": up.opacities[:, None],
    }
    for degree in range(up.sh_degree + 1):
        for index in range(2 * degree + 1):
            attributes[f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{index}"] = up.sh[:, degree**2 + index]
    views, accessors, blocks, offset = [], [], [], 0
    for name, values in attributes.items():
        array = np.ascontiguousarray(values.detach().numpy().astype("<f4"))
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": _VERTICES})
        accessor: dict[str, Any] = {
            "bufferView": len(views) - 1,
            "componentType": _FLOAT,
            "count": len(array),
            "type": _KINDS[array.shape[1]],
        }
        if name == "POSITION":  # asked for by the format
            accessor |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        accessors.append(accessor)
        blocks.append(array.tobytes())
        offset += array.nbytes
    primitive = {
        "mode": _POINTS,
        "attributes": {name: index for index, name in enumerate(attributes)},
        "extensions": {EXTENSION: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}},
    }
    content = {
        "asset": {"version": "2.0", "generator": f"sparse3d {__version__}"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "buffers": [{"byteLength": offset}],
        "bufferViews": views,
        "accessors": accessors,
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<III", _MAGIC, 2, 12 + 8 + len(text) + 8 + offset))
        file.write(struct.pack("<II", len(text), _JSON) + text)
        file.write(struct.pack("<II", offset, _BIN))
        file.writelines(blocks)


def read_glb(path: Path) -> Gaussians:
    """The first primitive with Gaussians, in OpenCV's axes. Float attributes alone are read, and no transform of nodes.

    Raises:
        UserError: no whole .glb, or none with Gaussians as this reads them.
    """
    data = path.read_bytes()
    try:
        content, blob = _chunks(data)
        primitive = next(
            p for mesh in content["meshes"] for p in mesh["primitives"] if EXTENSION in p.get("extensions", {})
        )
        named = {
            name.removeprefix(f"{EXTENSION}:"): _accessor(content, blob, index)
            for name, index in primitive["attributes"].items()
        }
        sh = []
        for degree in range(4):
            row = [named.get(f"SH_DEGREE_{degree}_COEF_{index}") for index in range(2 * degree + 1)]
            if any(values is None for values in row):
                break
            sh += row
        found = Gaussians(
            named["POSITION"],
            named["ROTATION"][:, [3, 0, 1, 2]],
            named["SCALE"].clamp(min=1e-12).log(),
            named["OPACITY"][:, 0].clamp(_CLEAR, 1 - _CLEAR).logit(),
            torch.stack([values for values in sh if values is not None], dim=1),
        )
    except (KeyError, IndexError, ValueError, TypeError, StopIteration, struct.error, RuntimeError) as error:
        raise UserError(
            f"{path}: is no .glb with Gaussians ({EXTENSION}, float attributes): {error or 'no such primitive'}"
        ) from error
    return half_turn(found)


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    magic, version, length = struct.unpack_from("<III", data)
    if magic != _MAGIC or version != 2 or length != len(data):
        raise ValueError(f"its header says version {version} and {length} bytes, it has {len(data)}")
    size, kind = struct.unpack_from("<II", data, 12)
    if kind != _JSON:
        raise ValueError("its first part is no JSON")
    content = json.loads(data[20 : 20 + size])
    return content, data[20 + size + 8 :]


def _accessor(content: dict[str, Any], blob: bytes, index: int) -> Tensor:
    """(N, components) float32"""
    accessor = content["accessors"][index]
    view = content["bufferViews"][accessor["bufferView"]]
    width = {kind: count for count, kind in _KINDS.items()}[accessor["type"]]
    if accessor["componentType"] != _FLOAT:
        raise ValueError(f"attribute of component type {accessor['componentType']}, read is float ({_FLOAT})")
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride, count = view.get("byteStride", 4 * width), int(accessor["count"])
    if count < 1 or start + stride * (count - 1) + 4 * width > len(blob):
        raise ValueError(f"an attribute of {count} values reaches beyond the file")
    rows = np.ndarray((count, width), "<f4", blob, start, (stride, 4))
    return torch.from_numpy(rows.copy())

"""glTF binary files with KHR_gaussian_splatting, as of its release candidate of 2026-07."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from sparse3d import __version__
from sparse3d.errors import UserError
from sparse3d.io._atomic import replacing
from sparse3d.io._fields import json_object
from sparse3d.io.splats.packing import SH_C0, arrays, gaussians_from, opacity_bytes, read_bytes, to_bytes
from sparse3d.types import Gaussians

_EXTENSION = "KHR_gaussian_splatting"
_FLOAT, _BYTE = 5126, 5121
_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5126: "<f4"}
_LEAST = 6e-8  # of an opacity and of what it leaves: half the step of float32 below 1, whose logit is finite
_WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}


def write_gltf(path: Path, gaussians: Gaussians) -> None:
    """Writes a .glb in the axes that the Gaussians have; glTF means y up.

    Everything is float32: rotations xyzw, standard deviations (not their logarithm), opacities, and each coefficient of the spherical
    harmonics as an attribute of its own. COLOR_0 lets programs without the extension show points.
    """
    means, quats, log_scales, _, sh = arrays(gaussians)
    quats = quats / np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-12)
    color = np.concatenate([to_bytes((0.5 + SH_C0 * sh[:, 0]) * 255), opacity_bytes(gaussians)[:, None]], axis=1)
    attributes: dict[str, np.ndarray] = {
        "POSITION": means,
        "COLOR_0": color,
        f"{_EXTENSION}:ROTATION": quats[:, [1, 2, 3, 0]],
        f"{_EXTENSION}:SCALE": np.exp(log_scales),
        f"{_EXTENSION}:OPACITY": gaussians.opacities.detach().cpu().double().numpy()[:, None],
    }
    for degree in range(gaussians.sh_degree + 1):
        for i in range(2 * degree + 1):
            attributes[f"{_EXTENSION}:SH_DEGREE_{degree}_COEF_{i}"] = sh[:, degree * degree + i]
    accessors: list[dict[str, Any]] = []
    views: list[dict[str, Any]] = []
    parts, offset = [], 0
    for name, values in attributes.items():
        data = np.ascontiguousarray(values if values.dtype == np.uint8 else values.astype("<f4"))
        kind = {width: kind for kind, width in _WIDTHS.items()}[data.shape[1]]
        accessor = {"bufferView": len(views), "componentType": _FLOAT, "count": len(data), "type": kind}
        if data.dtype == np.uint8:
            accessor |= {"componentType": _BYTE, "normalized": True}
        if name == "POSITION":
            accessor |= {"min": data.min(axis=0).tolist(), "max": data.max(axis=0).tolist()}
        accessors.append(accessor)
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": data.nbytes, "target": 34962})
        parts.append(data.tobytes())
        offset += data.nbytes
    primitive = {
        "attributes": {name: i for i, name in enumerate(attributes)},
        "mode": 0,
        "extensions": {_EXTENSION: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}},
    }
    meta = {
        "asset": {"version": "2.0", "generator": f"sparse3d {__version__}"},
        "extensionsUsed": [_EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "gaussians"}],
        "meshes": [{"primitives": [primitive]}],
        "buffers": [{"byteLength": offset}],
        "bufferViews": views,
        "accessors": accessors,
    }
    text = json.dumps(meta, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body = b"".join(parts)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(body)))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", len(body), b"BIN\0") + body)


def read_gltf(path: Path) -> Gaussians:
    """Gaussians of a .glb file, in its axes: those of its first primitive with the extension.

    Raises:
        UserError: no .glb file, no Gaussians in it, or Gaussians in a way that is not read.
    """
    meta, body = _chunks(path)
    try:
        found = [
            (i, primitive)
            for i, mesh in enumerate(meta.get("meshes", []))
            for primitive in mesh["primitives"]
            if _EXTENSION in primitive.get("extensions", {})
        ]
        if not found:
            raise UserError(
                f"{path}: has no 3D Gaussians: no primitive with {_EXTENSION}. A mesh cannot be read as a scene"
            )
        if len(found) > 1:
            raise UserError(
                f"{path}: has {len(found)} sets of Gaussians, and one is read. Join them in the program that made it"
            )
        mesh, primitive = found[0]
        moved = [
            key
            for node in meta.get("nodes", [])
            for key in ("matrix", "translation", "rotation", "scale")
            if node.get("mesh") == mesh and key in node
        ]
        if moved:
            raise UserError(
                f"{path}: places its Gaussians with a node's {moved[0]}; apply it in the program that made it"
            )
        extension = primitive["extensions"][_EXTENSION]
        if extension.get("extensions"):
            names = ", ".join(extension["extensions"])
            raise UserError(f"{path}: its Gaussians are packed by {names}, which sparse3d does not read")
        where = primitive["attributes"]

        def values(name: str, width: int) -> np.ndarray:
            return _accessor(meta, body, where[name], width)

        degree = max((d for d in range(4) if f"{_EXTENSION}:SH_DEGREE_{d}_COEF_0" in where), default=0)
        sh = [values(f"{_EXTENSION}:SH_DEGREE_{d}_COEF_{i}", 3) for d in range(degree + 1) for i in range(2 * d + 1)]
        opacity = np.clip(values(f"{_EXTENSION}:OPACITY", 1)[:, 0], _LEAST, 1 - _LEAST)
        scale = values(f"{_EXTENSION}:SCALE", 3)
        means, quats = values("POSITION", 3), values(f"{_EXTENSION}:ROTATION", 4)[:, [3, 0, 1, 2]]
        return gaussians_from(
            means, quats, np.log(np.maximum(scale, 1e-30)), np.log(opacity / (1 - opacity)), np.stack(sh, axis=1)
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: is a damaged glTF file: {error!r}") from error


def _chunks(path: Path) -> tuple[dict[str, Any], bytes]:
    data = read_bytes(path)
    if len(data) < 20 or data[:4] != b"glTF":
        raise UserError(f"{path}: is no binary glTF file (.glb); it begins with {data[:4]!r}")
    _, version, total = struct.unpack_from("<4sII", data)
    if version != 2 or total > len(data):
        raise UserError(f"{path}: is cut short ({len(data)} bytes of {total}), or glTF of version {version}, not 2")
    length, kind = struct.unpack_from("<I4s", data, 12)
    if kind != b"JSON" or 20 + length > len(data):
        raise UserError(f"{path}: is damaged: its first part is not JSON")
    try:
        text = data[20 : 20 + length].decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is damaged: its JSON is not UTF-8: {error}") from error
    return json_object(text, str(path)), data[20 + length + 8 :]


def _accessor(meta: dict[str, Any], body: bytes, index: int, width: int) -> np.ndarray:
    """Numbers of an accessor as float64. (N, width)"""
    accessor = meta["accessors"][index]
    view = meta["bufferViews"][accessor["bufferView"]]
    if _WIDTHS.get(accessor["type"]) != width or view.get("buffer", 0) != 0 or "sparse" in accessor:
        raise ValueError(f"accessor {index} is a {accessor['type']} in buffer {view.get('buffer', 0)}")
    kind, count = np.dtype(_TYPES[accessor["componentType"]]), accessor["count"]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride = view.get("byteStride", kind.itemsize * width)
    if start < 0 or count < 0 or stride < kind.itemsize * width or start + max(count - 1, 0) * stride + kind.itemsize * width * (count > 0) > len(body):  # fmt: skip
        raise ValueError(f"accessor {index} goes past the end of the file")
    table = np.ndarray((count, width), dtype=kind, buffer=body, offset=start, strides=(stride, kind.itemsize))
    values = table.astype(np.float64)
    if accessor.get("normalized"):
        values = np.maximum(values / np.iinfo(kind).max, -1)
    return values

"""Readers of splat formats written from their specifications, apart from the ones that are tested. Each gives arrays by the names of 3DGS' own values."""

from __future__ import annotations

import gzip
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import plyfile
from PIL import Image

Fields = dict[
    str, np.ndarray
]  # means (N, 3), scales (N, 3) linear, opacities (N,), dc (N, 3), quats (N, 4) wxyz; sh (N, K, 3) where stored


def splat(path: Path) -> Fields:
    """antimatter15/splat: 3 + 3 float32, RGBA, quaternion bytes."""
    raw = path.read_bytes()
    rows = [struct.unpack_from("<6f8B", raw, offset) for offset in range(0, len(raw), 32)]
    table = np.array(rows, np.float64)
    return {
        "means": table[:, :3],
        "scales": table[:, 3:6],
        "dc": (table[:, 6:9] / 255 - 0.5) / 0.28209479177387814,
        "opacities": table[:, 9] / 255,
        "quats": (table[:, 10:14] - 128) / 128,
    }


def spz(path: Path) -> Fields:
    """nianticlabs/spz, version 3, turned from its axes (right, up, back) to right, down, forward."""
    raw = gzip.decompress(path.read_bytes())
    magic, version, count, degree, fraction, _, _ = struct.unpack_from("<IIIBBBB", raw)
    assert (magic, version) == (0x5053474E, 3)
    at = 16
    take = lambda size: np.frombuffer(raw, np.uint8, count * size, at).reshape(count, size).astype(np.int64)
    p = take(9).reshape(count, 3, 3)
    at += 9 * count
    fixed = p[..., 0] + (p[..., 1] << 8) + (p[..., 2] << 16)
    fixed = np.where(fixed >= 1 << 23, fixed - (1 << 24), fixed)
    opacities = take(1)[:, 0] / 255
    at += count
    dc = (take(3) / 255 - 0.5) / 0.15
    at += 3 * count
    scales = np.exp(take(3) / 16 - 10)
    at += 3 * count
    packed = np.frombuffer(raw, "<u4", count, at).astype(np.int64)
    at += 4 * count
    quats = np.zeros((count, 4))  # xyzw
    largest = packed >> 30
    rest = packed.copy()
    squares = np.zeros(count)
    for component in (3, 2, 1, 0):
        small = component != largest
        magnitude, negative = rest & 511, (rest >> 9) & 1
        value = np.sqrt(0.5) * magnitude / 511 * np.where(negative == 1, -1, 1)
        quats[:, component] = np.where(small, value, quats[:, component])
        squares += np.where(small, value**2, 0)
        rest = np.where(small, rest >> 10, rest)
    quats[np.arange(count), largest] = np.sqrt(np.maximum(0, 1 - squares))
    coefficients = (degree + 1) ** 2 - 1
    sh = (take(3 * coefficients).reshape(count, coefficients, 3) - 128) / 128
    flip = np.array([1, -1, -1])
    signs = np.array([-1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1])[:coefficients]
    return {
        "means": fixed / (1 << fraction) * flip,
        "scales": scales,
        "opacities": opacities,
        "dc": dc,
        "quats": quats[:, [3, 0, 1, 2]] * np.array([1, 1, -1, -1]),
        "sh": sh * signs[:, None],
    }


def compressed_ply(path: Path) -> Fields:
    """playcanvas/supersplat: chunks of 256 with bounds, 11 10 11 bits within them."""
    ply = plyfile.PlyData.read(str(path))
    chunk, vertex = ply["chunk"].data, ply["vertex"].data
    of = np.arange(len(vertex)) // 256

    def unpacked(name: str, low: str, high: str) -> np.ndarray:
        packed = vertex[name].astype(np.int64)
        shares = [(packed >> 21) / 2047, (packed >> 11 & 1023) / 1023, (packed & 2047) / 2047]
        return np.stack(
            [
                chunk[f"{low}{axis}"][of] * (1 - share) + chunk[f"{high}{axis}"][of] * share
                for axis, share in zip("xyz", shares, strict=True)
            ],
            axis=1,
        )

    color = vertex["packed_color"].astype(np.int64)
    channels = np.stack([color >> 24 & 255, color >> 16 & 255, color >> 8 & 255], axis=1) / 255
    low = np.stack([chunk[f"min_{c}"] for c in "rgb"], axis=1)[of]
    high = np.stack([chunk[f"max_{c}"] for c in "rgb"], axis=1)[of]
    rgb = low * (1 - channels) + high * channels
    packed = vertex["packed_rotation"].astype(np.int64)
    parts = [((packed >> shift & 1023) / 1023 - 0.5) * np.sqrt(2) for shift in (20, 10, 0)]
    largest = packed >> 30
    rest = np.sqrt(np.maximum(0, 1 - sum(part**2 for part in parts)))
    quats = np.zeros((len(vertex), 4))
    for row in range(len(vertex)):
        others = [i for i in range(4) if i != largest[row]]
        quats[row, largest[row]] = rest[row]
        quats[row, others] = [part[row] for part in parts]
    return {
        "means": unpacked("packed_position", "min_", "max_"),
        "scales": np.exp(unpacked("packed_scale", "min_scale_", "max_scale_")),
        "opacities": (color & 255) / 255,
        "dc": (rgb - 0.5) / 0.28209479177387814,
        "quats": quats,
        "sh": _bytes_of_sh(ply["sh"].data),
    }


def _bytes_of_sh(table: np.ndarray) -> np.ndarray:
    """SuperSplat's columns are those of a standard PLY: all of red, then green, then blue; 256 steps from -4 to 4."""
    columns = np.stack([table[f"f_rest_{i}"] for i in range(len(table.dtype.names))], axis=1).astype(np.float64)
    return ((columns + 0.5) / 256 - 0.5).reshape(len(table), 3, -1).transpose(0, 2, 1) * 8


def sog(path: Path) -> Fields:
    """playcanvas SOG, version 2: pictures in a zip, described by meta.json."""
    with zipfile.ZipFile(path) as archive:
        meta = json.loads(archive.read("meta.json"))
        count = meta["count"]

        def pixels(name: str) -> np.ndarray:
            with archive.open(name) as file, Image.open(file) as picture:
                return np.asarray(picture.convert("RGBA")).reshape(-1, 4)[:count].astype(np.int64)

        low, high = (pixels(name)[:, :3] for name in meta["means"]["files"])
        share = (low + (high << 8)) / 65535
        mins, maxs = np.array(meta["means"]["mins"]), np.array(meta["means"]["maxs"])
        folded = mins + (maxs - mins) * share
        scales = np.array(meta["scales"]["codebook"])[pixels(meta["scales"]["files"][0])[:, :3]]
        sh0 = pixels(meta["sh0"]["files"][0])
        dc = np.array(meta["sh0"]["codebook"])[sh0[:, :3]]
    return {
        "means": np.sign(folded) * (np.exp(np.abs(folded)) - 1),
        "scales": np.exp(scales),
        "opacities": sh0[:, 3] / 255,
        "dc": dc,
    }


def glb(path: Path) -> Fields:
    """KHR_gaussian_splatting with float attributes, turned as of `spz`."""
    raw = path.read_bytes()
    assert raw[:4] == b"glTF" and struct.unpack_from("<II", raw, 4) == (2, len(raw))
    size = struct.unpack_from("<I", raw, 12)[0]
    content, blob = json.loads(raw[20 : 20 + size]), raw[28 + size :]
    (primitive,) = content["meshes"][0]["primitives"]
    assert primitive["mode"] == 0 and primitive["extensions"]["KHR_gaussian_splatting"]["kernel"] == "ellipse"

    def values(name: str) -> np.ndarray:
        accessor = content["accessors"][primitive["attributes"][name]]
        view = content["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        return np.frombuffer(blob, "<f4", accessor["count"] * width, view["byteOffset"]).reshape(-1, width)

    own = lambda name: values(f"KHR_gaussian_splatting:{name}")
    flip, signs = np.array([1, -1, -1]), np.array([-1, -1, 1, -1, 1, 1, -1, 1])
    sh = np.stack([own(f"SH_DEGREE_{d}_COEF_{i}") for d in (1, 2) for i in range(2 * d + 1)], axis=1)
    return {
        "means": values("POSITION") * flip,
        "scales": own("SCALE"),
        "opacities": own("OPACITY")[:, 0],
        "dc": own("SH_DEGREE_0_COEF_0"),
        "quats": own("ROTATION")[:, [3, 0, 1, 2]] * np.array([1, 1, -1, -1]),
        "sh": sh * signs[:, None],
    }

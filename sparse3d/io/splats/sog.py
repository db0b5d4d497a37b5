"""SOG files, PlayCanvas' "spatially ordered Gaussians", version 2: a zip of lossless WebP pictures and a meta.json."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse3d import __version__
from sparse3d.errors import UserError
from sparse3d.io._atomic import replacing
from sparse3d.io._fields import json_object, number, numbers
from sparse3d.io.images import read_table, table_bytes
from sparse3d.io.splats.codebooks import codebook, palette
from sparse3d.io.splats.packing import (
    arrays,
    check_expansion,
    from_smallest_three,
    gaussians_from,
    logits,
    morton_order,
    opacity_bytes,
    smallest_three,
    to_bytes,
)
from sparse3d.types import Gaussians

_MOST = 65536  # vectors of coefficients in a palette
_ROW = 64  # of them in a row of their picture
_MOST_META = 1 << 20  # bytes of meta.json


def write_sog(path: Path, gaussians: Gaussians) -> None:
    """Writes Gaussians in the order of a Z curve, an attribute in the pixels of a picture.

    Positions get 16 bits of sign(x) ln(1 + |x|) between bounds, quaternions 8 bits for the smaller three components, opacities 8;
    log scales and constant coefficients are one of 256 values each; all other coefficients of a Gaussian together are one of up to
    65536 vectors (at most a quarter as many as Gaussians, but 1024), whose numbers are one of 256 values.
    """
    gaussians = gaussians[torch.from_numpy(morton_order(arrays(gaussians)[0]))]
    means, quats, log_scales, _, sh = arrays(gaussians)
    count = len(gaussians)
    width = max(4, 4 * math.ceil(math.sqrt(count) / 4))
    height = max(4, 4 * math.ceil(count / width / 4))
    files: dict[str, bytes] = {}

    def picture(name: str, columns: np.ndarray, width: int = width, height: int = height) -> str:
        table = np.zeros((height * width, 4), dtype=np.uint8)
        table[:, 3] = 255
        table[: len(columns), : columns.shape[1]] = columns
        files[name] = table_bytes(table.reshape(height, width, 4))
        return name

    logs = np.sign(means) * np.log1p(np.abs(means))
    low = logs.min(axis=0) if count else np.zeros(3)
    high = logs.max(axis=0) if count else np.zeros(3)
    steps = np.rint((logs - low) / np.where(high > low, high - low, 1) * 65535).astype(np.uint16)
    largest, three = smallest_three(quats)
    tagged = np.concatenate([to_bytes((three + 1) / 2 * 255), 252 + largest[:, None]], axis=1).astype(np.uint8)
    scale_book, scale_indices = codebook(log_scales)
    dc_book, dc_indices = codebook(sh[:, 0])
    meta: dict[str, Any] = {
        "version": 2,
        "asset": {"generator": f"sparse3d {__version__}"},
        "count": count,
        "means": {
            "mins": low.tolist(),
            "maxs": high.tolist(),
            "files": [
                picture("means_l.webp", (steps & 255).astype(np.uint8)),
                picture("means_u.webp", (steps >> 8).astype(np.uint8)),
            ],
        },
        "scales": {"codebook": scale_book.tolist(), "files": [picture("scales.webp", scale_indices)]},
        "quats": {"files": [picture("quats.webp", tagged)]},
        "sh0": {
            "codebook": dc_book.tolist(),
            "files": [
                picture("sh0.webp", np.concatenate([dc_indices, opacity_bytes(gaussians)[:, None]], axis=1)),
            ],
        },
    }
    if gaussians.sh_degree and count:
        coefficients = sh.shape[1] - 1
        rest = torch.from_numpy(sh[:, 1:].reshape(count, -1)).float()
        vectors, labels = palette(rest, min(_MOST, max(count // 4, min(count, 1024))))
        book, indices = codebook(vectors.numpy().astype(np.float64))
        rows = math.ceil(len(vectors) / _ROW)
        label = labels.numpy()
        meta["shN"] = {
            "count": len(vectors),
            "bands": gaussians.sh_degree,
            "codebook": book.tolist(),
            "files": [
                picture("shN_centroids.webp", indices.reshape(-1, 3), _ROW * coefficients, rows),
                picture("shN_labels.webp", np.stack([label & 255, label >> 8], axis=1).astype(np.uint8)),
            ],
        }
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, data in {"meta.json": json.dumps(meta).encode(), **files}.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # no time of writing: equal scenes give equal files


def read_sog(path: Path) -> Gaussians:
    """Gaussians of a SOG file (zip, version 2).

    Raises:
        UserError: no such file, of an older version, damaged, or a bomb.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            check_expansion(
                path, sum(entry.compress_size for entry in entries), sum(entry.file_size for entry in entries)
            )
            return _read(path, archive)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise UserError(f"{path}: is no SOG file (a zip of pictures), or damaged: {error}") from error


def _read(path: Path, archive: zipfile.ZipFile) -> Gaussians:
    def entry(name: str, most: int) -> bytes:
        try:
            info = archive.getinfo(name)
        except KeyError as error:
            raise UserError(f"{path}: is no SOG file: it has no {name}") from error
        if info.file_size > most:
            raise UserError(
                f"{path}: its {name} unpacks to {info.file_size} bytes, expected at most {most}; not unpacked"
            )
        return archive.read(info)

    try:
        text = entry("meta.json", _MOST_META).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: its meta.json is not UTF-8 text: {error}") from error
    meta = json_object(text, f"{path}: meta.json")
    if meta.get("version") != 2:
        raise UserError(
            f"{path}: is SOG of version {meta.get('version', 1)}; sparse3d reads version 2. Convert it with SuperSplat"
        )
    count = round(number(meta, "count", str(path), at_least=0))
    # a picture is about a square of the Gaussians, filled up to whole blocks
    most = count + 64 * (math.isqrt(count) + 64)
    check_expansion(path, path.stat().st_size, 4 * count)

    def part(name: str) -> dict[str, Any]:
        value = meta.get(name)
        if not isinstance(value, dict) or not isinstance(value.get("files"), list):
            raise UserError(f"{path}: its meta.json has no {name!r} with files")
        return value

    def table(name: str, index: int = 0, pixels: int = most) -> np.ndarray:
        files = part(name)["files"]
        if index >= len(files) or not isinstance(files[index], str):
            raise UserError(f"{path}: its meta.json names no file {index} of {name!r}")
        file = files[index]
        return read_table(entry(file, 5 * pixels + 65536), f"{path}: {file}", pixels)

    def pixels(name: str, index: int = 0) -> np.ndarray:
        flat = table(name, index).reshape(-1, 4)
        if len(flat) < count:
            raise UserError(
                f"{path}: its picture of {name} has {len(flat)} pixels for {count} Gaussians; it is damaged"
            )
        return flat[:count]

    def book(name: str) -> np.ndarray:
        return np.array(numbers(part(name).get("codebook"), (256,), f"{path}: 'codebook' of {name!r}"))

    bounds = part("means")
    low, high = (np.array(numbers(bounds.get(key), (3,), f"{path}: {key!r} of means")) for key in ("mins", "maxs"))
    steps = pixels("means", 0)[:, :3] + 256 * pixels("means", 1)[:, :3].astype(np.int64)
    logs = low + (high - low) * (steps / 65535)
    tagged = pixels("quats")
    quats = from_smallest_three(np.clip(tagged[:, 3].astype(np.int64) - 252, 0, 3), tagged[:, :3] / 255 * 2 - 1)
    colors = pixels("sh0")
    sh = book("sh0")[colors[:, :3]][:, None]
    if "shN" in meta:
        degree = round(number(part("shN"), "bands", f"{path}: shN", at_least=1))
        coefficients = (min(degree, 3) + 1) ** 2 - 1
        size = round(number(part("shN"), "count", f"{path}: shN", at_least=0))
        if degree > 3 or size > _MOST:
            raise UserError(
                f"{path}: has spherical harmonics of degree {degree} in a palette of {size}; needed up to 3 and {_MOST}"
            )
        vectors = table("shN", 0, _ROW * coefficients * (_MOST // _ROW)).reshape(-1, coefficients, 4)
        labels = pixels("shN", 1).astype(np.int64)
        label = labels[:, 0] + 256 * labels[:, 1]
        if count and label.max() >= len(vectors):
            raise UserError(f"{path}: names vector {label.max()} of a palette of {len(vectors)}; it is damaged")
        sh = np.concatenate([sh, book("shN")[vectors[label][:, :, :3]]], axis=1)
    means = np.sign(logs) * np.expm1(np.abs(logs))
    return gaussians_from(means, quats, book("scales")[pixels("scales")[:, :3]], logits(colors[:, 3]), sh)

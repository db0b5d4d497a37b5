"""Formats by gaussforge (Apache-2.0): KSPLAT, SPZ of Niantic, SOG of PlayCanvas.

SPZ is specified with y up (RUB), which gaussforge leaves to its caller: scenes are turned by `frames.half_turn` on the way.
"""

from __future__ import annotations

import ctypes
import gzip
import json
import os
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse3d.errors import UserError, require
from sparse3d.frames import half_turn, to_degree
from sparse3d.io._atomic import replacing
from sparse3d.types import Gaussians

_MOST = 50_000_000  # Gaussians in a file; more is no scene but an attack
_MOST_LOGIT = 10.0  # opacity 0.99995
_SPZ_MAGIC = 0x5053474E
_SPZ_BYTES = (9 + 1 + 3 + 3 + 4 + 45, 64)  # of a Gaussian at SH degree 3, and of the header and more
_SOG_PIXEL = 4 * 8  # bytes of a Gaussian's pixels over all pictures, at most


def writer(kind: str) -> Callable[[Path, Gaussians], None]:
    """What writes a format, by gaussforge's name of it."""

    def write(path: Path, gaussians: Gaussians) -> None:
        data = _called("write", _as_model(half_turn(gaussians) if kind == "spz" else gaussians), kind, path)
        with replacing(path) as temporary:
            temporary.write_bytes(data)

    return write


def reader(kind: str) -> Callable[[Path], Gaussians]:
    """What reads a format, by gaussforge's name of it."""

    def read(path: Path) -> Gaussians:
        data = path.read_bytes()
        _check_size(data, kind, path)
        found = _as_gaussians(_called("read", data, kind, path), path)
        return half_turn(found) if kind == "spz" else found

    return read


def _called(verb: str, what: Any, kind: str, path: Path) -> Any:
    library = require("gaussforge", extra="formats", purpose=f"{verb[:-1] if verb == 'write' else verb}ing {path.name}")
    with _quiet():
        try:
            answer = getattr(library.GaussForge(), verb)(what, kind)
        except (RuntimeError, ValueError, MemoryError) as error:
            answer = {"error": str(error)}
    if "data" not in answer:
        raise UserError(f"{path}: gaussforge cannot {verb} it as {kind}: {answer.get('error', 'no reason given')}")
    return answer["data"]


def _as_model(gaussians: Gaussians) -> dict[str, Any]:
    """gaussforge's own form. It takes no degree 0: such scenes get a first one of zeros."""
    full = to_degree(gaussians, max(1, gaussians.sh_degree))
    raw = lambda values: values.detach().contiguous().float().numpy().tobytes()
    return {
        "numPoints": len(full),
        "positions": raw(full.means),
        "scales": raw(full.log_scales),
        "rotations": raw(torch.nn.functional.normalize(full.quats, dim=1)),
        "alphas": raw(full.logit_opacities),
        "colors": raw(full.sh[:, 0]),
        "sh": raw(full.sh[:, 1:]),
        "extras": {},
        "meta": {"shDegree": full.sh_degree, "sourceFormat": "ply"},
    }


def _as_gaussians(model: dict[str, Any], path: Path) -> Gaussians:
    count, degree = int(model["numPoints"]), int(model["meta"]["shDegree"])
    if count == 0 or not 0 <= degree <= 3:
        raise UserError(f"{path}: has {count} Gaussians of SH degree {degree}; needed are some, of degree 0 to 3")
    shaped = lambda name, *shape: torch.from_numpy(np.frombuffer(model[name], "<f4").copy()).reshape(count, *shape)
    colors = shaped("colors", 1, 3)
    rest = shaped("sh", (degree + 1) ** 2 - 1, 3) if degree else torch.zeros(count, 0, 3)
    found = Gaussians(
        shaped("positions", 3),
        shaped("rotations", 4),
        shaped("scales", 3),
        shaped("alphas").clamp(-_MOST_LOGIT, _MOST_LOGIT),  # a byte of 255 comes as infinite
        torch.cat([colors, rest], dim=1),
    )
    if not all(bool(values.isfinite().all()) for values in found.values()):
        raise UserError(f"{path}: holds values that are not numbers: it is damaged")
    return found


def _check_size(data: bytes, kind: str, path: Path) -> None:
    """What a small file could unpack to, before it is unpacked."""
    try:
        if kind == "spz":
            _check_spz(data, path)
        elif kind == "sog":
            _check_sog(data, path)
    except (OSError, EOFError, zipfile.BadZipFile, KeyError, ValueError, struct.error, TypeError) as error:
        raise UserError(f"{path}: is no whole {kind} file: {error}") from error


def _check_spz(data: bytes, path: Path) -> None:
    import io

    if data[:2] != b"\x1f\x8b":
        if data[:4] == b"NGSP":
            raise UserError(f"{path}: is SPZ version 4, which gaussforge cannot read yet. Save it as version 3")
        raise UserError(f"{path}: is no SPZ file (no gzip, no NGSP header)")
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        magic, version, count = struct.unpack("<III", stream.read(12))
        if magic != _SPZ_MAGIC:
            raise UserError(f"{path}: is no SPZ file (version {version})")
        if count > _MOST:
            raise UserError(f"{path}: says that it holds {count:,} Gaussians, more than {_MOST:,}: it is refused")
        limit = count * _SPZ_BYTES[0] + _SPZ_BYTES[1]
        total = 12
        while chunk := stream.read(1 << 20):
            total += len(chunk)
            if total > limit:
                raise UserError(f"{path}: unpacks to more than {count:,} Gaussians can have: it is refused")


def _check_sog(data: bytes, path: Path) -> None:
    import io

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
        if sum(info.file_size for info in infos) > _MOST * _SOG_PIXEL // 8 or len(infos) > 64:
            raise UserError(
                f"{path}: unpacks to {sum(i.file_size for i in infos):,} bytes in {len(infos)} files: it is refused"
            )
        meta_info = archive.getinfo("meta.json")
        if meta_info.file_size > 1 << 20:
            raise UserError(f"{path}: its meta.json has {meta_info.file_size:,} bytes: it is refused")
        count = int(json.loads(archive.read(meta_info)).get("count", 0))
        if count > _MOST:
            raise UserError(f"{path}: says that it holds {count:,} Gaussians, more than {_MOST:,}: it is refused")
        for info in infos:
            if info.filename.endswith(".webp"):
                _check_webp(archive, info, count, path)


def _check_webp(archive: zipfile.ZipFile, info: zipfile.ZipInfo, count: int, path: Path) -> None:
    from PIL import Image

    with archive.open(info) as file, Image.open(file) as picture:
        width, height = picture.size
    if width * height > max(4 * count, 1 << 20):
        raise UserError(f"{path}: {info.filename} has {width}x{height} pixels for {count:,} Gaussians: it is refused")


@contextmanager
def _quiet() -> Iterator[None]:
    """gaussforge writes to standard output by itself, which is kept for results."""
    sys.stdout.flush()
    saved = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        if sys.platform != "win32":
            ctypes.CDLL(None).fflush(None)  # what C keeps back would come out later
        os.dup2(saved, 1)
        os.close(saved)

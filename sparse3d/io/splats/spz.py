"""SPZ files, Niantic's: bytes for each attribute, packed. Written as version 3 (gzip), read from 1 to 4."""

from __future__ import annotations

import gzip
import struct
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np

from sparse3d.errors import UserError, require
from sparse3d.io._atomic import replacing
from sparse3d.io.splats.packing import (
    arrays,
    check_expansion,
    from_smallest_three,
    gaussians_from,
    logits,
    opacity_bytes,
    read_bytes,
    smallest_three,
    to_bytes,
)
from sparse3d.types import Gaussians

_MAGIC = b"NGSP"
_HEADER = struct.Struct("<4sIIBBBB")  # magic, version, count, SH degree, fractional bits, flags, reserved
_HEADER_4 = struct.Struct("<4sIIBBBBI12x")  # ..., flags, streams, offset of their table
_COLOR_SCALE = 0.15  # of the constant coefficient, so that colours a little outside of [0, 1] keep their value
_AXES = 0xADBE0003  # extension that states other axes than right, up, back
_RIGHT_UP_BACK = struct.pack("<I", 4)
_HAS_EXTENSIONS = 2
_MOST_EXTENSIONS = 1 << 16  # bytes that are looked at
_NINE_BITS = 511


def write_spz(path: Path, gaussians: Gaussians, *, antialiased: bool = False) -> None:
    """Writes version 3, in the axes that the Gaussians have; the format means right, up, back.

    Positions get 24 bits with as many behind the point as the largest leaves (other writers always take 12, which suits metres only), log
    scales steps of 1/16 from -10 on, quaternions 10 bits for the smaller three components, opacities, colours and coefficients
    (between -1 and 1) 8 bits.

    Args:
        antialiased: Written as a flag: the Gaussians are to be drawn with their dilation compensated (Mip-Splatting).

    Raises:
        UserError: a coordinate is beyond 2^23.
    """
    means, quats, log_scales, _, sh = arrays(gaussians)
    largest = float(np.abs(means).max(initial=0))
    if largest >= 2**23 - 1:
        raise UserError(
            f"SPZ holds coordinates up to {2**23}; this scene has one of {largest:.3g}. Move it to the origin, or choose another format"
        )
    fraction = 23
    while largest * 2**fraction > 2**23 - 1:
        fraction -= 1
    fixed = np.rint(means * 2**fraction).astype("<i4")
    place, three = smallest_three(quats[:, [1, 2, 3, 0]])  # xyzw
    size = np.minimum(np.rint(np.abs(three) * _NINE_BITS), _NINE_BITS).astype(np.uint32)
    word = place.astype(np.uint32)
    for i in range(3):
        word = (word << np.uint32(10)) | ((three[:, i] < 0).astype(np.uint32) << np.uint32(9)) | size[:, i]
    parts = [
        fixed.view(np.uint8).reshape(-1, 3, 4)[:, :, :3],
        opacity_bytes(gaussians),
        to_bytes(sh[:, 0] * _COLOR_SCALE * 255 + 127.5),
        to_bytes((log_scales + 10) * 16),
        word.astype("<u4"),
        to_bytes(sh[:, 1:] * 128 + 128),
    ]
    header = _HEADER.pack(_MAGIC, 3, len(gaussians), gaussians.sh_degree, fraction, int(antialiased), 0)
    data = header + b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(data, compresslevel=6, mtime=0))


def read_spz(path: Path) -> Gaussians:
    """Gaussians of an SPZ file, in its axes. Coefficients beyond degree 3 are left out.

    Raises:
        UserError: not SPZ, of an unknown version, damaged, or a bomb.
    """
    data = read_bytes(path)
    if data[:2] == b"\x1f\x8b":
        return _read_gzip(path, data)
    if data[:4] == _MAGIC:
        return _read_streams(path, data)
    raise UserError(f"{path}: is no SPZ file: it begins with {data[:4]!r}, needed is gzip or NGSP")


def _read_gzip(path: Path, data: bytes) -> Gaussians:
    stream = zlib.decompressobj(wbits=31)
    try:
        head = stream.decompress(data, _HEADER.size)
        if len(head) < _HEADER.size or head[:4] != _MAGIC:
            raise UserError(f"{path}: is gzip, but no SPZ file in it")
        _, version, count, degree, fraction, flags, _ = _HEADER.unpack(head)
        if not 1 <= version <= 3:
            raise UserError(
                f"{path}: is SPZ of version {version}; sparse3d reads 1 to 4. Update with: pip install -U sparse3d"
            )
        sizes = _sizes(path, version, count, degree)
        check_expansion(path, len(data), sum(sizes))
        body = stream.decompress(stream.unconsumed_tail, sum(sizes)) if sum(sizes) else b""
        rest = stream.decompress(stream.unconsumed_tail, _MOST_EXTENSIONS) if flags & _HAS_EXTENSIONS else b""
    except zlib.error as error:
        raise UserError(f"{path}: is damaged: {error}") from error
    if len(body) < sum(sizes):
        raise UserError(f"{path}: is cut short: {len(body)} bytes of {sum(sizes)} for its {count} Gaussians")
    _check_axes(path, rest)
    cuts = np.cumsum([0, *sizes])
    return _unpack([body[a:b] for a, b in pairwise(cuts)], version, count, degree, fraction)


def _read_streams(path: Path, data: bytes) -> Gaussians:
    if len(data) < _HEADER_4.size:
        raise UserError(f"{path}: is cut short in its header")
    _, version, count, degree, fraction, flags, streams, table = _HEADER_4.unpack_from(data)
    if version != 4:
        raise UserError(
            f"{path}: is SPZ of version {version}; sparse3d reads 1 to 4. Update with: pip install -U sparse3d"
        )
    sizes = [size for size in _sizes(path, version, count, degree) if size]
    if streams != len(sizes) and count:
        raise UserError(f"{path}: has {streams} streams, needed {len(sizes)}")
    at = table + 16 * streams
    if at > len(data):
        raise UserError(f"{path}: is cut short before its {streams} streams")
    if flags & _HAS_EXTENSIONS:
        _check_axes(path, data[_HEADER_4.size : table])
    check_expansion(path, len(data), sum(sizes))
    zstandard = require("zstandard", extra="formats", purpose="reading SPZ files of version 4")
    parts = []
    for i, size in enumerate(sizes if count else []):
        packed, unpacked = struct.unpack_from("<QQ", data, table + 16 * i)
        if unpacked != size or at + packed > len(data):
            raise UserError(f"{path}: is damaged: stream {i} has {unpacked} bytes, needed {size}, or goes past the end")
        try:
            reader = zstandard.ZstdDecompressor().stream_reader(data[at : at + packed])
            parts.append(reader.read(size + 1))  # one more, to notice that there is more
        except zstandard.ZstdError as error:
            raise UserError(f"{path}: is damaged: {error}") from error
        if len(parts[-1]) != size:
            raise UserError(f"{path}: is damaged: stream {i} does not hold {size} bytes")
        at += packed
    return _unpack([*parts, *[b""] * (6 - len(parts))], version, count, degree, fraction)


def _sizes(path: Path, version: int, count: int, degree: int) -> list[int]:
    """Bytes of positions, opacities, colours, scales, rotations and coefficients."""
    if degree > 4:
        raise UserError(f"{path}: has spherical harmonics of degree {degree}, needed 0 to 4; it is damaged")
    each = (6 if version == 1 else 9, 1, 3, 3, 4 if version >= 3 else 3, 3 * ((degree + 1) ** 2 - 1))
    return [count * size for size in each]


def _check_axes(path: Path, extensions: bytes) -> None:
    """Extensions are passed over, but for the one that says that the axes are not the format's."""
    at = 0
    while at + 8 <= len(extensions):
        kind, length = struct.unpack_from("<II", extensions, at)
        if kind == _AXES and extensions[at + 8 : at + 12] != _RIGHT_UP_BACK:
            raise UserError(
                f"{path}: states axes of its own (SPZ_ADOBE_coordinate_system), which sparse3d does not read. Convert it to PLY with the "
                "program that made it"
            )
        at += 8 + length


def _unpack(parts: list[bytes], version: int, count: int, degree: int, fraction: int) -> Gaussians:
    positions, opacities, colors, scales, rotations, rest = (np.frombuffer(part, dtype=np.uint8) for part in parts)
    if version == 1:
        means = positions.view("<f2").astype(np.float64)
    else:
        wide = np.zeros((count * 3, 4), dtype=np.uint8)
        wide[:, 1:] = positions.reshape(-1, 3)  # in the upper three bytes, so that the shift below keeps the sign
        means = (wide.view("<i4")[:, 0] >> 8) / 2.0**fraction
    if version >= 3:
        word = rotations.view("<u4").astype(np.uint32)
        fields = np.stack([(word >> shift) & 1023 for shift in (20, 10, 0)], axis=1)
        three = np.where(fields & 512, -1.0, 1.0) * (fields & _NINE_BITS) / _NINE_BITS
        quats = from_smallest_three((word >> 30).astype(np.int64), three)
    else:
        xyz = rotations.reshape(-1, 3) / 127.5 - 1
        quats = np.concatenate([xyz, np.sqrt(np.maximum(0, 1 - (xyz * xyz).sum(1, keepdims=True)))], axis=1)
    kept = (min(degree, 3) + 1) ** 2 - 1
    coefficients = (rest.reshape(count, (degree + 1) ** 2 - 1, 3)[:, :kept].astype(np.float64) - 128) / 128
    dc = (colors.reshape(-1, 1, 3) / 255 - 0.5) / _COLOR_SCALE
    return gaussians_from(
        means.reshape(-1, 3),
        quats[:, [3, 0, 1, 2]],
        scales.reshape(-1, 3) / 16 - 10,
        logits(opacities),
        np.concatenate([dc, coefficients], axis=1),
    )

"""Cameras of RealityCapture and RealityScan: the table "Internal/External camera parameters", and XMP sidecars.

Neither has the size of the photos: f is the 35 mm equivalent by the longer side (36 mm), the principal point is an
offset from the centre in units of the longer side, so both hold for any size. Lens distortion is Brown's polynomial;
t1 and t2 stand where OpenCV and COLMAP have p2 and p1, as the program's own OpenCV export has it (k1 k2 t2 t1 k3).

The world is z up (x east, y north). The table has Euler angles: at heading, pitch and roll 0 a camera looks straight
down with its upper border to the north; camera to world is Rz(-heading) Rx(pitch) Ry(roll) in OpenGL axes. An XMP file
has the rotation from world to camera, row by row in OpenCV axes, and the camera's centre ("XMP camera math").
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.io._fields import GL_TO_CV, is_rotation, numbers, read_text, xml_root
from sparse3d.io.lens import KnownCamera, Lens

_NAMESPACE = "capturingreality.com/ns/xcr"
_DISTORTION = ("k1", "k2", "k3", "k4", "t1", "t2")
_COLUMNS = ("name", "x", "y", "alt", "heading", "pitch", "roll", "f", "px", "py", *_DISTORTION)
_RENAMED = {"yaw": "heading", "f_35mm": "f", "px_norm": "px", "py_norm": "py"}  # as RealityScan 2 calls them
_BROWN = ("brown3", "brown4", "brown3t2", "brown4t2")
_ANY_SIZE = (24, 36)  # for cameras whose photo is not there; nothing is made of them

Sizes = Mapping[str, tuple[int, int]]


def find_csv(path: Path) -> list[Path]:
    """The file when it is a table by its suffix."""
    return [path] if path.is_file() and path.suffix.lower() == ".csv" else []


def find_xmp(path: Path) -> list[Path]:
    """The sidecars of RealityCapture in a folder; other programs' XMP files are passed over."""
    if not path.is_dir():
        return []
    return [file for file in sorted(path.glob("*.[xX][mM][pP]")) if _NAMESPACE.encode() in file.read_bytes()]


def read_csv(path: Path, sizes: Sizes) -> list[KnownCamera]:
    """The cameras of a table.

    Args:
        path: The file.
        sizes: (height, width) of the photos by name and by stem.

    Raises:
        UserError: a column is missing, or a row has something else than numbers.
    """
    rows = [row for row in csv.reader(read_text(path).splitlines()) if row]
    heads = [[_RENAMED.get(_plain(cell), _plain(cell)) for cell in row] for row in rows]
    start = next((i for i, head in enumerate(heads) if head[0] == "name"), None)
    missing = [name for name in _COLUMNS if start is None or name not in heads[start]]
    if start is None or missing:
        raise UserError(
            f"{path}: has no column {', '.join(missing)}. In RealityCapture: Alignment > Export > Registration, as "
            f"Internal/External camera parameters, whose columns are #{','.join(_COLUMNS)}"
        )
    cameras = []
    for i, row in enumerate(rows[start + 1 :], start=start + 2):
        cells = dict(zip(heads[start], row, strict=False))
        where = f"{path}: row {i} ({row[0]})"
        x, y, alt, heading, pitch, roll, f, px, py, *distortion = (
            numbers(cells.get(name, ""), (1,), f"{where}: {name}")[0] for name in _COLUMNS[1:]
        )
        c2w = torch.eye(4, dtype=torch.float64)
        c2w[:3, :3] = _turn(2, -heading) @ _turn(0, pitch) @ _turn(1, roll)
        c2w[:3, 3] = torch.tensor([x, y, alt], dtype=torch.float64)
        name = row[0].strip().replace("\\", "/")
        cameras.append(KnownCamera(name, _lens(name, f, px, py, distortion, sizes, where), c2w * GL_TO_CV))
    return cameras


def read_xmp(files: list[Path], sizes: Sizes) -> list[KnownCamera]:
    """The cameras of XMP sidecars, each named as its file without suffix. Files without a pose are passed over.

    Raises:
        UserError: a file is damaged, or its lens has terms that no camera model of COLMAP has.
    """
    cameras = []
    for path in files:
        values: dict[str, str] = {}  # RealityCapture writes the same as attributes or as elements
        for element in xml_root(path).iter():
            for tag, text in (*element.attrib.items(), (element.tag, element.text or "")):
                if _NAMESPACE in tag:
                    values[tag.rpartition("}")[2]] = text
        if "Rotation" not in values or "Position" not in values:
            continue
        w2c = torch.tensor(numbers(values["Rotation"], (9,), f"{path}: Rotation"), dtype=torch.float64).reshape(3, 3)
        if not is_rotation(w2c):
            raise UserError(f"{path}: Rotation is not a rotation (it scales, shears or mirrors)")
        c2w = torch.eye(4, dtype=torch.float64)
        c2w[:3, :3] = w2c.T
        c2w[:3, 3] = torch.tensor(numbers(values["Position"], (3,), f"{path}: Position"), dtype=torch.float64)
        cameras.append(KnownCamera(path.stem, _lens_of_xmp(path, values, sizes), c2w))
    return cameras


def _plain(cell: str) -> str:
    return cell.strip().lstrip("#").strip().lower()


def _turn(axis: int, angle_deg: float) -> Tensor:
    """Rotation about an axis, counter-clockwise seen from its tip. (3, 3) float64"""
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def _lens_of_xmp(path: Path, values: Mapping[str, str], sizes: Sizes) -> Lens:
    if "FocalLength35mm" not in values:
        raise UserError(
            f"{path}: has no FocalLength35mm. Export the XMP files with calibration (camera priors) included"
        )

    def one(key: str, default: str) -> float:
        return numbers(values.get(key, default), (1,), f"{path}: {key}")[0]

    distortion = numbers(values.get("DistortionCoeficients", "0 0 0 0 0 0"), (6,), f"{path}: DistortionCoeficients")
    model = values.get("DistortionModel", "perspective")
    if model == "perspective":
        distortion = [0.0] * 6
    if any(distortion) and model not in _BROWN:
        raise UserError(
            f"{path}: DistortionModel is {model!r}; sparse3d reads {', '.join(_BROWN)}. Choose Brown3 in RealityCapture's "
            "alignment settings, align and export again"
        )
    if one("Skew", "0") != 0 or one("AspectRatio", "1") != 1:
        raise UserError(
            f"{path}: the lens has skew or pixels that are not square, which is not read. Choose a distortion model without "
            "K+ in RealityCapture's alignment settings, align and export again"
        )
    f, px, py = one("FocalLength35mm", "0"), one("PrincipalPointU", "0"), one("PrincipalPointV", "0")
    return _lens(path.stem, f, px, py, distortion, sizes, str(path))


def _lens(name: str, f_35mm: float, px: float, py: float, distortion: list[float], sizes: Sizes, where: str) -> Lens:
    """Args: px, py from the centre, and all else, in units of the longer side; k1 k2 k3 k4 t1 t2."""
    file = name.rpartition("/")[2]
    height, width = next((sizes[key] for key in (name, file, Path(file).stem) if key in sizes), _ANY_SIZE)
    if f_35mm <= 0:
        raise UserError(f"{where}: the focal length is {f_35mm} mm, needed more than 0")
    scale = max(height, width)
    f = f_35mm / 36 * scale
    k1, k2, k3, k4, t1, t2 = distortion
    try:
        return Lens.perspective(
            (f, f, width / 2 + px * scale, height / 2 + py * scale), (k1, k2, k3, k4), (t2, t1), height, width
        )
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error

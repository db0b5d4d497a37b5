"""Numbers and poses out of JSON, CSV and XML files, with messages that name the place where they are wrong."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse3d.errors import UserError

GL_TO_CV = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)  # on the camera's side; its own inverse
_LAST_ROW = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)


def read_text(path: Path) -> str:
    """The text of a file, with or without byte order mark.

    Raises:
        UserError: it cannot be read, or is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text: {error}") from error


def json_object(text: str, where: str) -> dict[str, Any]:
    """The keys and values of a JSON file.

    Raises:
        UserError: it is not JSON, or JSON of another kind.
    """
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is not JSON: {error}") from error
    if not isinstance(meta, dict):
        raise UserError(f"{where}: holds a {type(meta).__name__}, needed an object with keys")
    return meta


def xml_root(path: Path) -> ET.Element:
    """The outermost element of an XML file.

    Raises:
        UserError: it cannot be read, or is not XML.
    """
    try:
        return ET.fromstring(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ET.ParseError, ValueError, LookupError) as error:  # an unknown encoding is a LookupError
        raise UserError(f"{path}: is not XML: {error}") from error


def number(keys: Mapping[str, Any], key: str, where: str, at_least: float | None = None) -> float:
    """The finite number of this key.

    Raises:
        UserError: there is none, or it is less than `at_least`.
    """
    if key not in keys:
        raise UserError(f"{where} has no {key!r}")
    value = keys[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"{where}: {key!r} is {value!r}, needed a number")
    if at_least is not None and value < at_least:
        raise UserError(f"{where}: {key!r} is {value}, needed at least {at_least}")
    return float(value)


def numbers(value: Any, counts: tuple[int, ...], where: str) -> list[float]:
    """A list of finite numbers, of a list (nested or flat) or of text with spaces between.

    Raises:
        UserError: something else, or as many as none of `counts`.
    """
    try:
        values = value.split() if isinstance(value, str) else value
        flat = torch.tensor(
            [float(v) for v in values] if isinstance(value, str) else values, dtype=torch.float64
        ).flatten()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{where} is not made of numbers: {error}") from error
    if flat.numel() not in counts or not torch.isfinite(flat).all():
        raise UserError(f"{where} has {flat.numel()} numbers, needed {' or '.join(map(str, counts))} finite ones")
    return flat.tolist()


def rigid(value: Any, where: str) -> Tensor:
    """A rotation and a translation of 3x4 or 4x4 numbers, row by row, flat or in rows. (4, 4) float64

    Raises:
        UserError: other numbers, or a matrix that scales, shears or mirrors.
    """
    flat = torch.tensor(numbers(value, (12, 16), where), dtype=torch.float64)
    matrix = torch.cat([flat[:12], _LAST_ROW]).reshape(4, 4)
    if not is_rotation(matrix[:3, :3]) or (flat[12:] != _LAST_ROW[: flat.numel() - 12]).any():
        raise UserError(f"{where} is not a rotation and a translation (it scales, shears or mirrors)")
    return matrix


def is_rotation(matrix: Tensor) -> bool:
    """Whether a (3, 3) matrix is a rotation, to the digits that files have."""
    skew = (matrix.T @ matrix - torch.eye(3, dtype=matrix.dtype)).abs().max().item()
    return skew <= 1e-3 and torch.linalg.det(matrix).item() > 0

"""Cameras of Agisoft Metashape and PhotoScan: the XML file of File > Export > Export Cameras.

The camera models are those of Metashape Professional's user manual, appendix "Camera models". Its p1 and p2 stand where
OpenCV and COLMAP have p2 and p1; image coordinates have the first pixel's centre at (0.5, 0.5), as ours.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.io._fields import is_rotation, numbers, rigid, xml_root
from sparse3d.io.lens import KnownCamera, Lens

_SKEW_PX = 0.5  # a skew that moves no pixel by more is left out; COLMAP's camera models have none
_FISHEYE = ("fisheye", "equidistant_fisheye")


def find_metashape(path: Path) -> list[Path]:
    """The file when it is XML by its suffix."""
    return [path] if path.is_file() and path.suffix.lower() == ".xml" else []


def read_metashape(path: Path, warn: Callable[[str], None]) -> list[KnownCamera]:
    """The aligned cameras of an XML file, in the coordinate system that Metashape shows.

    A chunk that was aligned in several pieces (components) has no common frame; the one with most cameras is read.

    Args:
        path: The file.
        warn: Called with each warning: cameras that are left out, and a skew that is.

    Raises:
        UserError: not such a file, or a camera of it cannot be read; names the place.
    """
    chunks = xml_root(path).findall("chunk")
    if len(chunks) != 1 or chunks[0].find("cameras") is None:
        raise UserError(
            f"{path}: holds {len(chunks)} <chunk> with <cameras>, needed one. In Metashape: File > Export > Export Cameras, "
            "Agisoft XML"
        )
    chunk = chunks[0]
    entries = list(chunk.iterfind("cameras//camera"))
    on = [entry for entry in entries if entry.get("enabled", "true").lower() not in ("0", "false")]
    aligned = [entry for entry in on if entry.find("transform") is not None]
    if len(aligned) < len(entries):
        left_out = sorted(_label(entry) for entry in entries if entry not in aligned)
        warn(
            f"{path}: {len(left_out)} of {len(entries)} cameras are not aligned, disabled, or of a rig: "
            f"{', '.join(left_out[:6])}{' ...' if len(left_out) > 6 else ''}; left out"
        )
    components = Counter(entry.get("component_id", "") for entry in aligned)
    component, count = max(components.items(), key=lambda item: item[1], default=("", 0))
    if count < len(aligned):
        warn(
            f"{path}: the cameras were aligned in {len(components)} components; the {count} of the largest are used. Align "
            "them into one for the others"
        )
    to_world = _to_world(chunk, component, path)
    used = [entry for entry in aligned if entry.get("component_id", "") == component]
    lenses: dict[str, Lens] = {}
    for sensor in sorted({entry.get("sensor_id", "") for entry in used}):
        lenses[sensor] = _lens(chunk, sensor, path, warn)
    cameras = []
    for entry in used:
        where = f"{path}: camera {_label(entry)!r}: <transform>"
        c2w = to_world @ rigid(entry.findtext("transform", ""), where)
        c2w[:3, :3] /= torch.linalg.det(to_world[:3, :3]) ** (1 / 3)  # the world's scale moves cameras, not their axes
        cameras.append(KnownCamera(_label(entry).replace("\\", "/"), lenses[entry.get("sensor_id", "")], c2w))
    return cameras


def _label(entry: ET.Element) -> str:
    return entry.get("label", "?")


def _by_id(parent: ET.Element, path: str, element_id: str) -> ET.Element | None:
    return next((element for element in parent.iterfind(path) if element.get("id") == element_id), None)


def _to_world(chunk: ET.Element, component: str, path: Path) -> Tensor:
    """Similarity from the frame of a component, in which the cameras stand, to the world. (4, 4) float64"""
    own = _by_id(chunk, "components/component", component)
    transform = None if own is None else own.find("transform")
    if transform is None:
        transform = chunk.find("transform")
    matrix = torch.eye(4, dtype=torch.float64)
    if transform is None:  # never scaled or georeferenced
        return matrix
    where = f"{path}: the chunk's <transform>"
    rotation, translation, scale = (transform.findtext(name) for name in ("rotation", "translation", "scale"))
    if rotation is not None:
        rows = numbers(rotation, (9,), f"{where} <rotation>")
        matrix[:3, :3] = torch.tensor(rows, dtype=torch.float64).reshape(3, 3)
        if not is_rotation(matrix[:3, :3]):
            raise UserError(f"{where} <rotation> is not a rotation")
    if scale is not None:
        (factor,) = numbers(scale, (1,), f"{where} <scale>")
        if factor <= 0:
            raise UserError(f"{where} <scale> is {factor}, needed more than 0")
        matrix[:3, :3] *= factor
    if translation is not None:
        matrix[:3, 3] = torch.tensor(numbers(translation, (3,), f"{where} <translation>"), dtype=torch.float64)
    return matrix


def _lens(chunk: ET.Element, sensor_id: str, path: Path, warn: Callable[[str], None]) -> Lens:
    sensor = _by_id(chunk, "sensors/sensor", sensor_id)
    if sensor is None:
        raise UserError(f"{path}: a camera has the sensor {sensor_id!r}, which the file does not describe")
    where = f"{path}: sensor {sensor.get('label', sensor_id)!r}"
    calibration = sensor.find("calibration[@class='adjusted']")
    if calibration is None:
        calibration = sensor.find("calibration")
    kind = (sensor.get("type") if calibration is None else calibration.get("type", sensor.get("type"))) or "frame"
    resolution = sensor.find("resolution") if calibration is None else calibration.find("resolution")
    if resolution is None:
        resolution = sensor.find("resolution")
    if resolution is None:
        raise UserError(f"{where} has no <resolution>")
    (width,), (height,) = (numbers(resolution.get(side, ""), (1,), f"{where}: {side}") for side in ("width", "height"))
    h, w = round(height), round(width)
    if h < 1 or w < 1:
        raise UserError(f"{where}: <resolution> is {w} x {h}, needed at least 1 x 1")
    if kind == "spherical":
        return Lens("EQUIRECTANGULAR", (float(w), float(h)), h, w)  # refused where its photo is known
    if kind not in ("frame", *_FISHEYE):
        raise UserError(
            f"{where} is of type {kind!r}; sparse3d reads frame and (equidistant) fisheye cameras. Align with one of these, or "
            "export undistorted photos with File > Export > Undistort Photos"
        )
    if calibration is None or calibration.find("f") is None:
        raise UserError(
            f"{where} has no adjusted <calibration> with <f>. Align the photos in Metashape 1.2 or newer and export again"
        )
    names = ("f", "cx", "cy", "k1", "k2", "k3", "k4", "p1", "p2", "p3", "p4", "b1", "b2")
    values = (numbers(calibration.findtext(name, "0"), (1,), f"{where}: <{name}>")[0] for name in names)
    f, cx, cy, k1, k2, k3, k4, p1, p2, p3, p4, b1, b2 = values
    if f <= 0 or f + b1 <= 0:
        raise UserError(f"{where}: the focal length is {f + b1} x {f} pixels, needed more than 0")
    if p3 or p4:
        raise UserError(
            f"{where} has <p3> or <p4>, which no camera model of COLMAP has. Align again with these fixed to 0"
        )
    # u = w / 2 + cx + x' (f + b1) + y' b2: b2 moves the pixels at the upper and lower border most
    skew_px = abs(b2) * h / 2 / f
    if skew_px > _SKEW_PX:
        raise UserError(
            f"{where}: the skew <b2> is {b2}, which moves pixels by up to {skew_px:.2g}; no camera model of COLMAP has it. "
            "Align again with b2 fixed to 0"
        )
    if b2:
        warn(f"{where}: the skew <b2> is {b2}, which moves pixels by {skew_px:.2g} at most; left out")
    pinhole = (f + b1, f, w / 2 + cx, h / 2 + cy)
    make = Lens.fisheye if kind in _FISHEYE else Lens.perspective
    try:
        return make(pinhole, (k1, k2, k3, k4), (p2, p1), h, w)  # Metashape's p1 is OpenCV's p2
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error

"""Focal lengths by COLMAP's table of sensors, for photos whose EXIF names the camera but not the sensor."""

from __future__ import annotations

import functools
import tempfile
from fractions import Fraction
from pathlib import Path

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from sparse3d.io._pycolmap import pycolmap

_SIDE = 16  # pixels of the picture that COLMAP is asked about


@functools.lru_cache
def focal_by_sensor(make: str, model: str, focal_mm: float) -> float | None:
    """Focal length over the longer side of the photo; None for cameras that the table does not know.

    pycolmap shows its table only through the EXIF of image files, so a tiny one with these tags is asked about. That
    works for every format that we read, and no photo is decoded twice.

    Args:
        make, model: As EXIF has them.
        focal_mm: FocalLength, the true one.
    """
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = make, model
    ratio = Fraction(focal_mm).limit_denominator(10_000)
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLength] = IFDRational(ratio.numerator, ratio.denominator)
    with tempfile.TemporaryDirectory(prefix="sparse3d-exif-") as folder:
        file = Path(folder) / "exif.jpg"
        Image.new("L", (_SIDE, _SIDE)).save(file, exif=exif)
        bitmap = pycolmap().Bitmap.read(file, as_rgb=False)
    focal = None if bitmap is None else bitmap.exif_focal_length()
    return None if focal is None else float(focal) / _SIDE

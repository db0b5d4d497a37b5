"""Photos from folders and files: found, decoded, turned upright, with a first guess of their intrinsics."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch

from sparse3d.errors import UserError, did_you_mean
from sparse3d.geometry import fitted_size, resize_image, resize_mask
from sparse3d.io.images import IMAGE_SUFFIXES, DecodedImage, Exif, UnreadableImage, decode_image, image_bytes
from sparse3d.io.intrinsics import Intrinsics, with_intrinsics
from sparse3d.io.sensors import focal_by_sensor
from sparse3d.io.video import VIDEO_SUFFIXES
from sparse3d.types import Photo

DEFAULT_FOCAL = 1.2  # times the longer side: COLMAP's default_focal_length_factor
_FILM_DIAGONAL_MM = 43.2666  # of 36 mm x 24 mm
_PLAUSIBLE = (0.3, 6.0)  # focal length over longer side: 118 and 9.5 degrees of view


def find_photos(inputs: Sequence[Path]) -> list[Path]:
    """Photo files of folders (not of their subfolders) and files, sorted by name, each once.

    In folders, hidden files and files that are not JPEG, PNG, TIFF, WebP or HEIC by their suffix are passed over.

    Raises:
        UserError: nothing at that path, a folder without photos, or a file that is not a photo.
    """
    found: dict[Path, Path] = {}
    for path in inputs:
        for photo in _photos_of_folder(path) if path.is_dir() else [_photo_file(path)]:
            found.setdefault(photo.resolve(), photo)
    if not found:
        raise UserError("no photos given; name a folder of photos or the photo files")
    return sorted(found.values(), key=lambda photo: (photo.name, str(photo)))


def load_photos(
    paths: Sequence[Path],
    max_size: int,
    *,
    strict: bool = False,
    intrinsics: Intrinsics | None = None,
    warn: Callable[[str], None],
) -> tuple[Photo, ...]:
    """Photos of files, upright and fitted to `max_size`, each with a first guess of its `K`.

    The focal length comes from EXIF: the 35 mm equivalent, else the focal length and the sensor's resolution, else
    the focal length and COLMAP's table of sensors; else it is 1.2 times the longer side (COLMAP's default). The
    principal point is the centre.
    A file that cannot be decoded or is transparent everywhere, and a copy of an earlier file, are left out with a warning.

    Args:
        paths: Photo files, as of `find_photos`.
        max_size: Longest side in pixels; larger photos are reduced by area averaging.
        strict: A file that cannot be decoded, or shows nothing, is an error.
        intrinsics: Of all photos, in pixels of the files; instead of EXIF.
        warn: Called with each warning.

    Raises:
        UserError: no file can be decoded, or one cannot and `strict`; or the intrinsics do not fit a photo.
        ValueError: max_size < 1.
    """
    if max_size < 1:
        raise ValueError(f"max_size is {max_size}, needed at least 1")
    if not paths:
        raise UserError("no photos given; name a folder of photos or the photo files")
    names = _unique_names(paths)
    photos: dict[str, Photo] = {}  # by hash
    unreadable = []
    for path, name in zip(paths, names, strict=True):
        try:
            data = image_bytes(path)
        except UnreadableImage as error:
            unreadable.append(str(error))
        else:
            digest = hashlib.sha256(data).hexdigest()
            if digest in photos:
                warn(f"{name} has the same content as {photos[digest].name}; only the first is used")
                continue
            try:
                photos[digest] = _photo(path, name, digest, decode_image(data, str(path)), max_size, warn)
                continue
            except UnreadableImage as error:
                unreadable.append(str(error))
        if strict:
            raise UserError(f"{unreadable[-1]}. Replace or remove the file, or run without strict to leave it out.")
        warn(f"{unreadable[-1]}; left out")
    if not photos:
        raise UserError("none of the photos can be read" + "".join(f"\n  {line}" for line in unreadable))
    return tuple(photos.values()) if intrinsics is None else with_intrinsics(list(photos.values()), intrinsics)


def focal_px(exif: Exif, height: int, width: int) -> float | None:
    """Focal length by EXIF in pixels of a height x width image; None when EXIF does not say.

    The 35 mm equivalent is by diagonal (CIPA DCG-001): f = f35 / 43.2666 mm * diagonal in pixels. The resolution of
    the sensor holds for the photo as taken; when EXIF says its size, a file reduced since then is taken into account.
    Last comes the sensor's size, looked up by make and model.
    """
    if exif.focal_35mm:
        return exif.focal_35mm / _FILM_DIAGONAL_MM * (height**2 + width**2) ** 0.5
    if exif.focal_mm and exif.pixels_per_mm:
        longest = max(height, width)
        return exif.focal_mm * exif.pixels_per_mm * longest / (exif.longer_px or longest)
    if exif.focal_mm and exif.make and exif.model:
        ratio = focal_by_sensor(exif.make, exif.model, exif.focal_mm)
        return None if ratio is None else ratio * max(height, width)
    return None


def _photo(
    path: Path, name: str, digest: str, decoded: DecodedImage, max_size: int, warn: Callable[[str], None]
) -> Photo:
    if decoded.mask is not None and not decoded.mask.any():
        raise UnreadableImage(f"{path}: is transparent everywhere, so that its mask leaves no pixel")
    height, width = decoded.image.shape[1:]
    longest = max(height, width)
    focal = focal_px(decoded.exif, height, width)
    if focal is not None and not _PLAUSIBLE[0] <= focal / longest <= _PLAUSIBLE[1]:
        warn(
            f"{name}: the focal length by EXIF, {focal:.0f} pixels for a longer side of {longest}, is not plausible; "
            f"{DEFAULT_FOCAL} times the longer side is used"
        )
        focal = None
    f = DEFAULT_FOCAL * longest if focal is None else focal
    K = torch.tensor([[f, 0.0, width / 2], [0.0, f, height / 2], [0.0, 0.0, 1.0]])
    size = fitted_size(height, width, max_size)
    image, K = resize_image(decoded.image, K, *size)
    mask = None if decoded.mask is None else resize_mask(decoded.mask, *size)
    known: Literal["default", "exif"] = "default" if focal is None else "exif"
    camera = " ".join(filter(None, (decoded.exif.make, decoded.exif.model)))
    return Photo(name, image, K, known, digest, mask, path, camera, (height, width))


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """File names; where two are equal, paths below the common folder instead."""
    counts = Counter(path.name for path in paths)
    if max(counts.values(), default=1) == 1:
        return [path.name for path in paths]
    absolute = [path.absolute() for path in paths]
    common = os.path.commonpath([path.parent for path in absolute])
    return [path.name if counts[path.name] == 1 else path.relative_to(common).as_posix() for path in absolute]


def _photo_file(path: Path) -> Path:
    if not path.exists():
        parent = path.parent
        near = did_you_mean(path.name, [entry.name for entry in parent.iterdir()]) if parent.is_dir() else ""
        where = "" if near or parent.is_dir() else f"; there is no folder {parent} either"
        raise UserError(f"there is no file or folder {path}{near}{where}")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise UserError(f"{path} is a video: give it alone, without photos beside it")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise UserError(f"{path}: is not a photo by its suffix; sparse3d reads {', '.join(IMAGE_SUFFIXES)}")
    return path


def _photos_of_folder(folder: Path) -> list[Path]:
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    photos = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file()]
    if photos:
        return photos
    suffixes = Counter(entry.suffix.lower() or "without a suffix" for entry in entries if entry.is_file())
    there = [f"{count} {suffix}" for suffix, count in sorted(suffixes.items())]
    folders = [entry for entry in entries if entry.is_dir()]
    there += [f"{len(folders)} folder{'s' * (len(folders) > 1)}"] if folders else []
    video = next((entry for entry in entries if entry.suffix.lower() in VIDEO_SUFFIXES), None)
    inside = next((sub for sub in folders if any(f.suffix.lower() in IMAGE_SUFFIXES for f in sub.iterdir())), None)
    raise UserError(
        f"no photos in {folder}: sparse3d reads {', '.join(IMAGE_SUFFIXES)}, and the folder holds "
        + (", ".join(there) if there else "nothing")
        + (f". There are photos in {inside}: name that folder instead" if inside else "")
        + (f". To use the video, name the file: {video}" if video and not inside else "")
    )

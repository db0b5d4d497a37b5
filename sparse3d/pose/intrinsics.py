"""First cameras: which photos share one, and where its focal length starts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sparse3d.io._pycolmap import pycolmap
from sparse3d.types import Photo

RADIAL_FROM = 5  # photos of one camera from which a distortion term is stable


def camera_groups(photos: Sequence[Photo], shared: bool) -> list[list[int]]:
    """Indices of photos that share one camera: same size, make, model and EXIF focal length; or each alone."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for index, photo in enumerate(photos):
        alike = (tuple(photo.image.shape), photo.camera, photo.intrinsics, round(float(photo.K[0, 0]), 1))
        groups[alike if shared else index].append(index)
    return list(groups.values())


def first_cameras(photos: Sequence[Photo], shared: bool, start: float) -> list[Any]:
    """One pycolmap camera for each photo; photos of a group have the same one.

    Args:
        photos: Their sizes and EXIF focal lengths.
        shared: Photos alike share a camera.
        start: Focal length over longer side, for photos that do not say theirs.
    """
    cameras: list[Any] = [None] * len(photos)
    for number, members in enumerate(camera_groups(photos, shared), start=1):
        photo = photos[members[0]]
        height, width = photo.image.shape[1:]
        fx, fy, cx, cy = (float(photo.K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
        if photo.intrinsics == "given":
            model, params = "PINHOLE", [fx, fy, cx, cy]
        else:
            focal = start * max(height, width) if photo.intrinsics == "default" else fx
            radial = [0.0] if len(members) >= RADIAL_FROM else []
            model, params = "SIMPLE_RADIAL" if radial else "SIMPLE_PINHOLE", [focal, cx, cy, *radial]
        camera = pycolmap().Camera(camera_id=number, model=model, width=width, height=height, params=params)
        camera.has_prior_focal_length = photo.intrinsics != "default"
        for index in members:
            cameras[index] = camera
    return cameras


def fixed_cameras(photos: Sequence[Photo], cameras: Sequence[Any]) -> tuple[int, ...]:
    """Ids of the cameras whose intrinsics the user gave: they are not refined."""
    given = {camera.camera_id for photo, camera in zip(photos, cameras, strict=True) if photo.intrinsics == "given"}
    return tuple(sorted(given))

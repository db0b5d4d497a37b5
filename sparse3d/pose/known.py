"""Known cameras, of any format that `io.cameras` reads, matched to the photos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.io.cameras import read_cameras
from sparse3d.io.lens import KnownCamera
from sparse3d.pose.undistort import undistort, undistorted_K
from sparse3d.types import Photo, Points, PosedViews, View

_FAR = 1000.0  # times the distance between cameras: farther from the origin, float32 positions lose it


def load_known(
    path: Path,
    photos: Sequence[Photo],
    *,
    strict: bool = False,
    minimum: int = 2,
    same_frame: bool = False,
    warn: Callable[[str], None],
    note: Callable[[str], None] = lambda _: None,
    rest: str = "left out",
) -> PosedViews:
    """Views of photos whose cameras a file gives: matched by name, intrinsics fitted to the photo's size, undistorted.

    A camera belongs to the photo of the same name, else of the same file name, else of the same name without suffix.

    Args:
        path: A file or folder with cameras, see `io.cameras`. COLMAP models bring their points.
        photos: Upright, of any size, as of `load_photos`.
        strict: A camera whose photo is missing, or a photo without a camera, is an error, not a warning.
        minimum: Photos that have to have a camera; 1 is enough to measure on, 2 to reconstruct from.
        same_frame: The cameras have to stay where they are. Otherwise those far from the origin (in metres of a map) are
            moved to it, for views have float32 positions.
        warn: Called with each warning: photos without a camera are left out, cameras without a photo ignored.
        note: Called with what is worth knowing: whether the unit is the metre.
        rest: What becomes of photos without a camera, for the warning.

    Raises:
        UserError: nothing readable at `path`, fewer than `minimum` photos with a camera, another shape of image than
            the camera's, a panorama, or one side lacks the other and `strict`; or cameras far from the origin and
            `same_frame`.
    """
    if (path / "scene.json").is_file():
        raise UserError(
            f"{path} is a scene folder, whose cameras are those of its own undistorted views. Give these views, "
            f"{path / 'views'}, with {path / 'cameras' / 'transforms.json'}, or the photos with their own cameras"
        )
    found = read_cameras(path, photos, warn)
    cameras = found.cameras
    pairs = _match([camera.name for camera in cameras], [photo.name for photo in photos])
    photo_of = {camera: photo for camera, photo in pairs}
    camera_of = {photo: camera for camera, photo in pairs}
    if len(pairs) < minimum:
        raise UserError(
            f"{path} has cameras for {len(pairs)} of {len(photos)} photos, needed {minimum}. It names "
            f"{some_names([camera.name for camera in cameras])}; the photos are {some_names([photo.name for photo in photos])}. "
            "Names have to be equal, suffixes may differ."
        )
    without_photo = [camera.name for i, camera in enumerate(cameras) if i not in photo_of]
    without_camera = [photo.name for i, photo in enumerate(photos) if i not in camera_of]
    _tell_of_missing(path, without_photo, without_camera, strict, warn, rest)
    origin = _origin([cameras[c].c2w for c, _ in pairs])
    if origin.any():
        place = ", ".join(f"{v:.10g}" for v in origin.tolist())
        if same_frame:
            raise UserError(
                f"the cameras of {path} lie about ({place}), too far from the origin for 32-bit positions, and a scene made from "
                "such cameras was moved. Measure with recon --holdout 8 instead"
            )
        warn(
            f"the cameras of {path} lie about ({place}), too far from the origin for 32-bit positions; it is moved there"
        )
    views = tuple(view_of(photos[i], _moved(cameras[camera_of[i]], -origin), str(path)) for i in sorted(camera_of))
    points = _rename(found.points, {cameras[c].name: photos[p].name for c, p in pairs})
    points = replace(points, xyz=(points.xyz.double() - origin).float())
    if found.in_metres:
        note("the cameras are in metres, and so is the scene")
    return PosedViews(views, points.seen_by([view.name for view in views]))


def _tell_of_missing(
    path: Path,
    without_photo: Sequence[str],
    without_camera: Sequence[str],
    strict: bool,
    warn: Callable[[str], None],
    rest: str,
) -> None:
    """Warns of cameras and photos that lack each other; an error when `strict`."""
    if without_photo and strict:
        raise UserError(
            f"{path} names photos that are missing: {some_names(without_photo)}. Add them, or run without strict."
        )
    if without_camera and strict:
        raise UserError(
            f"{path} has no camera for {some_names(without_camera)}. Remove these photos, or run without strict."
        )
    if without_photo:
        warn(f"{path} names {len(without_photo)} photos that are not there: {some_names(without_photo)}; ignored")
    if without_camera:
        warn(f"{path} has no camera for {len(without_camera)} photos: {some_names(without_camera)}; {rest}")


def _origin(c2ws: Sequence[Tensor]) -> Tensor:
    """Where to put the origin: where it is, or, when the cameras are too far from it, between them. (3,) float64"""
    if not c2ws:
        return torch.zeros(3, dtype=torch.float64)
    centers = torch.stack([c2w[:3, 3] for c2w in c2ws]).double()
    middle = centers.mean(dim=0)
    reach = (centers - middle).norm(dim=1).max()
    return middle if reach > 0 and middle.norm() > _FAR * reach else torch.zeros_like(middle)


def _moved(camera: KnownCamera, by: Tensor) -> KnownCamera:
    c2w = camera.c2w.double().clone()
    c2w[:3, 3] += by
    return replace(camera, c2w=c2w)


def _rename(points: Points, names: Mapping[str, str]) -> Points:
    """Points whose tracks have other names; names that are not in the mapping leave the tracks."""
    tracks = tuple(tuple(names[name] for name in track if name in names) for track in points.tracks)
    return Points(points.xyz, points.rgb, points.error_px, tracks)


def _match(camera_names: Sequence[str], photo_names: Sequence[str]) -> list[tuple[int, int]]:
    """(camera, photo) pairs by whole name, file name, stem, or a camera's name that is the photo's stem.

    A key counts where both sides have it once.
    """
    pairs: list[tuple[int, int]] = []
    cameras, photos = dict(enumerate(camera_names)), dict(enumerate(photo_names))
    for camera_key, photo_key in ((str, str), (_file, _file), (_stem, _stem), (_file, _stem)):
        camera_keys, photo_keys = Counter(map(camera_key, cameras.values())), Counter(map(photo_key, photos.values()))
        photo_by_key = {photo_key(name): i for i, name in photos.items() if photo_keys[photo_key(name)] == 1}
        for i, name in list(cameras.items()):
            if camera_keys[camera_key(name)] == 1 and camera_key(name) in photo_by_key:
                pairs.append((i, photo_by_key[camera_key(name)]))
                del cameras[i], photos[photo_by_key[camera_key(name)]]
    return pairs


def _file(name: str) -> str:
    return PurePosixPath(name).name


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def view_of(photo: Photo, known: KnownCamera, where: str) -> View:
    """A photo undistorted by its camera, whose intrinsics are fitted to the photo's size.

    Args:
        photo: Upright.
        known: Its camera.
        where: Where the camera came from, for messages.

    Raises:
        UserError: a panorama, or a photo of another shape than the camera's.
    """
    height, width = _size(photo)
    lens = known.lens
    if lens.model == "EQUIRECTANGULAR":
        raise UserError(f"{where}: {known.name} is a panorama; sparse3d needs perspective or fisheye photos")
    expected = width * lens.height / lens.width
    if abs(height - expected) > max(1.0, 0.01 * height):
        turned = abs(width - height * lens.height / lens.width) <= max(1.0, 0.01 * width)
        raise UserError(
            f"{photo.name} is {width} x {height}, but {where} has {lens.width} x {lens.height} for it, another shape. "
            + (
                "One of them is turned: the cameras were found on photos whose EXIF rotation was not applied. Run the "
                "poses again on upright photos, or remove the orientation tag from the photos."
                if turned
                else "Give the photos that the cameras were found on; they may be smaller, not cropped."
            )
        )
    lens = lens.scaled_to(height, width)
    K = undistorted_K(lens.model, lens.params, height, width)
    image, mask = undistort(photo.image, photo.mask, lens.model, lens.params, K)
    return View(photo.name, image, K, known.c2w.float(), mask)


def _size(photo: Photo) -> tuple[int, int]:
    height, width = photo.image.shape[1:]
    return height, width


def some_names(names: Sequence[str], most: int = 6) -> str:
    """The first few names and how many more there are."""
    shown = ", ".join(sorted(names)[:most]) or "none"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")

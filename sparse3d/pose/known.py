"""Known cameras: a COLMAP model or a transforms.json, matched to the photos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.geometry import invert_rigid
from sparse3d.io.colmap import find_model, read_model
from sparse3d.io.lens import Lens
from sparse3d.io.nerfstudio import Frame, read_transforms
from sparse3d.pose.undistort import undistort, undistorted_K
from sparse3d.types import Photo, Points, PosedViews, View


@dataclass(frozen=True)
class _Known:
    """One camera of a file."""

    name: str  # as the file has it
    lens: Lens
    c2w: Tensor  # (4, 4) float64


def load_known(
    path: Path, photos: Sequence[Photo], *, strict: bool = False, minimum: int = 2, warn: Callable[[str], None]
) -> PosedViews:
    """Views of photos whose cameras a file gives: matched by name, intrinsics fitted to the photo's size, undistorted.

    A camera belongs to the photo of the same name, else of the same file name, else of the same name without suffix.

    Args:
        path: A folder with a COLMAP model (or with sparse/0), or a transforms.json (or its folder). COLMAP models
            bring their points.
        photos: Upright, of any size, as of `load_photos`.
        strict: A camera whose photo is missing, or a photo without a camera, is an error, not a warning.
        minimum: Photos that have to have a camera; 1 is enough to measure on, 2 to reconstruct from.
        warn: Called with each warning: photos without a camera are left out, cameras without a photo ignored.

    Raises:
        UserError: nothing readable at `path`, fewer than `minimum` photos with a camera, another shape of image than
            the camera's, a panorama, or one side lacks the other and `strict`.
    """
    cameras, points = _read(path, photos)
    pairs = _match([camera.name for camera in cameras], [photo.name for photo in photos])
    photo_of = {camera: photo for camera, photo in pairs}
    camera_of = {photo: camera for camera, photo in pairs}
    without_photo = [camera.name for i, camera in enumerate(cameras) if i not in photo_of]
    without_camera = [photo.name for i, photo in enumerate(photos) if i not in camera_of]
    if len(pairs) < minimum:
        raise UserError(
            f"{path} has cameras for {len(pairs)} of {len(photos)} photos, needed {minimum}. It names "
            f"{some_names([camera.name for camera in cameras])}; the photos are {some_names([photo.name for photo in photos])}. "
            "Names have to be equal, suffixes may differ."
        )
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
        warn(f"{path} has no camera for {len(without_camera)} photos: {some_names(without_camera)}; left out")
    views = tuple(_view(photos[i], cameras[camera_of[i]], path) for i in sorted(camera_of))
    renamed = _rename(points, {cameras[c].name: photos[p].name for c, p in pairs})
    return PosedViews(views, renamed.seen_by([view.name for view in views]))


def _read(path: Path, photos: Sequence[Photo]) -> tuple[list[_Known], Points]:
    if not path.exists():
        raise UserError(f"there is no {path}; give a COLMAP model folder, a transforms.json or a scene folder")
    if path.is_file():
        if path.suffix.lower() == ".json":
            return _from_transforms(path, photos), Points.none()
        raise UserError(
            f"{path} is not a camera file: give a transforms.json, or the folder of a COLMAP model (cameras, images, "
            "points3D)"
        )
    if (path / "scene.json").is_file():
        raise UserError(
            f"{path} is a scene folder, whose cameras are those of its own undistorted views. Give these views, "
            f"{path / 'views'}, with {path / 'cameras' / 'transforms.json'}, or the photos with their own cameras"
        )
    folder = find_model(path)
    if folder is not None:
        found = read_model(folder)
        c2w = invert_rigid(found.w2c)
        return [_Known(*known) for known in zip(found.names, found.lenses, c2w, strict=True)], found.points
    if (path / "transforms.json").is_file():
        return _from_transforms(path / "transforms.json", photos), Points.none()
    raise UserError(
        f"no cameras in {path}: needed is a COLMAP model (cameras.bin or cameras.txt, there or in sparse/0), a "
        "transforms.json, or a scene folder of sparse3d"
    )


def _rename(points: Points, names: Mapping[str, str]) -> Points:
    """Points whose tracks have other names; names that are not in the mapping leave the tracks."""
    tracks = tuple(tuple(names[name] for name in track if name in names) for track in points.tracks)
    return Points(points.xyz, points.rgb, points.error_px, tracks)


def _from_transforms(path: Path, photos: Sequence[Photo]) -> list[_Known]:
    sizes = {key: _size(photo) for photo in photos for key in (PurePosixPath(photo.name).stem, photo.name)}
    frames: list[Frame] = read_transforms(path, sizes)
    return [_Known(frame.name, frame.lens, frame.c2w) for frame in frames if not frame.generated]


def _match(camera_names: Sequence[str], photo_names: Sequence[str]) -> list[tuple[int, int]]:
    """(camera, photo) pairs by whole name, then file name, then stem; a key counts where both sides have it once."""
    pairs: list[tuple[int, int]] = []
    cameras, photos = dict(enumerate(camera_names)), dict(enumerate(photo_names))
    for key in (str, lambda name: PurePosixPath(name).name, lambda name: PurePosixPath(name).stem):
        camera_keys, photo_keys = Counter(map(key, cameras.values())), Counter(map(key, photos.values()))
        photo_by_key = {key(name): i for i, name in photos.items() if photo_keys[key(name)] == 1}
        for i, name in list(cameras.items()):
            if camera_keys[key(name)] == 1 and key(name) in photo_by_key:
                pairs.append((i, photo_by_key[key(name)]))
                del cameras[i], photos[photo_by_key[key(name)]]
    return pairs


def _view(photo: Photo, known: _Known, path: Path) -> View:
    height, width = _size(photo)
    lens = known.lens
    if lens.model == "EQUIRECTANGULAR":
        raise UserError(f"{path}: {known.name} is a panorama; sparse3d needs perspective or fisheye photos")
    expected = width * lens.height / lens.width
    if abs(height - expected) > max(1.0, 0.01 * height):
        turned = abs(width - height * lens.height / lens.width) <= max(1.0, 0.01 * width)
        raise UserError(
            f"{photo.name} is {width} x {height}, but {path} has {lens.width} x {lens.height} for it, another shape. "
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

"""Cameras of an earlier scene of the same photos: its undistorted views are taken as they are.

The cameras of a scene are those of its undistorted, zoomed views. Put to the photos that the views came from, lens
distortion still in them, they would be wrong; so the views come along with their cameras.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from sparse3d.errors import UserError
from sparse3d.io.scene import MANIFEST, SceneFolder, file_hash
from sparse3d.io.views import load_views
from sparse3d.pose.known import some_names
from sparse3d.types import Photo, PosedViews

_POSE = "01_pose"


def is_scene(path: Path) -> bool:
    """Whether the path is a scene folder of sparse3d."""
    return (path / MANIFEST).is_file()


def load_from_scene(path: Path, photos: Sequence[Photo], *, strict: bool, warn: Callable[[str], None]) -> PosedViews:
    """The views that a scene made of these photos, with their cameras and points. Views that a prior drew are not taken.

    Args:
        path: A scene folder whose poses are finished.
        photos: Each is looked up by its name, and has to have the bytes that the scene was made from.
        strict: A photo that the scene has no view of is an error, not a warning.
        warn: Called with each warning: photos without a view are left out.

    Raises:
        UserError: no finished poses, a photo that has changed since, fewer than 2 photos with a view, or one without
            and `strict`.
    """
    scene = SceneFolder.open(path)
    if _POSE not in scene.manifest()["stages"]:
        raise UserError(f"{path} is a scene whose poses are not finished. Run its `sparse3d recon` again first")
    posed = load_views(scene.stage_path(_POSE))
    views = {view.name for view in posed.views if not view.generated}
    known = _hashes(scene)
    changed = [
        photo.name for photo in photos if photo.name in views and photo.sha256 not in known.get(_file(photo.name), ())
    ]
    if changed:
        raise UserError(
            f"{path} was made from other photos of the same name: {some_names(changed)}. Give the photos that it was "
            "made from, or leave out --poses to find the cameras again"
        )
    shared = [photo.name for photo in photos if photo.name in views]
    new = [photo.name for photo in photos if photo.name not in views]
    if len(shared) < 2:
        raise UserError(
            f"{path} has cameras for {len(shared)} of {len(photos)} photos, needed 2. It has {some_names(list(views))}; "
            f"the photos are {some_names([photo.name for photo in photos])}"
        )
    if new and strict:
        raise UserError(f"{path} has no camera for {some_names(new)}. Remove these photos, or run without --strict")
    if new:
        warn(f"{path} has no camera for {len(new)} photos: {some_names(new)}; left out")
    return posed.only(shared)


def _hashes(scene: SceneFolder) -> dict[str, set[str]]:
    """sha256 of the photos that a scene was made from, by file name; more than one where folders shared a name."""
    found: dict[str, set[str]] = {}
    for entry in scene.manifest()["stages"][_POSE]["photos"]:
        found.setdefault(entry["name"], set()).add(entry["sha256"])
    frames = scene.stage_path(_POSE) / "frames"
    for frame in frames.iterdir() if frames.is_dir() else ():  # of a video, which is the only photo in the list
        found.setdefault(frame.name, set()).add(file_hash(frame))
    return found


def _file(name: str) -> str:
    return PurePosixPath(name).name

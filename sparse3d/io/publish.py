"""The files at the top of a scene folder, in the formats that other tools read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sparse3d import __version__
from sparse3d.io._atomic import replacing
from sparse3d.io.colmap import write_model
from sparse3d.io.nerfstudio import write_transforms
from sparse3d.io.ply import write_gaussians, write_points
from sparse3d.io.scene import SceneFolder
from sparse3d.io.views import file_names
from sparse3d.types import Gaussians, PosedViews

_COMMENTS = (f"written by sparse3d {__version__}", "axes: x right, y down, z forward (OpenCV, COLMAP)")


def publish_gaussians(scene: SceneFolder, gaussians: Gaussians) -> None:
    """scene.ply in the standard 3DGS layout."""
    write_gaussians(scene.path / "scene.ply", gaussians, comments=_COMMENTS)


def publish_cameras(scene: SceneFolder, posed: PosedViews) -> None:
    """views/, cameras/transforms.json (nerfstudio), cameras/sparse/0 (COLMAP) and cameras/points.ply."""
    stems = file_names(posed.names)
    pose_stage = scene.stage_path("01_pose")
    names = [f"{stem}.png" for stem in stems.values()]
    _link_all([pose_stage / "views" / name for name in names], scene.path / "views")
    depth = scene.stage_path("02_init") / "depth"
    _link_all(sorted(depth.iterdir()) if depth.is_dir() else [], scene.path / "depth")
    cameras = scene.path / "cameras"
    write_transforms(cameras / "transforms.json", posed.views, [f"../views/{name}" for name in names])
    write_model(cameras / "sparse" / "0", posed)
    write_points(cameras / "points.ply", posed.points)


def _link_all(files: list[Path], folder: Path) -> None:
    """Makes the folder hold these files and no others, without a second copy where the file system can."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {file.name for file in files}
    for other in folder.iterdir():
        if other.name not in wanted:
            other.unlink()
    for file in files:
        with replacing(folder / file.name) as temporary:
            try:
                os.link(file, temporary)
            except OSError:
                shutil.copyfile(file, temporary)

"""One reconstruction from verified pairs: COLMAP's incremental mapper from a chosen first pair, or its global one."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparse3d.config import PoseConfig
from sparse3d.io._pycolmap import pycolmap
from sparse3d.pose.correspondences import Correspondences, Pair
from sparse3d.pose.two_view import TwoView


@dataclass(frozen=True)
class Problem:
    """What every attempt at a reconstruction starts from."""

    correspondences: Correspondences
    cameras: Sequence[Any]  # one pycolmap camera for each photo; photos that share one have the same camera_id
    pairs: Mapping[Pair, TwoView]  # verified
    fixed: Sequence[int] = ()  # ids of cameras whose intrinsics stay


def image_name(index: int) -> str:
    """Name of the index-th photo inside COLMAP, where names must be plain and unique."""
    return f"{index:05d}.png"


def image_index(name: str) -> int:
    """The photo of an image that `image_name` named."""
    return int(name[:5])


def write_database(path: Path, problem: Problem) -> None:
    """Cameras, keypoints and verified matches as COLMAP's database. Image ids are photo indices + 1."""
    colmap = pycolmap()
    database = colmap.Database.open(str(path))
    try:
        for camera in {camera.camera_id: camera for camera in problem.cameras}.values():
            database.write_camera(camera, use_camera_id=True)
        for index, (camera, keypoints) in enumerate(
            zip(problem.cameras, problem.correspondences.keypoints, strict=True)
        ):
            image = colmap.Image(name=image_name(index), camera_id=camera.camera_id, image_id=index + 1)
            database.write_image(image, use_image_id=True)
            database.write_keypoints(index + 1, keypoints.astype(np.float32))
        for (a, b), pair in problem.pairs.items():
            database.write_matches(a + 1, b + 1, pair.inliers.astype(np.uint32))
            database.write_two_view_geometry(a + 1, b + 1, pair.geometry)
    finally:
        database.close()


def mapping_options(config: PoseConfig, seed: int) -> Any:
    """Thresholds of mapping and triangulation that suit few photos, where COLMAP's own ask for dozens."""
    options = pycolmap().IncrementalPipelineOptions()
    options.random_seed = seed
    options.min_model_size = 2
    options.multiple_models = False
    options.extract_colors = False
    options.min_num_matches = config.min_inliers
    options.max_focal_length_ratio = config.max_focal_ratio
    options.min_focal_length_ratio = 1 / config.max_focal_ratio
    options.structure_less_registration_fallback = False  # guesses; a view left out is better than a wrong one
    options.mapper.init_min_num_inliers = config.min_inliers
    options.mapper.init_min_tri_angle = config.init_angle_deg
    options.mapper.abs_pose_min_num_inliers = config.resection_inliers
    options.mapper.abs_pose_min_inlier_ratio = config.min_ratio
    options.mapper.filter_min_tri_angle = 0.5
    options.triangulation.min_angle = 0.5
    options.triangulation.ignore_two_view_tracks = False
    return options


def posed_model(cameras: Sequence[Any], w2c: Mapping[int, np.ndarray]) -> Any:
    """A reconstruction without points of photos whose cameras are known. `w2c`: (3, 4) or (4, 4) by photo index."""
    colmap = pycolmap()
    model = colmap.Reconstruction()
    for camera in {camera.camera_id: camera for camera in cameras}.values():
        model.add_camera_with_trivial_rig(camera)
    for index, pose in w2c.items():
        image = colmap.Image(name=image_name(index), camera_id=cameras[index].camera_id, image_id=index + 1)
        model.add_image_with_trivial_frame(image, colmap.Rigid3d(np.asarray(pose, dtype=np.float64)[:3]))
    return model


def incremental(problem: Problem, first: Pair | None, config: PoseConfig, seed: int, timeout_s: float) -> Any | None:
    """The reconstruction that grows from the pair `first`, or from one that COLMAP chooses; None when none does.

    Schönberger and Frahm 2016, Structure-from-Motion Revisited.
    """
    options = mapping_options(config, seed)
    options.max_runtime_seconds = max(1, round(timeout_s))
    options.constant_cameras = options.mapper.constant_cameras = set(problem.fixed)
    options.ba_refine_focal_length = _is_open(problem)  # of two photos, COLMAP adjusts constant cameras too
    if first is not None:
        options.init_image_id1, options.init_image_id2 = first[0] + 1, first[1] + 1
    return _run(problem, lambda folder: _largest(_incremental(folder, options)))


def extend(problem: Problem, model: Any, config: PoseConfig, seed: int, timeout_s: float) -> Any:
    """The reconstruction with further photos registered to it; the cameras that it has stay as they are."""
    options = mapping_options(config, seed)
    options.max_runtime_seconds = max(1, round(timeout_s))
    options.fix_existing_frames = options.mapper.fix_existing_frames = True
    options.constant_cameras = options.mapper.constant_cameras = {
        model.image(image).camera_id for image in model.reg_image_ids()
    }

    def grow(folder: Path) -> Any:
        (folder / "in").mkdir()
        model.write_binary(str(folder / "in"))
        return _largest(_incremental(folder, options, input_path=folder / "in")) or model

    return _run(problem, grow)


def _incremental(folder: Path, options: Any, **more: Any) -> Any:
    return pycolmap().incremental_mapping(folder / "d.db", folder, folder / "out", options=options, **more)


def global_mapping(problem: Problem, config: PoseConfig, seed: int) -> Any | None:
    """The reconstruction of COLMAP's global mapper; None when there is none.

    Pan et al. 2024, Global Structure-from-Motion Revisited (GLOMAP). It places views where the incremental mapper
    stops, and places weak ones wrongly: a second opinion, to be judged as all others.
    """
    colmap = pycolmap()
    options = colmap.GlobalPipelineOptions()
    options.random_seed = options.mapper.random_seed = seed
    options.min_num_matches = config.min_inliers
    options.min_model_size = 2
    options.mapper.global_positioning.min_num_view_per_track = 2
    options.mapper.global_positioning.use_gpu = False
    options.mapper.global_positioning.random_seed = seed
    options.mapper.rotation_averaging.random_seed = seed
    options.mapper.bundle_adjustment.min_track_length = 2
    options.mapper.bundle_adjustment.ceres.use_gpu = False
    options.mapper.track_min_num_views_per_track = 2
    options.mapper.retriangulation.ignore_two_view_tracks = False
    options.mapper.bundle_adjustment.refine_focal_length = _is_open(problem)
    return _run(
        problem, lambda folder: _largest(colmap.global_mapping(folder / "d.db", folder, folder / "out", options))
    )


def _run(problem: Problem, mapper: Any) -> Any | None:
    with tempfile.TemporaryDirectory(prefix="sparse3d-map-") as temporary:
        folder = Path(temporary)
        (folder / "out").mkdir()
        write_database(folder / "d.db", problem)
        model = mapper(folder)
    for camera in problem.cameras if model is not None else ():  # the global mapper knows no constant cameras
        if camera.camera_id in problem.fixed and model.exists_camera(camera.camera_id):
            model.camera(camera.camera_id).params = camera.params
    return model


def _is_open(problem: Problem) -> bool:
    return any(camera.camera_id not in problem.fixed for camera in problem.cameras)


def _largest(models: Mapping[int, Any]) -> Any | None:
    return max(models.values(), key=lambda model: model.num_reg_images(), default=None)

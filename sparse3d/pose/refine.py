"""A reconstruction made exact: points anew from every match that agrees, bundle adjustment with a robust loss."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparse3d.config import PoseConfig
from sparse3d.io._pycolmap import pycolmap
from sparse3d.pose.correspondences import Correspondences, Pair
from sparse3d.pose.judge import links
from sparse3d.pose.mapping import Problem, mapping_options, write_database
from sparse3d.pose.two_view import TwoView

_ROUNDS = (3.0, 1.5, 1.0)  # times max_error_px: matches that enter; wide at first, as the poses are still rough

_ROUGH = (24.0, 12.0, 6.0)  # before these, for poses that are a guess


def refine(
    model: Any,
    correspondences: Correspondences,
    cameras: Sequence[Any],
    config: PoseConfig,
    *,
    max_error_px: float,
    fixed: Sequence[int] = (),
    still: Sequence[int] = (),
    rough: bool = False,
    seed: int,
) -> Any:
    """The reconstruction with its points made anew and everything adjusted, a few times.

    A mapper's points are what its inlier test let in when the poses were rough. Here all matches are asked again by
    the poses as they are, so that pairs which were verified too narrowly, or not at all, take part.

    Args:
        model: A pycolmap Reconstruction of `mapping.incremental`. Not changed.
        correspondences: All putative matches.
        cameras: One for each photo, for the ids of the ones that share; their parameters come from the model.
        config: Limits of the focal length.
        max_error_px: Of matches in the last round; the loss bends at half of it.
        fixed: Ids of cameras whose intrinsics stay.
        still: Indices of photos whose poses stay.
        rough: The poses are a guess, off by degrees: begin with matches that are far from their epipolar lines.
        seed: Of triangulation.
    """
    colmap = pycolmap()
    model = colmap.Reconstruction(model)
    for factor in (*_ROUGH, *_ROUNDS) if rough else _ROUNDS:
        model = triangulate(model, correspondences, cameras, config, factor * max_error_px, seed)
        if len(model.points3D):
            adjust(model, max_error_px / 2, fixed, still)
    return model


def triangulate(
    model: Any,
    correspondences: Correspondences,
    cameras: Sequence[Any],
    config: PoseConfig,
    max_error_px: float,
    seed: int,
) -> Any:
    """The same cameras with points from all matches that agree with them; the points that were there are left out."""
    agreed = links(model, correspondences, max_error_px)
    pairs = {pair: _as_pair(correspondences, pair, link.consistent) for pair, link in agreed.items() if link.count}
    problem = Problem(correspondences, cameras, pairs)
    colmap = pycolmap()
    options = mapping_options(config, seed)
    for limits in (options, options.mapper, options.triangulation):  # a camera that was found or given is right here
        limits.min_focal_length_ratio, limits.max_focal_length_ratio, limits.max_extra_param = 1e-3, 1e3, 1e3
    options.mapper.filter_max_reproj_error = max_error_px
    options.triangulation.merge_max_reproj_error = options.triangulation.complete_max_reproj_error = max_error_px
    with tempfile.TemporaryDirectory(prefix="sparse3d-points-") as temporary:
        folder = Path(temporary)
        write_database(folder / "d.db", problem)
        (folder / "out").mkdir()
        return colmap.triangulate_points(
            model, folder / "d.db", folder, folder / "out", clear_points=True, options=options
        )


def adjust(model: Any, loss_px: float, fixed: Sequence[int] = (), still: Sequence[int] = ()) -> None:
    """Bundle adjustment in place: poses, points, focal lengths and distortion, under a Cauchy loss.

    Args:
        model: A pycolmap Reconstruction with points.
        loss_px: Residual at which the loss bends.
        fixed: Ids of cameras whose intrinsics stay.
        still: Indices of photos whose poses stay.
    """
    bundle(model, adjustment_options(loss_px), fixed, still).solve()
    model.update_point_3d_errors()


def bundle(model: Any, options: Any, fixed: Sequence[int], still: Sequence[int] = ()) -> Any:
    """The bundle adjuster of all registered views, its frame held by the first one or by those that are `still`."""
    colmap = pycolmap()
    config = colmap.BundleAdjustmentConfig()
    for image in model.reg_image_ids():
        config.add_image(image)
        if image - 1 in still:
            config.set_constant_rig_from_world_pose(model.image(image).frame_id)
    for camera in fixed:
        config.set_constant_cam_intrinsics(camera)
    if not still:  # the scale stays open: what COLMAP holds it by may be a coordinate that is almost zero
        config.set_constant_rig_from_world_pose(model.image(min(model.reg_image_ids())).frame_id)
    return colmap.create_default_ceres_bundle_adjuster(options, config, model)


def adjustment_options(loss_px: float) -> Any:
    """Of a quiet bundle adjustment with a Cauchy loss."""
    colmap = pycolmap()
    options = colmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.ceres.loss_function_type = colmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = loss_px
    options.ceres.solver_options.max_num_iterations = 50
    options.ceres.solver_options.function_tolerance = 1e-7
    return options


def _as_pair(correspondences: Correspondences, pair: Pair, consistent: np.ndarray) -> TwoView:
    colmap = pycolmap()
    matched = correspondences.matches[pair][consistent]
    geometry = colmap.TwoViewGeometry()
    geometry.config = colmap.TwoViewGeometryConfiguration.CALIBRATED
    geometry.inlier_matches = matched.astype(np.uint32)
    return TwoView(matched, len(consistent), "general", 0.0, geometry)

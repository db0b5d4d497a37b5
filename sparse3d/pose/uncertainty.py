"""How well the matches fix the cameras, by the covariance of the bundle adjustment; and focal lengths that EXIF knows better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparse3d.io._pycolmap import pycolmap
from sparse3d.pose.judge import poses
from sparse3d.pose.mapping import image_index
from sparse3d.pose.refine import adjust, adjustment_options

_SYSTEMATIC = 0.002  # error of matches and lens that does not average out, times the longer side; assumed, not measured
_OPEN = 0.05  # relative standard deviation of a focal length above which it is not known
_EXIF_SIGMA = 0.03  # relative standard deviation of a focal length by EXIF, which is rounded and changes with focus


@dataclass(frozen=True)
class Uncertainty:
    """Standard deviations relative to the first view, by photo index; and of focal lengths, by camera id."""

    rotation_deg: Mapping[int, float]
    direction_deg: Mapping[int, float]  # of the way from the first view to this one; its length is nobody's to know
    focal_px: Mapping[int, float]  # as much as the focal length itself where the matches leave it open altogether


def uncertainty(model: Any, loss_px: float, fixed: Sequence[int]) -> Uncertainty | None:
    """From the covariance at the minimum; None where the matches leave more than focal lengths open altogether.

    A wall that is looked at straight leaves them open: a longer lens from farther away sees the same. The rest is then
    told for focal lengths as they are.

    The residuals are given a standard deviation of 0.2 % of the picture: what they have beyond noise (a lens that the
    model lacks, features that mean another point from the side) moves all points alike and does not average out.
    """
    model = _by_its_first_view(model)
    focal_px = {i: model.image(i).camera.mean_focal_length() for i in model.reg_image_ids()}
    open_ = {model.image(i).camera_id for i in model.reg_image_ids()} - set(fixed)
    moved, covariance = _covariance(model, loss_px, fixed)
    is_open = covariance is None and bool(open_)
    if is_open:
        moved, covariance = _covariance(model, loss_px, [*fixed, *open_])
    if covariance is None:
        return None
    rotation, direction, focal = {}, {}, {}
    for i in moved.reg_image_ids():
        image = moved.image(i)
        sigma_px = _SYSTEMATIC * max(image.camera.width, image.camera.height)
        pose = covariance.get_cam_cov_from_world(i)
        if pose is not None:
            sigma = _of_angles(np.asarray(pose), image.cam_from_world()) * sigma_px**2
            rotation[image_index(image.name)] = float(np.degrees(np.sqrt(max(np.trace(sigma[:3, :3]), 0))))
            direction[image_index(image.name)] = _direction_deg(sigma, image.cam_from_world())
        if is_open and image.camera_id in open_:
            focal[image.camera_id] = focal_px[i]
        elif image.camera_id in open_ and image.camera_id not in focal:
            params = covariance.get_other_params_cov(image.camera.params)
            if params is not None:
                focal[image.camera_id] = float(np.sqrt(max(np.asarray(params)[0, 0], 0)) * sigma_px)
    return Uncertainty(rotation, direction, focal)


def _by_its_first_view(model: Any) -> Any:
    """A copy in the frame of its first view."""
    colmap = pycolmap()
    model = colmap.Reconstruction(model)
    first = model.image(min(model.reg_image_ids())).cam_from_world()
    model.transform(colmap.Sim3d(1.0, first.rotation, first.translation))
    return model


def _covariance(model: Any, loss_px: float, fixed: Sequence[int]) -> tuple[Any, Any | None]:
    """A copy of the model moved to the minimum, and its covariance there; None where the minimum is not a point."""
    colmap = pycolmap()
    model = colmap.Reconstruction(model)
    config = colmap.BundleAdjustmentConfig()
    for image in model.reg_image_ids():
        config.add_image(image)
    for camera in fixed:
        config.set_constant_cam_intrinsics(camera)
    config.fix_gauge(colmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    adjuster = colmap.create_default_ceres_bundle_adjuster(adjustment_options(loss_px), config, model)
    adjuster.solve()
    return model, colmap.estimate_ba_covariance(colmap.BACovarianceOptions(), model, adjuster)


def _of_angles(sigma: np.ndarray, pose: Any) -> np.ndarray:
    """The covariance of Ceres by rotation, radians, and translation. (6, 6)

    Ceres counts a rotation by half its angle (its quaternion manifold). The view that fixes the scale lacks the
    largest coordinate of its translation, which does not move.
    """
    kept = np.arange(6)
    if len(sigma) == 5:
        kept = np.delete(kept, 3 + int(np.abs(np.asarray(pose.translation)).argmax()))
    full = np.zeros((6, 6))
    full[np.ix_(kept, kept)] = sigma
    full[:3] *= 2
    full[:, :3] *= 2
    return full


def _direction_deg(sigma: np.ndarray, pose: Any) -> float:
    """Standard deviation of the direction of a centre -R^T t, by the covariance of its rotation (exp(d) R) and translation.

    Across that direction only: along it the scale of the whole is mixed in, which is a convention.
    """
    t = np.asarray(pose.translation)
    x, y, z = t
    jacobian = np.concatenate([np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]), np.eye(3)], axis=1)
    length = max(float(np.linalg.norm(t)), 1e-12)
    across = np.eye(3) - np.outer(t, t) / length**2
    return float(np.degrees(np.sqrt(max(np.trace(across @ jacobian @ sigma @ jacobian.T @ across), 0)) / length))


def open_focals(model: Any, first: Sequence[Any], loss_px: float, fixed: Sequence[int]) -> tuple[int, ...]:
    """Ids of cameras without EXIF whose focal length the matches leave open by more than 5 %: it may be anything then, and
    the poses with it.
    """
    guessed = {camera.camera_id for camera in first if not camera.has_prior_focal_length} - set(fixed)
    sigma = uncertainty(model, loss_px, fixed) if guessed else None
    if sigma is None:
        return tuple(sorted(guessed))
    loose = (key for key, deviation in sigma.focal_px.items() if key in guessed)
    return tuple(sorted(key for key in loose if sigma.focal_px[key] > _OPEN * model.camera(key).mean_focal_length()))


def settle_focal(model: Any, first: Sequence[Any], loss_px: float, fixed: Sequence[int]) -> None:
    """Decides focal lengths that the matches leave open, in place.

    With EXIF, the most likely value of two measurements: weights are the inverse variances, EXIF's 3 % and the
    adjustment's own. Three photos of a flat scene leave 20 % open, and there EXIF decides; elsewhere it hardly counts.
    """
    loose = {camera.camera_id: camera for camera in first if camera.camera_id not in fixed}
    sigma = uncertainty(model, loss_px, fixed) if loose else None
    if sigma is None or not poses(model):
        return
    settled = []
    for key, before in loose.items():
        if key not in sigma.focal_px:
            continue
        camera, deviation = model.camera(key), max(sigma.focal_px[key], 1e-6)
        found = camera.mean_focal_length()
        if before.has_prior_focal_length:
            value = before.mean_focal_length()
            weight, prior = deviation**-2, (_EXIF_SIGMA * value) ** -2
            camera.params = [(weight * found + prior * value) / (weight + prior), *camera.params[1:]]
            settled.append(key)
    if settled:
        adjust(model, loss_px, [*fixed, *settled])

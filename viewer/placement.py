"""Where a scene stands in the viewer: moved and scaled to the size that viser's number formats hold well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparse3d.geometry import quat_from_rotation, rotation_from_quat
from sparse3d.paths import look_at
from sparse3d.types import Gaussians, PosedViews, View

# viser keeps covariances as float16, whose steps below 6e-5 are 6e-8 wide. At radius 5 a Gaussian with a standard
# deviation of 1/1000 of the scene has variance 2.5e-5, exact to 0.3 %; at radius 1 it would be 1e-6, exact to 6 %.
# Above, 65504 leaves room for Gaussians 50 times as large as the scene.
SCENE_RADIUS = 5.0


@dataclass(frozen=True)
class Placement:
    """World to viewer coordinates: viewer = (world - centre) * scale. Axes keep their directions."""

    centre: npt.NDArray[np.float64]  # (3,) world units
    scale: float  # viewer units in one world unit, above 0

    def points(self, xyz: Tensor) -> npt.NDArray[np.float32]:
        """World points in viewer coordinates. (P, 3) to (P, 3)"""
        return ((xyz.detach().cpu().double().numpy() - self.centre) * self.scale).astype(np.float32)

    def world(self, xyz: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Viewer points in world coordinates. (..., 3) to (..., 3)"""
        return np.asarray(xyz, np.float64) / self.scale + self.centre

    def c2w(self, wxyz: npt.ArrayLike, position: npt.ArrayLike) -> Tensor:
        """Camera to world of a pose in viewer coordinates, as `pose` gives. (4, 4) float32"""
        c2w = torch.eye(4)
        c2w[:3, :3] = rotation_from_quat(torch.tensor(np.asarray(wxyz, np.float64)))
        c2w[:3, 3] = torch.from_numpy(self.world(position))
        return c2w

    def pose(self, c2w: Tensor) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """A camera in viewer coordinates.

        Args:
            c2w: (4, 4) camera to world, world units.

        Returns:
            Rotation (4,) as wxyz and position (3,), still in OpenCV axes, which are viser's camera axes too.
        """
        matrix = c2w.detach().cpu().double()
        return quat_from_rotation(matrix[:3, :3]).numpy(), (matrix[:3, 3].numpy() - self.centre) * self.scale


def fit_placement(gaussians: Gaussians, views: PosedViews) -> Placement:
    """The placement that puts cameras and sparse points within about `SCENE_RADIUS` of the origin.

    The centre is a median and the radius covers all cameras but only nine points in ten, so that stray points do not
    shrink the scene. Without sparse points the Gaussians' centres stand in for them; with a single camera and
    nothing else the scale is 1.
    """
    cameras = camera_centres(views)
    xyz = views.points.xyz if len(views.points) else gaussians.means
    cloud = xyz.detach().cpu().double().numpy()
    cloud = cloud[np.isfinite(cloud).all(axis=1)]
    anchors = np.concatenate([cameras, cloud])
    if len(anchors) == 0:
        return Placement(np.zeros(3), 1.0)
    centre = np.median(anchors, axis=0)
    radius = 0.0
    if len(cloud):
        radius = float(np.quantile(np.linalg.norm(cloud - centre, axis=1), 0.9))
    if len(cameras):
        radius = max(radius, float(np.linalg.norm(cameras - centre, axis=1).max()))
    return Placement(centre, SCENE_RADIUS / radius if radius > 0 else 1.0)


def camera_centres(views: PosedViews) -> npt.NDArray[np.float64]:
    """(V, 3), world units."""
    return np.array([view.c2w[:3, 3].tolist() for view in views.views], dtype=np.float64).reshape(-1, 3)


def up_direction(views: PosedViews) -> npt.NDArray[np.float64]:
    """Which way is up: the mean of the cameras' up directions, their -y axes. (3,), length 1

    World -y when there are no cameras or when they cancel out, since that is up in OpenCV axes.
    """
    if views.views:
        mean = torch.stack([-view.c2w[:3, 1].detach().cpu().double() for view in views.views]).mean(dim=0)
        if mean.norm() > 0.1:
            return (mean / mean.norm()).numpy()
    return np.array([0.0, -1.0, 0.0])


def camera_up(wxyz: npt.NDArray[np.float64], scene_up: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The up direction nearest `scene_up` with which a camera that looks along `wxyz` is not rolled. (3,), length 1

    Orbiting turns about this direction, so a camera that looks down must not bring its own tilted axis along.
    """
    w, x, y, z = wxyz
    right = np.array([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)])
    own_up = -np.array([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)])
    up = scene_up - (scene_up @ right) * right
    if up @ own_up < 0.05:  # rolled by about a quarter turn or more: there is no better axis than its own
        return own_up
    return up / np.linalg.norm(up)


def field_of_view(view: View) -> tuple[float, float]:
    """Vertical field of view in radians, and width over height at depth 1; the principal point counts as central."""
    half_height = view.height / 2 / float(view.K[1, 1])
    half_width = view.width / 2 / float(view.K[0, 0])
    return 2 * float(np.arctan(half_height)), half_width / half_height


def orbit_point(view: View, placement: Placement) -> npt.NDArray[np.float64]:
    """The point ahead of a view to orbit around: as far away as the scene's centre, the origin. (3,) viewer units"""
    _, position = placement.pose(view.c2w)
    forward = view.c2w[:3, 2].detach().cpu().double().numpy()
    return position + forward * max(float(-position @ forward), 0.2 * SCENE_RADIUS)


def overview(placement: Placement, up: npt.NDArray[np.float64]) -> View:
    """A view of the whole, for a scene without cameras: 60 degrees wide, from outside, slightly above."""
    ahead = np.array([0.0, 0.0, 1.0]) if abs(up[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
    offset = 2.2 * SCENE_RADIUS * (0.25 * up - ahead)
    c2w = look_at(*(torch.tensor(value) for value in (placement.world(offset), placement.centre, up))).float()
    f = 120 / np.tan(np.radians(30))
    K = torch.tensor([[f, 0.0, 160.0], [0.0, f, 120.0], [0.0, 0.0, 1.0]], dtype=torch.float32)
    return View("overview", torch.zeros(3, 240, 320), K, c2w)


def frustum_depth(views: PosedViews, placement: Placement) -> float:
    """How deep to draw the frustums: half the usual distance to the next camera, within 1 to 5 % of the scene."""
    centres = camera_centres(views) * placement.scale
    if len(centres) < 2:
        return 0.05 * SCENE_RADIUS
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return float(np.clip(0.5 * np.median(distances.min(axis=1)), 0.01 * SCENE_RADIUS, 0.05 * SCENE_RADIUS))

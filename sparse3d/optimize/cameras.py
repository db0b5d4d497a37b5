"""Cameras that are refined with the scene: a small motion of each view and a focal scale of each camera.

As BARF (Lin et al. 2021, arXiv:2104.06405) and InstantSplat (Fan et al. 2024, arXiv:2403.20309) do, the photometric loss
moves the cameras together with the scene. Each view's world-to-camera transform is exp(xi) w2c with a twist xi that starts
at zero. What is optimized is a whitened twist (CamP, Park et al. 2023, arXiv:2308.10902): a step of 1 in any of its six
numbers moves what the view sees by 1 radian of view in the root mean square, whatever the scene's size, units or depth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sparse3d.config import OptimizeConfig
from sparse3d.geometry import se3_exp
from sparse3d.kernels.adam import selective_adam
from sparse3d.kernels.reference import SH_C0, sh_basis
from sparse3d.optimize.schedules import exponential
from sparse3d.types import Gaussians, View

_POINTS = 4096  # Gaussians of a view that its whitening looks at
_LEAST_POINTS = 16  # a view that sees fewer stays where it is
_DAMPING = 0.1  # of the whitening, times the diagonal (CamP, section 3.3)


def refines_cameras(config: OptimizeConfig, estimated: bool) -> bool:
    """Whether `refine_cameras` means yes for these cameras: "auto" does when they were estimated."""
    return config.refine_cameras == "on" or (config.refine_cameras == "auto" and estimated)


@dataclass(frozen=True)
class Trust:
    """How far a camera may go from where structure from motion put it."""

    angle_deg: float  # of its rotation; its position may change by this angle seen from what it looks at
    focal: float  # relative change of the focal length; 0: it stays


class RefinedCameras:
    """The cameras of V views with their corrections, and the Adam that moves these.

    Views of one size and K share a focal scale; principal points stay. Generated views stay where they are: the scene that
    they show was drawn from there. So do views that see next to nothing.
    """

    def __init__(
        self, views: Sequence[View], gaussians: Gaussians, trust: Trust, *, common_motion: bool = False
    ) -> None:
        """No correction yet.

        Args:
            views: Where they are at first.
            gaussians: The scene at first; what a view sees of it decides how its steps are scaled.
            trust: Bounds of the corrections.
            common_motion: Whether the views may move together; they should not when the scene moves as well.
        """
        self.views = tuple(views)
        self.trust = trust
        self.w2c = torch.cat([view.cameras.w2c for view in views])
        groups = _same_camera(self.views)
        self.group = [groups.index(_camera(view)) for view in views]
        seen = [_seen(gaussians.means.detach(), view) for view in views]
        self.free = [len(points) >= _LEAST_POINTS and not v.generated for points, v in zip(seen, views, strict=True)]
        distances = [float(points[:, 2].median()) if len(points) else 1.0 for points in seen]
        whitening = [
            _whitening(points, distance) if free else torch.zeros(6, 6, dtype=torch.float64)
            for points, distance, free in zip(seen, distances, self.free, strict=True)
        ]
        self.whitening = torch.stack(whitening).float()  # (V, 6, 6) whitened twist -> twist
        self.reach = torch.tensor(distances) * math.radians(trust.angle_deg)  # (V,) world units
        self.kept = torch.eye(6 * len(views), dtype=torch.float64)  # (6 V, 6 V)
        if not (common_motion or any(view.generated for view in views)):  # those hold the frame
            self.kept = _without_common_motion(self.w2c, whitening, self.free)
        radii = [(points[:, :2] / points[:, 2:]).square().sum(1).mean().sqrt() for points in seen if len(points)]
        # a relative change of the focal length by this moves what is seen by 1 radian in the root mean square
        self.focal_unit = 1 / max(0.05, float(torch.stack(radii).mean())) if radii and trust.focal > 0 else 0.0
        self.values = {
            "twists": torch.zeros(len(views), 6, requires_grad=True),  # whitened
            "focals": torch.zeros(len(groups), 1, requires_grad=True),  # natural log of the scale, in focal units
        }
        self.moments = {
            name: (torch.zeros_like(v.detach()), torch.zeros_like(v.detach())) for name, v in self.values.items()
        }
        self.counts = {name: [0] * len(value) for name, value in self.values.items()}
        self.left: set[int] = set()  # views moved since the common motion was last taken out

    def camera(self, index: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        """World to camera (1, 4, 4) and K (1, 3, 3) to draw a view with, connected to the graph.

        A longer focal length magnifies x and y as if camera space were: diag(f, f, 1) K' = K diag(f, f, 1). So its gradient
        comes with that of the transform, and no rasterizer needs one for K. Its value is in K alone.

        Args:
            index: Of the view.
            height, width: At which it is drawn.
        """
        w2c = se3_exp(self.whitening[index] @ self.values["twists"][index]) @ self.w2c[index]
        scale = (self.values["focals"][self.group[index], 0] * self.focal_unit).exp()
        one = torch.ones(())
        K = self.views[index].cameras.scaled_to(height, width).K * torch.stack([scale.detach(), scale.detach(), one])
        magnified = torch.stack([scale / scale.detach(), scale / scale.detach(), one, one])
        return (magnified[:, None] * w2c)[None], K

    @torch.no_grad()
    def step(self, index: int, rate: float, gaussians: Gaussians, sh_degree: int) -> None:
        """Moves a view and its focal length against their gradients, which `loss.backward()` has left.

        Gradients that are not finite are passed over. A view that reaches the bound of its trust region is put back on it,
        and what Adam remembers of it is forgotten, so that it does not go on pushing.

        Args:
            index: Of the view that was drawn.
            rate: Learning rate: radians of view.
            gaussians: What was drawn, with gradients on `means` and `sh`.
            sh_degree: With which they were drawn.
        """
        twists, focals = self.values["twists"], self.values["focals"]
        if twists.grad is None or focals.grad is None or rate == 0:
            twists.grad = focals.grad = None
            return
        group = self.group[index]
        if self.focal_unit:
            focals.grad[group] += self.focal_unit * self._sh_part(index, gaussians, sh_degree)
        if self.free[index] and torch.isfinite(twists.grad[index]).all():
            self._adam("twists", index, rate)
            self._hold_back(index)
            self.left.add(index)
        if self.focal_unit and self.free[index] and torch.isfinite(focals.grad[group]).all():
            self._adam("focals", group, rate / self.group.count(group))
            bound = math.log1p(self.trust.focal) / self.focal_unit
            if abs(float(focals[group])) > bound:
                focals[group].clamp_(-bound, bound)
                self._forget("focals", group)
        if len(self.left) == sum(self.free):
            twists.copy_((self.kept @ twists.flatten().double()).reshape(twists.shape))
            self.left.clear()
        twists.grad = focals.grad = None

    def _adam(self, name: str, row: int, rate: float) -> None:
        value, (mean, square) = self.values[name], self.moments[name]
        assert value.grad is not None
        self.counts[name][row] += 1
        part = slice(row, row + 1)
        rates, all_rows = torch.full(value.shape[1:], rate), torch.ones(1, dtype=torch.bool)
        data = value.detach()
        selective_adam(data[part], value.grad[part], mean[part], square[part], rates, all_rows, self.counts[name][row])

    def _forget(self, name: str, row: int) -> None:
        for moment in self.moments[name]:
            moment[row] = 0
        self.counts[name][row] = 0

    def _hold_back(self, index: int) -> None:
        """Puts a view that left its trust region back on the bound, on the line from where it started."""
        twist = self.whitening[index] @ self.values["twists"][index]
        rotation = float(twist[:3].norm()) / math.radians(self.trust.angle_deg)
        share = max(rotation, float(twist[3:].norm() / self.reach[index]))
        if share > 1:
            self.values["twists"].detach()[index] /= share
            self._forget("twists", index)

    def _sh_part(self, index: int, gaussians: Gaussians, degree: int) -> float:
        """What magnified camera space gets wrong: it moves the camera's centre -R^T t, and with it the directions in which
        spherical harmonics are seen. Subtracts that from the gradient of the focal scale; 0 at degree 0.
        """
        if degree == 0 or gaussians.sh.grad is None:
            return 0.0
        grad, sh, means = gaussians.sh.grad.cpu(), gaussians.sh.detach().cpu(), gaussians.means.detach().cpu()
        camera = (
            se3_exp(self.whitening[index] @ self.values["twists"].detach()[index]).double() @ self.w2c[index].double()
        ).float()
        centre = -camera[:3, :3].T @ camera[:3, 3]
        to_rgb = grad[:, 0] / SH_C0  # gradient of each Gaussian's colour
        drawn = to_rgb.abs().sum(1) > 0
        terms = (degree + 1) ** 2
        pull = (sh[drawn, :terms] * to_rgb[drawn, None]).sum(2)  # gradient of each basis function
        directions = means[drawn] - centre
        with torch.enable_grad():
            shift = torch.zeros(3, requires_grad=True)
            unit = torch.nn.functional.normalize(directions - shift, dim=-1)
            (of_centre,) = torch.autograd.grad((sh_basis(degree, unit) * pull).sum(), shift)
        moved = camera[:3, :3].T @ (camera[:3, 3] * torch.tensor([1.0, 1.0, 0.0]))
        return float(2 * of_centre @ moved)

    @torch.no_grad()
    def refined(self) -> tuple[View, ...]:
        """The views with their cameras as they are now."""
        if not any(value.any() for value in self.values.values()):
            return self.views
        views = []
        for index, view in enumerate(self.views):
            w2c, K = self.camera(index, view.height, view.width)
            rigid = w2c[0].double()
            # far from zero products of rotations drift; back to the nearest one
            u, _, vt = torch.linalg.svd(rigid[:3, :3])
            c2w = torch.eye(4, dtype=torch.float64)
            c2w[:3, :3] = (u @ vt).T
            c2w[:3, 3] = -(u @ vt).T @ rigid[:3, 3]
            views.append(replace(view, c2w=c2w.to(view.c2w), K=K[0]) if self.free[index] else replace(view, K=K[0]))
        return tuple(views)

    def summary(self) -> dict[str, float]:
        """How far the cameras went: degrees, and the focal length in percent."""
        twists = (self.whitening @ self.values["twists"].detach()[..., None])[..., 0]
        angles = torch.rad2deg(twists[:, :3].norm(dim=1))
        scales = (self.values["focals"].detach() * self.focal_unit).exp()
        change = scales.flatten()[(scales - 1).abs().argmax()] - 1
        return {
            "rotation_mean_deg": float(angles.mean()),
            "rotation_max_deg": float(angles.max()),
            "focal_percent": 100 * float(change),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on to the same result."""
        return {
            "values": {name: value.detach() for name, value in self.values.items()},
            "moments": self.moments,
            "counts": self.counts,
            "left": sorted(self.left),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a saved state of the same views."""
        self.values = {name: value.clone().requires_grad_() for name, value in state["values"].items()}
        self.moments = {name: (mean.clone(), square.clone()) for name, (mean, square) in state["moments"].items()}
        self.counts = {name: list(counts) for name, counts in state["counts"].items()}
        self.left = set(state["left"])


def rate_at(step: int, config: OptimizeConfig) -> float:
    """Learning rate of the cameras in radians of view: 0 at first, then falling by equal factors."""
    if step < config.cameras_from * config.steps:
        return 0.0
    return math.radians(exponential(config.cameras_lr_deg, config.cameras_lr_final_deg, step, config.steps))


def with_refined(views: Sequence[View], before: Sequence[View], after: Sequence[View]) -> tuple[View, ...]:
    """Views of a scene whose cameras were refined.

    Those that took part take their refined cameras. The others stay where they are, and take the focal length that was
    found for their camera: of views that had the same size and K.

    Args:
        views: All views.
        before: Those that took part, as they were.
        after: The same, refined.
    """
    refined = {view.name: view for view in after}
    focals = {_camera(old): new.K for old, new in zip(before, after, strict=True)}
    return tuple(
        replace(view, K=refined[view.name].K, c2w=refined[view.name].c2w)
        if view.name in refined
        else replace(view, K=focals.get(_camera(view), view.K))
        for view in views
    )


def _camera(view: View) -> tuple[float, ...]:
    return (view.height, view.width, *view.K.flatten().tolist())


def _same_camera(views: Sequence[View]) -> list[tuple[float, ...]]:
    """The cameras that took the views, each once."""
    return list(dict.fromkeys(_camera(view) for view in views))


def _seen(points: Tensor, view: View) -> Tensor:
    """At most so many points inside the picture, in camera axes. (P, 3) -> (M, 3) float64"""
    w2c, K = view.cameras.w2c[0].double(), view.K.double()
    points = points.double()
    inside = points @ w2c[:3, :3].T + w2c[:3, 3]
    inside = inside[torch.isfinite(inside).all(1) & (inside[:, 2] > 1e-9)]
    pixels = inside[:, :2] / inside[:, 2:] * torch.stack([K[0, 0], K[1, 1]]) + K[:2, 2]
    size = torch.tensor([view.width, view.height])
    inside = inside[((pixels > 0) & (pixels < size)).all(1)]
    return inside[:: max(1, -(-len(inside) // _POINTS))]


def _whitening(points: Tensor, distance: float) -> Tensor:
    """Inverse root of J^T J, J the slope of the points' place in the picture by the twist (CamP, eq. 7 to 9). (6, 6)

    Args:
        points: (M, 3) in camera axes.
        distance: Typical depth, world units; makes translations as large as rotations before the damping.
    """
    x, y, z = points.unbind(1)
    o, u, v = torch.zeros_like(x), x / z, y / z
    # of u: slopes by the rotation about x, y, z and by the translation along them
    of_u = torch.stack([-u * v, 1 + u * u, -v, distance / z, o, -u * distance / z], 1)
    of_v = torch.stack([-1 - v * v, u * v, u, o, distance / z, -v * distance / z], 1)
    information = (of_u.T @ of_u + of_v.T @ of_v) / len(points)
    information = information + torch.diag(_DAMPING * information.diagonal() + 1e-8)
    values, vectors = torch.linalg.eigh(information)
    root = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    return torch.diag(torch.tensor([1.0, 1.0, 1.0, distance, distance, distance], dtype=torch.float64)) @ root


def _without_common_motion(w2c: Tensor, whitening: Sequence[Tensor], free: Sequence[bool]) -> Tensor:
    """Projects all whitened twists onto those that are no motion of the whole rig. (6 V, 6 V)

    Turning, moving and scaling the world and all cameras together changes no picture. What of it the corrections add up to
    is taken out, in least squares: it would carry the scene away from the cameras of held-out photos.
    """
    w2c = w2c.double()
    centres = -(w2c[:, :3, :3].transpose(1, 2) @ w2c[:, :3, 3:])[..., 0]
    middle = centres.mean(0)
    # twists of the cameras for each of 7 motions about the middle: the adjoint of w2c, and the scale
    motions = torch.zeros(len(w2c), 6, 7, dtype=torch.float64)
    for index, (rotation, centre) in enumerate(zip(w2c[:, :3, :3], centres, strict=True)):
        if not free[index]:
            continue
        arm = centre - middle
        o = torch.zeros(())
        cross = torch.stack(
            [torch.stack([o, -arm[2], arm[1]]), torch.stack([arm[2], o, -arm[0]]), torch.stack([-arm[1], arm[0], o])]
        )
        motions[index, :3, :3] = rotation
        motions[index, 3:, :3] = -rotation @ cross
        motions[index, 3:, 3:6] = rotation
        motions[index, 3:, 6] = -rotation @ arm
        motions[index] = torch.linalg.solve(whitening[index], motions[index])
    flat = motions.reshape(-1, 7)
    flat = flat / flat.norm(dim=0).clamp(min=1e-12)
    return torch.eye(len(flat), dtype=torch.float64) - flat @ torch.linalg.pinv(flat, rtol=1e-6)

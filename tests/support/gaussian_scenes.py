"""Small scenes for the rasterizers, with the awkward Gaussians in them and none near a cut-off."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.kernels import reference

# What rasterize takes a gradient for, in the order of its arguments.
DIFFERENTIABLE = ("means", "quats", "scales", "opacities", "colors", "viewmats", "background")


@dataclass(frozen=True)
class Scene:
    """The arguments of `rasterize`."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    viewmats: Tensor
    Ks: Tensor
    width: int
    height: int
    background: Tensor
    options: dict[str, Any] = field(default_factory=dict)

    def to(self, dtype: torch.dtype) -> Scene:
        tensors = {k: v.to(dtype) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)

    def select(self, keep: Tensor) -> Scene:
        """The Gaussians that `keep`, a mask or indices, names."""
        names = ("means", "quats", "scales", "opacities", "colors")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})

    def draw(self, rasterize: Any) -> reference.Raster:
        return rasterize(
            self.means, self.quats, self.scales, self.opacities, self.colors, self.viewmats, self.Ks,
            self.width, self.height, background=self.background, **self.options,
        )  # fmt: skip


def look_from(eye: Tensor, target: Tensor) -> Tensor:
    """World to camera, (4, 4), OpenCV axes, y down in both."""
    forward = F.normalize(target - eye, dim=0)
    right = F.normalize(torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0], dtype=eye.dtype), forward), dim=0)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    viewmat = torch.eye(4, dtype=eye.dtype)
    viewmat[:3, :3], viewmat[:3, 3] = rotation, -rotation @ eye
    return viewmat


def random_scene(
    seed: int,
    count: int = 40,
    views: int = 2,
    width: int = 37,
    height: int = 29,
    sh_degree: int | None = None,
    antialiased: bool = False,
    hard: bool = True,
) -> Scene:
    """Gaussians in front of a few cameras; float32. `hard` adds one of each awkward kind.

    37 x 29 is no multiple of a tile. The awkward kinds: behind the camera, across the image's edge, far outside of it
    (where the Jacobian is clamped), over the whole image, below a pixel, a needle, a sheet seen from its edge, opacity 0,
    opacity 1, an opaque wall that ends the pixels behind it, and quaternions of lengths other than 1.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    means = torch.cat([uniform(-1.2, 1.2, count, 2), uniform(-1.0, 1.0, count, 1)], dim=1)
    quats = torch.randn(count, 4, generator=generator)
    scales = torch.exp(uniform(math.log(0.03), math.log(0.3), count, 3))
    opacities = uniform(0.05, 0.95, count)
    if hard:
        # rows: mean, scales, opacity
        awkward = torch.tensor(
            [
                [0.1, 0.0, -6.0, 0.2, 0.2, 0.2, 0.8],  # behind
                [0.0, 0.1, -3.5, 0.1, 0.1, 0.1, 0.5],  # close to the camera
                [1.7, 0.0, 0.0, 0.2, 0.3, 0.2, 0.8],  # across the edge
                [0.0, -1.5, 0.2, 0.2, 0.2, 0.1, 0.8],
                [5.0, 0.5, 0.0, 2.5, 2.0, 2.0, 0.9],  # outside of the clamp
                [0.2, 0.3, 1.5, 8.0, 9.0, 7.0, 0.6],  # the whole image
                [0.3, -0.2, 0.1, 1e-4, 1e-4, 1e-4, 0.9],  # below a pixel
                [-0.4, 0.2, -0.2, 1e-5, 2e-3, 1e-5, 0.7],
                [0.0, 0.0, 0.3, 3.0, 2e-3, 2e-3, 0.8],  # needle
                [0.4, 0.4, 0.2, 0.5, 0.5, 1e-4, 0.8],  # sheet
                [0.1, 0.1, 0.0, 0.3, 0.3, 0.3, 0.0],  # transparent
                [-0.2, -0.1, 0.1, 0.2, 0.25, 0.3, 1.0],  # opaque
                [-0.3, 0.4, 0.4, 0.4, 0.4, 0.1, 1.0],
                [-0.3, 0.4, 0.6, 0.4, 0.4, 0.1, 1.0],  # behind opaque ones: the wall
                [-0.3, 0.4, 0.8, 0.4, 0.4, 0.1, 0.9],
                [-0.3, 0.4, 0.9, 0.4, 0.4, 0.1, 0.9],
            ]
        )
        means = torch.cat([means, awkward[:, :3]])
        scales = torch.cat([scales, awkward[:, 3:6]])
        opacities = torch.cat([opacities, awkward[:, 6]])
        quats = torch.cat([quats, torch.randn(len(awkward), 4, generator=generator)])
        order = torch.randperm(len(means), generator=generator)  # no kind sits in one vector of the kernels
        means, scales, opacities, quats = means[order], scales[order], opacities[order], quats[order]
    if sh_degree is None:
        colors = uniform(0.0, 1.0, len(means), 3)
    else:
        # one coefficient more than needed where there is room; some colours go below zero
        size = min((sh_degree + 1) ** 2 + 1, 16)
        colors = 0.5 * torch.randn(len(means), size, 3, generator=generator)
    eyes = torch.tensor([0.0, 0.0, -4.0]) + uniform(-0.7, 0.7, views, 3)
    viewmats = torch.stack([look_from(eye, uniform(-0.2, 0.2, 3)) for eye in eyes])
    K = torch.tensor([[1.1 * width, 0.0, 0.52 * width], [0.0, 1.2 * width, 0.47 * height], [0.0, 0.0, 1.0]])
    options = {"sh_degree": sh_degree, "antialiased": antialiased}
    background = uniform(0.0, 1.0, 3)
    return Scene(
        means, quats, scales, opacities, colors, viewmats, K.repeat(views, 1, 1), width, height, background, options
    )


def without_cutoffs(scene: Scene, margin: float = 2e-4) -> Scene:
    """The scene less the Gaussians that some pixel sees within `margin` (relative) of a cut-off.

    At a cut-off (alpha of 1/255 and 0.999, transmittance of 1e-4 and, for the median, 1/2, a colour of 0, the Jacobian's
    clamp, equal depths) rounding decides, and correct implementations differ. Works in float64.
    """
    keep = torch.arange(len(scene.means))
    while True:
        bad = _near_cutoff(scene.select(keep).to(torch.float64), margin)
        if not bad.any():
            return scene.select(keep)
        keep = keep[~bad]


def _near_cutoff(scene: Scene, margin: float) -> Tensor:
    """(N,) whether a Gaussian is at a cut-off; of transmittance, only the nearest that is so in each view."""

    def near(values: Tensor, cutoff: float | Tensor) -> Tensor:
        return (values / cutoff - 1).abs() < margin

    bad = torch.zeros(len(scene.means), dtype=torch.bool)
    v, u = torch.meshgrid(torch.arange(scene.height), torch.arange(scene.width), indexing="ij")
    pixels = torch.stack([u, v], dim=-1).reshape(-1, 1, 2) + 0.5
    options = {k: v for k, v in scene.options.items() if k != "sh_degree"}
    degree = scene.options.get("sh_degree")
    for viewmat, K in zip(scene.viewmats, scene.Ks, strict=True):
        p = reference.project_gaussians(
            scene.means, scene.quats, scene.scales, scene.opacities, viewmat, K, scene.width, scene.height, **options
        )
        offset = pixels - p.means2d
        sigma = 0.5 * (p.conics[:, 0] * offset[..., 0] ** 2 + p.conics[:, 2] * offset[..., 1] ** 2)
        sigma = sigma + p.conics[:, 1] * offset[..., 0] * offset[..., 1]
        alpha = p.opacities * torch.exp(-sigma)
        bad |= p.visible & (near(alpha, reference.ALPHA_MIN) | near(alpha, reference.ALPHA_MAX)).any(dim=0)

        order = torch.argsort(p.depths, stable=True)
        order = order[p.visible[order]]
        alpha = alpha[:, order].clamp(max=reference.ALPHA_MAX)
        alpha = torch.where(alpha >= reference.ALPHA_MIN, alpha, torch.zeros_like(alpha))
        after = torch.cumprod(1 - alpha, dim=1)
        at_limit = ((alpha > 0) & (near(after, reference.TRANSMITTANCE_MIN) | near(after, 0.5))).any(dim=0)
        bad[order[at_limit][:1]] = True
        depths = p.depths[order]
        bad[order[1:][depths.diff() < 1e-5]] = True

        camera = scene.means @ viewmat[:3, :3].T + viewmat[:3, 3]
        for axis, size in ((0, scene.width), (1, scene.height)):
            focal, centre = K[axis, axis], K[axis, 2]
            ratio = camera[:, axis] / camera[:, 2]
            for bound in (-(centre + 0.15 * size) / focal, (1.15 * size - centre) / focal):
                bad |= p.visible & near(ratio, bound)
        if degree is not None:
            basis = reference.sh_basis(degree, F.normalize(scene.means + viewmat[:3, :3].T @ viewmat[:3, 3], dim=-1))
            color = (basis[:, :, None] * scene.colors[:, : (degree + 1) ** 2]).sum(dim=1) + 0.5
            bad |= p.visible & (color.abs() < margin).any(dim=1)
    return bad


def outputs_and_gradients(rasterize: Any, scene: Scene, seed: int = 0) -> dict[str, Tensor]:
    """What is drawn, and the gradients of a random projection of rgb, alpha and depth, by name, in float64."""
    inputs = {name: getattr(scene, name).clone().requires_grad_() for name in DIFFERENTIABLE}
    raster = replace(scene, **inputs).draw(rasterize)
    generator = torch.Generator().manual_seed(seed)
    loss = torch.zeros((), dtype=scene.means.dtype)
    for output in (raster.rgb, raster.alpha, raster.depth):
        weights = torch.rand(output.shape, generator=generator, dtype=torch.float64) - 0.3
        loss = loss + (output * weights.to(output.dtype)).sum()
    loss.backward()
    result = {name: value.detach().double() for name, value in raster._asdict().items()}
    for name, value in inputs.items():
        assert value.grad is not None, name
        result[f"grad {name}"] = value.grad.double()
    return result

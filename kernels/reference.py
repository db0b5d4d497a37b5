"""Differentiable 3D Gaussian splatting in plain PyTorch: what every faster kernel must agree with.

Written to be read: any dtype, any device, one step of the papers after another.

- 3DGS: Kerbl et al. 2023 (arXiv:2308.04079); EWA: Zwicker et al. 2002.
- gsplat: Ye et al. 2024 (arXiv:2409.06765), whose conventions and argument names are followed.
- Antialiased mode: Yu et al. 2023 (Mip-Splatting, arXiv:2311.16493), eq. 8.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

ALPHA_MIN = 1.0 / 255.0  # fainter contributions are skipped
ALPHA_MAX = 0.999  # keeps the transmittance, and its gradient, above zero
TRANSMITTANCE_MIN = 1e-4  # a pixel is finished before the Gaussian that would take it to here
TILE = 16  # pixels; only groups the work, has no effect on the result
SH_C0 = 0.28209479177387814  # spherical harmonic of degree 0, 1 / (2 sqrt(pi))


class Raster(NamedTuple):
    """What is drawn for V cameras, channels last."""

    rgb: Tensor  # (V, H, W, 3)
    alpha: Tensor  # (V, H, W)
    depth: Tensor  # (V, H, W) expected depth, 0 where nothing was hit
    median_depth: (
        Tensor  # (V, H, W) depth of the Gaussian that takes transmittance to a half or below, else 0; no gradient
    )


class Projection(NamedTuple):
    """N Gaussians as one camera sees them."""

    means2d: Tensor  # (N, 2) pixels
    depths: Tensor  # (N,) world units
    conics: Tensor  # (N, 3) inverse 2D covariance: xx, xy, yy
    opacities: Tensor  # (N,) with the antialiasing compensation in it
    radii: Tensor  # (N, 2) half size in pixels of the box outside of which alpha < ALPHA_MIN
    visible: Tensor  # (N,) bool


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    sh_degree: int | None = None,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    antialiased: bool = False,
    background: Tensor | None = None,
) -> Raster:
    """Draws N Gaussians from V cameras; differentiable in all tensors but `Ks` of `median_depth`.

    Args:
        means: (N, 3) world units.
        quats: (N, 4) wxyz, not necessarily normalized.
        scales: (N, 3) standard deviations, world units.
        opacities: (N,) in [0, 1].
        colors: (N, C, 3) spherical harmonics with `sh_degree` set, else (N, 3) colours.
        viewmats: (V, 4, 4) world to camera, OpenCV axes.
        Ks: (V, 3, 3) pixels; a pixel's centre is at +0.5.
        width, height: Pixels.
        sh_degree: 0 to 3, at most what `colors` holds; higher coefficients are left out.
        near_plane, far_plane: Gaussians whose centre is not between them are not drawn. World units.
        eps2d: Added to the diagonal of the 2D covariance, pixels^2.
        antialiased: Scale opacity by the area that `eps2d` adds.
        background: (3,) behind everything; black when None.

    Returns:
        Colour, alpha, expected and median depth.
    """
    frames = []
    for viewmat, K in zip(viewmats, Ks, strict=True):
        projection = project_gaussians(
            means, quats, scales, opacities, viewmat, K, width, height, near_plane, far_plane, eps2d, antialiased
        )
        if sh_degree is None:
            rgb = colors
        else:
            camera_centre = -viewmat[:3, :3].T @ viewmat[:3, 3]
            rgb = sh_to_rgb(sh_degree, means - camera_centre, colors)
        frames.append(_composite(projection, rgb, width, height, background))
    if not frames:
        empty = means.new_zeros(0, height, width)
        return Raster(means.new_zeros(0, height, width, 3), empty, empty, empty)
    return Raster(*(torch.stack(channel) for channel in zip(*frames, strict=True)))


def rotation_matrices(quats: Tensor) -> Tensor:
    """Rotation matrices of wxyz quaternions, normalized here. (N, 4) -> (N, 3, 3)"""
    w, x, y, z = F.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(-1, 3, 3)


def project_gaussians(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmat: Tensor,
    K: Tensor,
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    antialiased: bool = False,
) -> Projection:
    """Perspective EWA projection of N Gaussians into one camera. Arguments as in `rasterize`, one view.

    3DGS section 4: Sigma = R S S^T R^T; Sigma' = J W Sigma W^T J^T, with J the Jacobian of the perspective
    division at the centre, the centre held within 1.3 fields of view as the published renderers do.
    """
    rotation, translation = viewmat[:3, :3], viewmat[:3, 3]
    camera = means @ rotation.T + translation
    depths = camera[:, 2]
    in_range = (depths > near_plane) & (depths < far_plane)
    z = torch.where(in_range, depths, torch.ones_like(depths))  # keeps what is not drawn finite
    x, y = camera[:, 0], camera[:, 1]
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1)

    # Jacobian, with x/z and y/z clamped to the image widened by 15 % of its size on each side
    margin_x, margin_y = 0.3 * 0.5 * width / fx, 0.3 * 0.5 * height / fy
    tx = z * torch.clamp(x / z, -(cx / fx + margin_x), (width - cx) / fx + margin_x)
    ty = z * torch.clamp(y / z, -(cy / fy + margin_y), (height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * tx / z**2, zero, fy / z, -fy * ty / z**2], dim=-1).reshape(-1, 2, 3)

    half = jacobian @ rotation @ rotation_matrices(quats) * scales[:, None, :]  # J W R S, (N, 2, 3)
    covariance = half @ half.transpose(-1, -2)
    a, b, c = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    determinant_before = a * c - b * b
    a, c = a + eps2d, c + eps2d
    determinant = a * c - b * b
    if antialiased:
        # clamped a little above 0, where the square root has a slope
        opacities = opacities * torch.sqrt(torch.clamp(determinant_before / determinant, min=1e-12))
    conics = torch.stack([c, -b, a], dim=-1) / determinant[:, None]

    # alpha = opacity exp(-r^2 / 2) reaches ALPHA_MIN at r^2 = 2 ln(opacity / ALPHA_MIN)
    reach = torch.sqrt(2 * torch.log(torch.clamp(opacities.detach() / ALPHA_MIN, min=1.0)))
    radii = reach[:, None] * torch.sqrt(torch.stack([a, c], dim=-1).detach())
    size = torch.tensor([width, height], dtype=means.dtype, device=means.device)
    inside = ((means2d.detach() + radii > 0) & (means2d.detach() - radii < size)).all(dim=-1)
    visible = in_range & inside & (opacities.detach() >= ALPHA_MIN)
    return Projection(means2d, depths, conics, opacities, radii, visible)


def sh_to_rgb(degree: int, directions: Tensor, coefficients: Tensor) -> Tensor:
    """Colours of spherical harmonics: max(0, 1/2 + sum_k c_k Y_k(d)), as in 3DGS.

    Args:
        degree: 0 to 3.
        directions: (N, 3) from the camera to the Gaussian, normalized here.
        coefficients: (N, C, 3), C >= (degree + 1)^2.

    Returns:
        (N, 3), not negative.
    """
    count = (degree + 1) ** 2
    basis = sh_basis(degree, F.normalize(directions, dim=-1))
    return torch.clamp((basis[:, :, None] * coefficients[:, :count]).sum(dim=1) + 0.5, min=0.0)


def sh_basis(degree: int, directions: Tensor) -> Tensor:
    """Real spherical harmonics in the order and with the signs of 3DGS.

    Args:
        degree: 0 to 3.
        directions: (N, 3), normalized.

    Returns:
        (N, (degree + 1)^2)
    """
    if not 0 <= degree <= 3:
        raise ValueError(f"sh_degree is {degree}, needed 0 to 3")
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        values += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree >= 2:
        values += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * z * z - x * x - y * y),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if degree >= 3:
        values += [
            -0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * z * z - x * x - y * y),
            0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -0.4570457994644658 * x * (4 * z * z - x * x - y * y),
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(values, dim=-1)


def _composite(projection: Projection, rgb: Tensor, width: int, height: int, background: Tensor | None) -> Raster:
    """Front-to-back alpha compositing of one view (3DGS eq. 3), tile by tile."""
    order = torch.argsort(projection.depths, stable=True)
    order = order[projection.visible[order]]
    low = (projection.means2d - projection.radii)[order].detach()
    high = (projection.means2d + projection.radii)[order].detach()
    rows = []
    for top in range(0, height, TILE):
        bottom = min(top + TILE, height)
        row = []
        for left in range(0, width, TILE):
            right = min(left + TILE, width)
            touches = (low[:, 0] < right) & (high[:, 0] > left) & (low[:, 1] < bottom) & (high[:, 1] > top)
            row.append(_composite_tile(projection, rgb, order[touches], (left, right, top, bottom), background))
        rows.append([torch.cat(parts, dim=1) for parts in zip(*row, strict=True)])
    return Raster(*(torch.cat(parts, dim=0) for parts in zip(*rows, strict=True)))


def _composite_tile(
    projection: Projection, rgb: Tensor, order: Tensor, box: tuple[int, int, int, int], background: Tensor | None
) -> Raster:
    """One tile; `order` is the Gaussians that may touch it, nearest first."""
    left, right, top, bottom = box
    shape = (bottom - top, right - left)
    v, u = torch.meshgrid(torch.arange(top, bottom), torch.arange(left, right), indexing="ij")
    pixels = torch.stack([u, v], dim=-1).reshape(-1, 1, 2).to(rgb) + 0.5

    offset = pixels - projection.means2d[order]  # (P, M, 2)
    conic = projection.conics[order]
    sigma = (
        0.5 * (conic[:, 0] * offset[..., 0] ** 2 + conic[:, 2] * offset[..., 1] ** 2)
        + conic[:, 1] * offset[..., 0] * offset[..., 1]
    )
    alpha = torch.clamp(projection.opacities[order] * torch.exp(-sigma), max=ALPHA_MAX)
    alpha = torch.where((sigma >= 0) & (alpha >= ALPHA_MIN), alpha, torch.zeros_like(alpha))
    # the Gaussian that would take the transmittance to its minimum, and all behind it, are left out
    alive = torch.cumprod(1 - alpha.detach(), dim=1) > TRANSMITTANCE_MIN
    alpha = torch.where(alive, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, dim=1)  # transmittance behind each Gaussian
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    weights = alpha * before

    coverage = weights.sum(dim=1)
    depths = projection.depths[order]
    color = weights @ rgb[order]
    if background is not None:
        color = color + (1 - coverage)[:, None] * background
    depth = (weights * depths).sum(dim=1) / torch.clamp(coverage, min=1e-10)
    crosses = (before > 0.5) & (after <= 0.5)
    median = (crosses * depths).sum(dim=1).detach()
    return Raster(color.reshape(*shape, 3), coverage.reshape(shape), depth.reshape(shape), median.reshape(shape))

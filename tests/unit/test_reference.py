"""The reference rasterizer is held by closed forms, symmetry and finite differences."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support.gaussian_scenes import DIFFERENTIABLE, Scene, random_scene, without_cutoffs

from sparse3d.kernels import reference


def tiny_scene(**kind: object) -> Scene:
    """Float64, no Gaussian near a cut-off; the margin is far wider than the steps of the finite differences."""
    scene = random_scene(count=6, views=2, width=6, height=5, hard=False, **kind)
    scene = without_cutoffs(scene, margin=1e-3).to(torch.float64)
    assert len(scene.means) >= 4
    return scene


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("sh_degree", [None, 0, 1, 2, 3])
def test_gradients_match_finite_differences(sh_degree, antialiased):
    scene = tiny_scene(seed=3, sh_degree=sh_degree, antialiased=antialiased)

    def draw(*tensors):
        raster = replace(scene, **dict(zip(DIFFERENTIABLE, tensors, strict=True))).draw(reference.rasterize)
        return raster.rgb, raster.alpha, raster.depth

    inputs = [getattr(scene, name).clone().requires_grad_() for name in DIFFERENTIABLE]
    assert torch.autograd.gradcheck(draw, inputs, eps=1e-6, atol=1e-5, fast_mode=True)


def test_viewmat_gradient_is_the_slope_of_moving_the_camera():
    """Central differences along random rigid motions, each with its own rotation and translation."""
    scene = tiny_scene(seed=5, sh_degree=2)
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(2, 5, 6, 3, generator=generator, dtype=torch.float64)
    viewmats = scene.viewmats.clone().requires_grad_()

    def loss(matrices):
        return (replace(scene, viewmats=matrices).draw(reference.rasterize).rgb * weights).sum()

    (gradient,) = torch.autograd.grad(loss(viewmats), viewmats)
    for _ in range(3):
        twist = torch.zeros(2, 4, 4, dtype=torch.float64)
        w = torch.randn(2, 3, generator=generator, dtype=torch.float64)
        twist[:, 0, 1], twist[:, 0, 2], twist[:, 1, 2] = -w[:, 2], w[:, 1], -w[:, 0]
        twist = twist - twist.transpose(1, 2)
        twist[:, :3, 3] = torch.randn(2, 3, generator=generator, dtype=torch.float64)
        step = 1e-6
        ahead = torch.linalg.matrix_exp(step * twist) @ scene.viewmats
        back = torch.linalg.matrix_exp(-step * twist) @ scene.viewmats
        slope = (loss(ahead) - loss(back)) / (2 * step)
        # rounding of a loss near 30 over a step of 1e-6: about 1e-8
        torch.testing.assert_close((gradient * (twist @ scene.viewmats)).sum(), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("antialiased", [False, True])
def test_one_gaussian_on_the_axis(antialiased):
    """An isotropic Gaussian straight ahead: alpha = o exp(-r^2 / 2 v), v = (f s / z)^2 + eps2d, and o less by v's growth."""
    focal, depth, scale, opacity, eps2d = 20.0, 4.0, 0.6, 0.8, 0.3
    size = 17  # the principal point is the centre of the middle pixel
    color, background = torch.tensor([0.9, 0.2, 0.4]).double(), torch.tensor([0.1, 0.3, 0.5]).double()
    raster = reference.rasterize(
        torch.tensor([[0.0, 0.0, depth]]).double(),
        torch.tensor([[0.3, -0.2, 0.5, 0.7]]).double(),
        torch.full((1, 3), scale).double(),
        torch.tensor([opacity]).double(),
        color[None],
        torch.eye(4).double()[None],
        torch.tensor([[[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]]).double(),
        size,
        size,
        eps2d=eps2d,
        antialiased=antialiased,
        background=background,
    )
    before = (focal * scale / depth) ** 2
    variance = before + eps2d
    if antialiased:
        opacity *= before / variance  # sqrt of the ratio of determinants, both squares here
    steps = torch.arange(size).double() - size // 2
    alpha = opacity * torch.exp(-(steps[:, None] ** 2 + steps**2) / (2 * variance))
    alpha = torch.where(alpha < 1 / 255, 0.0, alpha)
    # 1e-7: the scene's constants are rounded to float32 on their way
    torch.testing.assert_close(raster.alpha[0], alpha, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(
        raster.rgb[0], alpha[..., None] * color + (1 - alpha[..., None]) * background, rtol=1e-7, atol=1e-7
    )
    torch.testing.assert_close(raster.depth[0], depth * (alpha > 0).double())
    torch.testing.assert_close(raster.median_depth[0], depth * (alpha >= 0.5).double())


def test_two_layers_composite_front_to_back():
    """Two wide Gaussians one behind the other, given in the wrong order: C = a1 c1 + (1 - a1) a2 c2."""
    means = torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 2.0]]).double()
    colors = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]).double()
    raster = reference.rasterize(
        means,
        torch.tensor([[1.0, 0, 0, 0]] * 2).double(),
        torch.full((2, 3), 0.5).double(),
        torch.tensor([0.75, 0.25]).double(),
        colors,
        torch.eye(4).double()[None],
        torch.tensor([[[10.0, 0, 0.5], [0, 10.0, 0.5], [0, 0, 1]]]).double(),
        1,
        1,
    )
    # the pixel's centre is on the axis, so alpha is the opacity
    torch.testing.assert_close(raster.rgb[0, 0, 0], torch.tensor([0.25, 0.75 * 0.75, 0.0]).double())
    coverage = 0.25 + 0.75 * 0.75
    assert raster.alpha.item() == pytest.approx(coverage)
    assert raster.depth.item() == pytest.approx((0.25 * 2 + 0.75 * 0.75 * 5) / coverage)
    assert raster.median_depth.item() == 5.0  # 0.75 left behind the first, 0.1875 behind the second


@pytest.mark.parametrize("sh_degree", [None, 3])
def test_moving_world_and_cameras_together_changes_nothing(sh_degree):
    """Degree 0 of the harmonics has no direction; for degree 3 the world may only be shifted."""
    scene = without_cutoffs(random_scene(seed=2, sh_degree=sh_degree)).to(torch.float64)
    u, _, vh = torch.linalg.svd(scene.viewmats[:, :3, :3])
    scene.viewmats[:, :3, :3] = u @ vh  # orthogonal to float64 again
    generator = torch.Generator().manual_seed(1)
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, 3] = torch.randn(3, generator=generator, dtype=torch.float64)
    turn = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    if sh_degree is None:
        turn = F.normalize(torch.randn(4, generator=generator, dtype=torch.float64), dim=0)
        motion[:3, :3] = reference.rotation_matrices(turn[None])[0]
    moved = replace(
        scene,
        means=scene.means @ motion[:3, :3].T + motion[:3, 3],
        quats=hamilton(turn, scene.quats),
        viewmats=scene.viewmats @ torch.linalg.inv(motion),
    )
    for here, there in zip(scene.draw(reference.rasterize), moved.draw(reference.rasterize), strict=True):
        torch.testing.assert_close(there, here, rtol=1e-9, atol=1e-9)  # float64 rounding, amplified by the needle


def hamilton(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """The quaternion product p q: turning by q, then by p."""
    w = p[0] * q[:, 0] - (p[1:] * q[:, 1:]).sum(dim=1)
    xyz = p[0] * q[:, 1:] + q[:, :1] * p[1:] + torch.linalg.cross(p[1:].expand_as(q[:, 1:]), q[:, 1:])
    return torch.cat([w[:, None], xyz], dim=1)


def test_harmonics_are_orthonormal():
    """Integral of Y_j Y_k over the sphere is 1 for j = k, else 0: Gauss-Legendre in z, even steps around, exact here."""
    # nodes and weights of order 8 from the eigenvalues of the Jacobi matrix (Golub-Welsch)
    k = torch.arange(1, 8, dtype=torch.float64)
    off = k / torch.sqrt(4 * k * k - 1)
    z, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    weights = 2 * vectors[0] ** 2
    angles = torch.arange(16, dtype=torch.float64) * (2 * math.pi / 16)
    around = torch.sqrt(1 - z * z)[:, None]
    directions = torch.stack(
        [around * torch.cos(angles), around * torch.sin(angles), z[:, None].expand(-1, 16)], dim=-1
    ).reshape(-1, 3)
    basis = reference.sh_basis(3, directions)
    area = (weights[:, None] * (2 * math.pi / 16)).expand(-1, 16).reshape(-1, 1)
    torch.testing.assert_close(basis.T @ (basis * area), torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-6)


def test_nothing_to_draw_shows_the_background():
    scene = random_scene(seed=0, count=3, hard=False).select(torch.zeros(3, dtype=torch.bool))
    raster = scene.draw(reference.rasterize)
    torch.testing.assert_close(raster.rgb, scene.background.expand(2, 29, 37, 3))
    assert all((output == 0).all() for output in raster[1:])

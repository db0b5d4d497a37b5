"""kernels/reference.py against gsplat: its PyTorch maths on any machine, its CUDA kernels where there is a GPU.

gsplat is an independent implementation of the same papers. Its PyTorch path calls a CUDA op to list the (pixel, Gaussian)
pairs, and nerfacc to sum them; benchmarks/harness/gsplat_torch.py has short stand-ins for these two, everything else is gsplat's.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch
from harness.gsplat_torch import list_pairs, stand_ins
from support.gaussian_scenes import DIFFERENTIABLE, Scene, outputs_and_gradients, random_scene, without_cutoffs

from sparse3d.kernels import reference

gsplat = pytest.importorskip("gsplat", reason="gsplat is not installed: pip install gsplat")
from gsplat.cuda import _torch_impl as theirs


def scene_for_gsplat(seed: int, **kind: object) -> Scene:
    """gsplat's alpha is 0 beyond 3.33 standard deviations, ours below 1/255, which opacities up to 0.99 reach before it."""
    scene = without_cutoffs(random_scene(seed, **kind)).to(torch.float64)
    return replace(scene, opacities=scene.opacities.clamp(max=0.99))


@pytest.mark.parametrize("antialiased", [False, True])
def test_projection(antialiased):
    scene = scene_for_gsplat(0)
    covars, _ = theirs._quat_scale_to_covar_preci(scene.quats, scene.scales, True, False)
    radii, means2d, depths, conics, compensations = theirs._fully_fused_projection(
        scene.means, covars, scene.viewmats, scene.Ks, scene.width, scene.height, calc_compensations=antialiased
    )
    for v in range(2):
        ours = reference.project_gaussians(
            scene.means, scene.quats, scene.scales, scene.opacities, scene.viewmats[v], scene.Ks[v],
            scene.width, scene.height, antialiased=antialiased,
        )  # fmt: skip
        seen = ours.visible
        assert seen.sum() > 20
        assert (radii[v, seen] > 0).all()  # gsplat drops nothing that we draw
        # both in float64; the needle loses some digits in the determinant, in both
        torch.testing.assert_close(ours.means2d[seen], means2d[v, seen], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(ours.depths[seen], depths[v, seen], rtol=1e-12, atol=0)
        torch.testing.assert_close(ours.conics[seen], conics[v, seen], rtol=1e-7, atol=1e-9)
        if antialiased:
            opacities = scene.opacities * compensations[v]
            torch.testing.assert_close(
                ours.opacities[seen], opacities[seen], rtol=1e-6, atol=2e-6
            )  # our clamp at 1e-12


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics(degree):
    generator = torch.Generator().manual_seed(degree)
    directions = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    coefficients = torch.randn(50, 16, 3, generator=generator, dtype=torch.float64)
    want = torch.clamp(theirs._spherical_harmonics(degree, directions, coefficients) + 0.5, min=0.0)
    # gsplat's constants are written with fewer digits
    torch.testing.assert_close(reference.sh_to_rgb(degree, directions, coefficients), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_compositing_and_its_gradients(seed):
    """gsplat composites what the reference projected, with colour and depth as four channels."""
    scene = scene_for_gsplat(seed, views=1)
    results = []
    for ours in (True, False):
        inputs = {name: getattr(scene, name).clone().requires_grad_() for name in DIFFERENTIABLE}
        leaf = replace(scene, **inputs)
        if ours:
            raster = leaf.draw(reference.rasterize)
            rgb, alpha, depth = raster.rgb[0], raster.alpha[0], raster.depth[0]
        else:
            rgb, alpha, depth = _gsplat_composite(leaf)
        weights = torch.rand(29, 37, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.3
        loss = (torch.cat([rgb, alpha[..., None], depth[..., None]], dim=-1) * weights).sum()
        gradients = torch.autograd.grad(loss, list(inputs.values()))
        results.append([rgb, alpha, depth, *gradients])
    for name, got, want in zip(("rgb", "alpha", "depth", *DIFFERENTIABLE), *results, strict=True):
        # gsplat starts its sums in float32 zeros and takes logarithms of the transmittance
        atol = 1e-6 * want.abs().max().item()
        torch.testing.assert_close(got, want, rtol=0, atol=atol, msg=lambda m, name=name: f"{name}: {m}")


def _gsplat_composite(scene: Scene) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One view by gsplat's projection and compositing: one tile that holds the whole image, its list in depth order."""
    covars, _ = theirs._quat_scale_to_covar_preci(scene.quats, scene.scales, True, False)
    radii, means2d, depths, conics, _ = theirs._fully_fused_projection(
        scene.means, covars, scene.viewmats, scene.Ks, scene.width, scene.height
    )
    order = torch.argsort(depths[0])
    order = order[(depths[0, order] > 0.01) & (scene.opacities[order] > 1 / 255)]
    channels = torch.cat([scene.colors, depths[0, :, None]], dim=1)[None]
    backgrounds = torch.cat([scene.background, scene.background.new_zeros(1)])[None]
    with stand_ins(partial(list_pairs, radii[0])):
        image, alpha = theirs._rasterize_to_pixels(
            means2d, conics, channels, scene.opacities[None], scene.width, scene.height, 64,
            torch.zeros(1, 1, 1, dtype=torch.long), order, backgrounds,
        )  # fmt: skip
    alpha = alpha[0, ..., 0]
    return image[0, ..., :3], alpha, image[0, ..., 3] / alpha.clamp(min=1e-10)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("sh_degree", [None, 3])
def test_cuda_adapter_matches_reference(sh_degree, antialiased):
    from sparse3d.kernels import cuda

    scene = scene_for_gsplat(0, sh_degree=sh_degree, antialiased=antialiased, hard=False)

    def on_gpu(*args, background, **options):
        args = [a.cuda() if isinstance(a, torch.Tensor) else a for a in args]
        raster = cuda.rasterize(*args, background=background.cuda(), **options)
        assert raster.median_depth.isnan().all()
        return reference.Raster(*(output.cpu() for output in raster))

    got = outputs_and_gradients(on_gpu, scene.to(torch.float32))
    want = outputs_and_gradients(reference.rasterize, scene)
    for name, value in want.items():
        if name == "median_depth":
            continue
        # float32 with fast exponentials; relative to the largest entry
        atol = 1e-3 * value.abs().max().item()
        torch.testing.assert_close(got[name], value, rtol=0, atol=atol, msg=lambda m, name=name: f"{name}: {m}")


def test_cuda_adapter_names_tensors_of_the_wrong_type():
    from sparse3d.kernels import cuda

    with pytest.raises(ValueError, match="means is torch.float64; gsplat takes float32"):
        random_scene(0).to(torch.float64).draw(cuda.rasterize)

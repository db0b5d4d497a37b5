"""The C++ kernels against kernels/reference.py. Without the compiled module these fail, unless the install left it out on
purpose (SPARSE3D_PURE)."""

import os
from dataclasses import replace

import pytest
import torch
from support.agreement import TOLERANCE, TOLERANCE_ELSE, assert_agree
from support.gaussian_scenes import DIFFERENTIABLE, outputs_and_gradients, random_scene, without_cutoffs

if os.environ.get("SPARSE3D_PURE"):
    pytest.skip("SPARSE3D_PURE is set: this install has no compiled kernels", allow_module_level=True)

from sparse3d.kernels import cpu, reference


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("sh_degree", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_outputs_and_gradients_match_reference(seed, sh_degree, antialiased, isa):
    scene = without_cutoffs(random_scene(seed, sh_degree=sh_degree, antialiased=antialiased))
    assert len(scene.means) >= 40  # of 56: most awkward ones are in it
    assert_agree(scene)


@pytest.mark.parametrize("antialiased", [False, True])
def test_ordinary_gaussians_one_by_one(antialiased, isa):
    """Without the extremes, so that each gradient can be held to its own Gaussian's size and not the largest one's."""
    scene = without_cutoffs(random_scene(7, sh_degree=2, antialiased=antialiased, hard=False))
    got = outputs_and_gradients(cpu.rasterize, scene)
    want = outputs_and_gradients(reference.rasterize, scene.to(torch.float64))
    for name in DIFFERENTIABLE[:5]:
        difference = (got[f"grad {name}"] - want[f"grad {name}"]).flatten(1 if name != "opacities" else 0)
        size = want[f"grad {name}"].flatten(1 if name != "opacities" else 0)
        if name == "opacities":
            difference, size = difference[:, None], size[:, None]
        # 2e-4 of its own length, or 1e-6 of the largest where sums cancel
        allowed = 2e-4 * size.norm(dim=1) + 1e-6 * size.norm(dim=1).max()
        assert (difference.norm(dim=1) <= allowed).all(), name


@pytest.mark.parametrize("kept", ["rgb", "alpha", "depth"])
def test_loss_of_one_output_alone(kept, isa):
    scene = without_cutoffs(random_scene(5))
    grads = {}
    for rasterize, dtype in ((cpu.rasterize, torch.float32), (reference.rasterize, torch.float64)):
        inputs = {name: getattr(scene.to(dtype), name).clone().requires_grad_() for name in DIFFERENTIABLE}
        output = getattr(replace(scene.to(dtype), **inputs).draw(rasterize), kept)
        weights = torch.rand(output.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        grads[dtype] = torch.autograd.grad(
            (output * weights.to(dtype)).sum(), list(inputs.values()), allow_unused=True, materialize_grads=True
        )
    for name, got, want in zip(DIFFERENTIABLE, grads[torch.float32], grads[torch.float64], strict=True):
        atol = TOLERANCE.get(f"grad {name}", TOLERANCE_ELSE) * max(want.abs().max().item(), 1e-3)
        torch.testing.assert_close(got.double(), want, rtol=0, atol=atol, msg=lambda m, name=name: f"{name}: {m}")


def test_many_gaussians(isa):
    """Lists that fill several batches and tiles that end early. Cut-offs are met, so a few pixels may differ by one step
    of a faint Gaussian, whose colour is below 1 here and whose alpha is 1/255."""
    scene = random_scene(11, count=2500, views=1, width=120, height=90)
    got, want = scene.draw(cpu.rasterize), scene.to(torch.float64).draw(reference.rasterize)
    for name in ("rgb", "alpha"):
        difference = (getattr(got, name).double() - getattr(want, name)).abs()
        assert difference.max() < 1.5 / 255, name
        assert (difference > 1e-4).double().mean() < 2e-3, name
    # the gradient of all that, by its direction and length
    got_all = outputs_and_gradients(cpu.rasterize, scene)
    want_all = outputs_and_gradients(reference.rasterize, scene)
    for name in ("means", "scales", "opacities", "colors", "background"):
        a, b = got_all[f"grad {name}"].flatten(), want_all[f"grad {name}"].flatten()
        assert torch.dot(a, b) / (a.norm() * b.norm()) > 0.9999, name


@pytest.mark.parametrize("count", [1, 17, 40])
def test_coefficients_beyond_the_degree_have_no_gradient(count, isa):
    """Of degree 4, of which the kernel knows nothing: memory that it must clear all the same."""
    scene = random_scene(3, count=count, sh_degree=3, hard=False)
    more = torch.cat([scene.colors, torch.randn(count, 9, 3)], dim=1)
    for degree in (0, 3):
        scene.options["sh_degree"] = degree
        used = (degree + 1) ** 2
        want = outputs_and_gradients(cpu.rasterize, replace(scene, colors=scene.colors[:, :used]))["grad colors"]
        for _ in range(3):  # in memory that holds something else by then
            got = outputs_and_gradients(cpu.rasterize, replace(scene, colors=more))["grad colors"]
            assert torch.equal(got[:, :used], want) and (got[:, used:] == 0).all()
            torch.full_like(more, float("nan"))


def test_same_image_with_and_without_gradients():
    scene = random_scene(3, sh_degree=1)
    with_gradients = outputs_and_gradients(cpu.rasterize, scene)
    with torch.no_grad():
        without = scene.draw(cpu.rasterize)
    for name, value in without._asdict().items():
        assert torch.equal(value.double(), with_gradients[name]), name
        assert not value.requires_grad


def test_median_depth_passes_no_gradient():
    scene = random_scene(3)
    raster = replace(scene, means=scene.means.requires_grad_()).draw(cpu.rasterize)
    assert raster.depth.requires_grad and not raster.median_depth.requires_grad


def test_strided_inputs_and_gradients():
    """Views and expanded tensors give what their copies give."""
    scene = random_scene(3)
    strided = replace(
        scene,
        means=scene.means.T.contiguous().T,
        viewmats=scene.viewmats.transpose(1, 2).contiguous().transpose(1, 2),
        Ks=scene.Ks[:1].expand(2, 3, 3),
    )
    assert not strided.means.is_contiguous() and not strided.Ks.is_contiguous()
    assert torch.equal(strided.draw(cpu.rasterize).rgb, scene.draw(cpu.rasterize).rgb)
    opacities = scene.opacities.clone().requires_grad_()
    replace(scene, opacities=opacities).draw(cpu.rasterize).alpha.sum().backward()  # an expanded gradient
    assert opacities.grad.abs().sum() > 0


def test_unknown_instruction_set_is_named(monkeypatch):
    monkeypatch.setenv("SPARSE3D_ISA", "mmx")
    with pytest.raises(ValueError, match="SPARSE3D_ISA is 'mmx', but this CPU runs: scalar"):
        cpu.instruction_set()

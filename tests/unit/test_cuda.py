"""kernels/cuda.py on a machine without a GPU, with a stand-in for gsplat; and, where there is one, as users reach it."""

from __future__ import annotations

import inspect
import sys
import types
from dataclasses import replace

import pytest
import torch
from support.gaussian_scenes import Scene, outputs_and_gradients, random_scene, without_cutoffs
from support.synthetic import textured_plane
from torch import Tensor

from sparse3d.config import OptimizeConfig
from sparse3d.geometry import invert_rigid
from sparse3d.kernels import cuda, reference
from sparse3d.optimize.loop import optimize
from sparse3d.progress import StageReporter
from sparse3d.render import Rasterizer, rasterizer, render
from sparse3d.types import Cameras, Gaussians


def fake_rasterization(
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
    near_plane: float,
    far_plane: float,
    eps2d: float,
    sh_degree: int | None,
    packed: bool,
    backgrounds: Tensor | None,
    render_mode: str,
    rasterize_mode: str,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """gsplat.rasterization as its documentation describes it, drawn by the reference."""
    assert render_mode == "RGB+ED" and rasterize_mode in ("classic", "antialiased")
    assert backgrounds is None or backgrounds.shape == (len(viewmats), 3)
    raster = reference.rasterize(
        means, quats, scales, opacities, colors, viewmats, Ks, width, height,
        sh_degree=sh_degree, near_plane=near_plane, far_plane=far_plane, eps2d=eps2d,
        antialiased=rasterize_mode == "antialiased", background=None if backgrounds is None else backgrounds[0],
    )  # fmt: skip
    return torch.cat([raster.rgb, raster.depth[..., None]], dim=-1), raster.alpha[..., None], {}


def install(monkeypatch: pytest.MonkeyPatch, rasterization: object, device: str) -> None:
    """Makes `rasterization` what the adapter finds as gsplat's, and `device` what it takes for the GPU."""
    module = types.ModuleType("gsplat")
    module.rasterization = rasterization
    monkeypatch.setitem(sys.modules, "gsplat", module)
    monkeypatch.setattr(cuda, "_device", lambda: torch.device(device))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def scene_and_cameras(antialiased: bool = False) -> tuple[Gaussians, Cameras, Scene]:
    """Gaussians that gsplat's cut at 3.33 standard deviations does not touch, as our types and as arguments."""
    scene = without_cutoffs(random_scene(0, sh_degree=1, antialiased=antialiased, hard=False)).to(torch.float32)
    scene = replace(scene, opacities=scene.opacities.clamp(max=0.99), colors=scene.colors[:, :4])
    gaussians = Gaussians(scene.means, scene.quats, scene.scales.log(), torch.logit(scene.opacities), scene.colors)
    return gaussians, Cameras(invert_rigid(scene.viewmats), scene.Ks, scene.height, scene.width), scene


def fitted(draw: Rasterizer, steps: int, device: torch.device | None = None) -> Gaussians:
    """A few steps from grey blobs on the textured plane; all tensors come from the CPU and go back to it."""
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(60, 3, generator=generator) * torch.tensor([3.0, 2.2, 0.0]) - torch.tensor([1.5, 1.1, 0.0])
    means[:, 2] = 4.0 + 0.4 * means[:, 0]
    start = Gaussians(
        means,
        torch.randn(60, 4, generator=generator),
        torch.full((60, 3), -1.9),
        torch.zeros(60),
        torch.zeros(60, 1, 3),
    )
    config = OptimizeConfig(steps=steps, sh_interval=2)
    views = textured_plane(24, 32)[0].views
    options = {"generator": generator, "progress": StageReporter("optimize"), "device": device}
    return optimize(start, views, config, draw, **options).gaussians


@pytest.mark.parametrize("antialiased", [False, True])
def test_arguments_and_results_are_put_in_gsplats_order(antialiased, monkeypatch):
    install(monkeypatch, fake_rasterization, "cpu")
    gaussians, cameras, scene = scene_and_cameras(antialiased)
    look = {"background": scene.background, "antialiased": antialiased}
    got = render(gaussians, cameras, backend="gsplat", **look)
    want = render(gaussians, cameras, backend="reference", **look)
    assert got.image.shape == (2, 3, 29, 37) and want.alpha.max() > 0.5
    for name in ("image", "alpha", "depth"):
        torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=0, atol=0)
    assert got.median_depth.isnan().all()

    options = scene.options | {"near_plane": 3.9, "far_plane": 4.4, "eps2d": 0.7}  # each changes the picture
    got, want = (
        outputs_and_gradients(r, replace(scene, options=options)) for r in (cuda.rasterize, reference.rasterize)
    )
    for name in want.keys() - {"median_depth"}:
        torch.testing.assert_close(got[name], want[name], rtol=1e-6, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_the_stand_in_takes_what_gsplat_takes():
    gsplat = pytest.importorskip("gsplat", reason="gsplat is not installed: pip install gsplat")
    theirs = list(inspect.signature(gsplat.rasterization).parameters)
    ours = inspect.signature(fake_rasterization).parameters.values()
    positional = [p.name for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert theirs[: len(positional)] == positional
    assert {p.name for p in ours} <= set(theirs)


def test_tensors_go_to_the_device_and_results_come_back(monkeypatch):
    """The device "meta" holds shapes alone and lets no tensor out, so it shows which way each tensor went."""
    went: set[str] = set()

    def rasterization(*args, backgrounds, **options):
        went.update(value.device.type for value in (*args, backgrounds) if isinstance(value, Tensor))
        shape = (2, 29, 37)
        return torch.zeros(*shape, 4), torch.zeros(*shape, 1), {}

    install(monkeypatch, rasterization, "meta")
    scene = random_scene(0)
    raster = scene.draw(cuda.rasterize)
    assert went == {"meta"}
    assert {output.device.type for output in raster} == {"cpu"}
    raster = replace(scene, means=scene.means.to("meta")).draw(cuda.rasterize)
    assert {output.device.type for output in raster} == {"meta"}


def test_optimizing_on_the_cpu_through_the_adapter(monkeypatch):
    install(monkeypatch, fake_rasterization, "cpu")
    got, want = fitted(rasterizer("gsplat"), 5), fitted(rasterizer("reference"), 5)
    torch.testing.assert_close(got.means, want.means)
    torch.testing.assert_close(got.sh, want.sh)
    assert got.sh.abs().max() > 0


@pytest.mark.cuda
@pytest.mark.parametrize("antialiased", [False, True])
def test_rendering_cpu_tensors_on_the_gpu(antialiased):
    gaussians, cameras, scene = scene_and_cameras(antialiased)
    look = {"background": scene.background, "antialiased": antialiased}
    got = render(gaussians, cameras, backend="gsplat", **look)
    want = render(gaussians, cameras, backend="cpu", **look)
    for name in ("image", "alpha", "depth"):
        value = getattr(want, name)
        assert getattr(got, name).device.type == "cpu"
        # float32 with fast exponentials, as tests/parity/test_gsplat_agreement.py
        torch.testing.assert_close(getattr(got, name), value, rtol=0, atol=1e-3 * value.abs().max().item())


@pytest.mark.cuda
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_optimizing_with_gsplat(device):
    """Adam takes the sign of tiny gradients for a full step, so pictures are compared, not Gaussians."""
    cameras = Cameras(torch.eye(4)[None], torch.tensor([[[40.0, 0, 16], [0, 40.0, 12], [0, 0, 1]]]), 24, 32)
    scenes = (fitted(rasterizer("gsplat"), 30, torch.device(device)), fitted(rasterizer("cpu"), 30))
    pictures = [render(scene, cameras, backend="cpu").image for scene in scenes]
    assert (pictures[0] - pictures[1]).abs().mean() < 0.01  # 2.5 of 255

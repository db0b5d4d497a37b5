"""What must hold of the C++ rasterizer whatever it draws, on examples that hypothesis makes up (the same ones in every run)."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.gaussian_scenes import Scene, outputs_and_gradients, random_scene, without_cutoffs
from torch import Tensor

if os.environ.get("SPARSE3D_PURE"):
    pytest.skip("SPARSE3D_PURE is set: this install has no compiled kernels", allow_module_level=True)

from sparse3d.kernels import cpu, reference

few = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],  # `isa` holds for all examples
)
seeds = st.integers(0, 2**31 - 1)
OUTPUTS = ("rgb", "alpha", "depth", "median_depth")
OF_GAUSSIANS = ("grad means", "grad quats", "grad scales", "grad opacities", "grad colors")


@st.composite
def scenes(draw: Any, views: int = 2, **options: Any) -> Scene:
    """Ordinary and awkward Gaussians of 0 to 40, images of up to 70 x 40 pixels."""
    made: dict[str, Any] = {
        "count": draw(st.integers(0, 24)),
        "views": views,
        "width": draw(st.integers(1, 70)),
        "height": draw(st.integers(1, 40)),
        "sh_degree": draw(st.sampled_from([None, 0, 1, 3])),
        "antialiased": draw(st.booleans()),
        "hard": draw(st.booleans()),
    }
    return random_scene(draw(seeds), **{**made, **options})


def draw_all(scene: Scene) -> dict[str, Tensor]:
    with torch.no_grad():
        return scene.draw(cpu.rasterize)._asdict()


@few
@given(scenes(), seeds)
def test_the_order_of_gaussians_does_not_matter(isa, scene, seed):
    """To the last bit: each is projected by itself, and depths, which all differ, decide the rest."""
    order = torch.randperm(len(scene.means), generator=torch.Generator().manual_seed(seed))
    got, want = outputs_and_gradients(cpu.rasterize, scene.select(order)), outputs_and_gradients(cpu.rasterize, scene)
    for name in OUTPUTS:
        assert torch.equal(got[name], want[name]), name
    for name in OF_GAUSSIANS:
        assert torch.equal(got[name], want[name][order]), name


@few
@given(
    scenes(sh_degree=None),
    st.lists(st.floats(-1, 1), min_size=4, max_size=4),
    st.lists(st.floats(-5, 5), min_size=3, max_size=3),
)
def test_moving_world_and_cameras_together(isa, scene, turn, shift):
    quat, offset = torch.tensor(turn, dtype=torch.float64), torch.tensor(shift, dtype=torch.float64)
    assume(quat.norm() > 0.1)
    scene = without_cutoffs(scene, margin=2e-3)
    w, xyz = (quat / quat.norm())[0], (quat / quat.norm())[1:]
    rotation = reference.rotation_matrices(quat[None])[0]
    old = scene.to(torch.float64)
    vector = old.quats[:, 1:]
    quats = torch.cat(  # of both rotations, one after the other
        [
            w * old.quats[:, :1] - vector @ xyz[:, None],
            w * vector + old.quats[:, :1] * xyz + torch.linalg.cross(xyz.expand_as(vector), vector),
        ],
        dim=1,
    )
    back = torch.eye(4, dtype=torch.float64)
    back[:3, :3], back[:3, 3] = rotation.T, -rotation.T @ offset
    moved = replace(old, means=old.means @ rotation.T + offset, quats=quats, viewmats=old.viewmats @ back).to(
        torch.float32
    )
    got, want = outputs_and_gradients(cpu.rasterize, moved), outputs_and_gradients(cpu.rasterize, scene)
    got["grad means"] = got["grad means"] @ rotation
    for name in (*OUTPUTS, "grad means", "grad scales", "grad opacities", "grad colors", "grad background"):
        # centres are rounded elsewhere, by up to 1e-5 of a pixel; 5x what is seen
        size = max(want[name].abs().max().item(), 0.01) if want[name].numel() else 0.0
        torch.testing.assert_close(
            got[name], want[name], rtol=0, atol=5e-4 * size, msg=lambda m, name=name: f"{name}: {m}"
        )


@few
@given(scenes(), st.sampled_from([2.0**-6, 0.5, 4.0, 2.0**10]))
def test_larger_worlds_look_alike(isa, scene, factor):
    """To the last bit when they are larger by a power of two: only depths are too."""
    viewmats = scene.viewmats.clone()
    viewmats[:, :3, 3] *= factor
    options = {**scene.options, "near_plane": 0.015625, "far_plane": 1e6}
    scene.options.update(options)
    larger = replace(
        scene,
        means=scene.means * factor,
        scales=scene.scales * factor,
        viewmats=viewmats,
        options={**options, "near_plane": 0.015625 * factor, "far_plane": 1e6 * factor},
    )
    got, want = draw_all(larger), draw_all(scene)
    assert torch.equal(got["rgb"], want["rgb"]) and torch.equal(got["alpha"], want["alpha"])
    assert torch.equal(got["median_depth"], want["median_depth"] * factor)
    torch.testing.assert_close(got["depth"], want["depth"] * factor, rtol=1e-6, atol=0)


@few
@given(scenes(sh_degree=None), seeds, st.floats(-3, 3), st.floats(-3, 3))
def test_linear_in_the_colours(isa, scene, seed, a, b):
    scene = replace(scene, background=torch.zeros(3))
    other = torch.rand(scene.colors.shape, generator=torch.Generator().manual_seed(seed))
    one, two = draw_all(scene), draw_all(replace(scene, colors=other))
    both = draw_all(replace(scene, colors=a * scene.colors + b * other))
    torch.testing.assert_close(both["rgb"], a * one["rgb"] + b * two["rgb"], rtol=0, atol=1e-5)
    assert torch.equal(both["alpha"], one["alpha"])


@few
@given(seeds, st.data())
def test_a_crop_is_a_part_of_the_whole(isa, seed, data):
    """Drawn by itself, with the principal point moved. Gaussians are small, so that the Jacobian's clamp, which depends on the
    image, holds none that the crop shows."""
    scene = random_scene(seed, count=60, views=1, width=90, height=70, hard=False)
    scene = without_cutoffs(replace(scene, scales=0.01 * (1 + scene.scales)))
    width, height = data.draw(st.integers(40, 90)), data.draw(st.integers(40, 70))
    left, top = data.draw(st.integers(0, 90 - width)), data.draw(st.integers(0, 70 - height))
    Ks = scene.Ks - torch.tensor([[0.0, 0, left], [0, 0, top], [0, 0, 0]])
    whole, crop = draw_all(scene), draw_all(replace(scene, Ks=Ks, width=width, height=height))
    for name in OUTPUTS:
        part = whole[name][:, top : top + height, left : left + width]
        torch.testing.assert_close(crop[name], part, rtol=1e-4, atol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


@few
@given(scenes(views=3))
def test_views_are_drawn_as_if_alone(isa, scene):
    """And the gradient of a sum over them is the sum of theirs."""
    together = outputs_and_gradients(cpu.rasterize, scene)
    inputs = {
        name: getattr(scene, name).clone().requires_grad_()
        for name in ("means", "quats", "scales", "opacities", "colors")
    }
    generator = torch.Generator().manual_seed(0)  # the weights of outputs_and_gradients
    weights = [
        (torch.rand(together[name].shape, generator=generator, dtype=torch.float64) - 0.3).float()
        for name in ("rgb", "alpha", "depth")
    ]
    for v in range(3):
        alone = replace(scene, viewmats=scene.viewmats[v : v + 1], Ks=scene.Ks[v : v + 1], **inputs).draw(cpu.rasterize)
        for name in OUTPUTS:
            assert torch.equal(getattr(alone, name)[0].double(), together[name][v]), name
        loss = sum(
            (getattr(alone, name)[0] * w[v]).sum() for name, w in zip(("rgb", "alpha", "depth"), weights, strict=True)
        )
        loss.backward()
    for name, value in inputs.items():
        want = together[f"grad {name}"]
        size = want.abs().max().item() if want.numel() else 0.0
        # sums of three in float32, where awkward Gaussians have gradients of both signs
        torch.testing.assert_close(
            value.grad.double(), want, rtol=1e-5, atol=1e-6 * size, msg=lambda m, n=name: f"{n}: {m}"
        )


# Zero, the smallest, small, ordinary, large and the largest numbers; not numbers at all.
SIZES = [0.0, 1e-45, 1e-38, 1e-30, 1e-20, 1e-12, 1e-7, 1e-3, 0.03, 0.3, 1.0, 3.0, 1e3, 1e7, 1e12, 1e20, 1e30, 3.4e38]
BROKEN = [math.inf, math.nan]
awkward = st.builds(lambda size, sign: sign * size, st.sampled_from(SIZES + BROKEN), st.sampled_from([1.0, -1.0]))
ordinary = st.floats(-1.0, 1.0, width=32)
number = st.one_of(ordinary, ordinary, awkward)


@st.composite
def adversarial_scenes(draw: Any) -> Scene:
    """Any floats for the shape, place and opacity of Gaussians before an ordinary camera; colours are finite and below 1e4."""
    count = draw(st.integers(1, 8))

    def rows(size: int, numbers: st.SearchStrategy[float]) -> Tensor:
        row = st.lists(numbers, min_size=size, max_size=size)
        return torch.tensor(draw(st.lists(row, min_size=count, max_size=count)), dtype=torch.float64).float()

    return Scene(
        means=rows(3, number) + torch.tensor([0.0, 0.0, draw(st.sampled_from([0.0, 2.0, 2.0]))]),
        quats=rows(4, number),
        scales=rows(3, st.one_of(st.floats(0.015625, 0.5, width=32), awkward)),
        opacities=rows(1, st.one_of(st.floats(0.0, 1.0, width=32), awkward))[:, 0],
        colors=rows(3, st.sampled_from([-1e4, 0.0, 1e-45, 0.3, 1.0, 1e4])),
        viewmats=torch.eye(4)[None],
        Ks=torch.tensor([[[30.0, 0, 18], [0, 30, 14], [0, 0, 1]]]),
        width=37,
        height=29,
        background=torch.rand(3, generator=torch.Generator().manual_seed(0)),
        options={
            "antialiased": draw(st.booleans()),
            "eps2d": draw(st.sampled_from([0.0, 1e-30, 1e-3, 0.3, 0.3, 1e10])),
        },
    )


@settings(few, max_examples=150)
@given(adversarial_scenes())
def test_numbers_stay_finite(isa, scene):
    for name, value in outputs_and_gradients(cpu.rasterize, scene).items():
        assert value.isfinite().all(), name

"""What the C++ rasterizer makes of empty, broken, extreme and repeated Gaussians and of images of any size: finite numbers
always, and those of kernels/reference.py in float64 where that has some."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import pytest
import torch
from support.agreement import assert_agree
from support.gaussian_scenes import Scene, outputs_and_gradients, random_scene, without_cutoffs

if os.environ.get("SPARSE3D_PURE"):
    pytest.skip("SPARSE3D_PURE is set: this install has no compiled kernels", allow_module_level=True)

from sparse3d.kernels import cpu, reference

NAN, INF = float("nan"), float("inf")


def assert_finite(scene: Scene) -> dict[str, torch.Tensor]:
    got = outputs_and_gradients(cpu.rasterize, scene)
    for name, value in got.items():
        assert value.isfinite().all(), name
    return got


def with_field(scene: Scene, name: str, where: slice | list[int], value: float | list[float]) -> Scene:
    changed = getattr(scene, name).clone()
    changed[where] = torch.tensor(value)
    return replace(scene, **{name: changed})


def plain_view(scene: Scene) -> Scene:
    """From the first camera alone, moved to the origin of the world."""
    return replace(
        scene, means=scene.means + torch.tensor([0.0, 0.0, 4.0]), viewmats=torch.eye(4)[None], Ks=scene.Ks[:1]
    )


@pytest.mark.parametrize("axis", ["gaussians", "views", "width", "height"])
def test_nothing_in_nothing_out(axis, isa):
    scene = random_scene(0, count=5, hard=False)
    if axis == "gaussians":
        scene = scene.select(torch.zeros(5, dtype=torch.bool))
    elif axis == "views":
        scene = replace(scene, viewmats=scene.viewmats[:0], Ks=scene.Ks[:0])
    else:
        scene = replace(scene, **{axis: 0})
    got = assert_finite(scene)
    assert got["rgb"].shape == (*got["alpha"].shape, 3)
    assert got["alpha"].shape == (len(scene.viewmats), scene.height, scene.width)
    for name, value in got.items():
        assert name in ("rgb", "grad background") or (value == 0).all(), name
    if axis == "gaussians":
        torch.testing.assert_close(got["rgb"], scene.background.double().expand_as(got["rgb"]))


# Width and height: one pixel; tiles are 4 and regions 32 pixels on a side.
@pytest.mark.parametrize(
    "size", [(1, 1), (1, 40), (66, 1), (3, 5), (4, 4), (8, 8), (9, 7), (31, 33), (32, 32), (97, 34)]
)
def test_any_image_size(size, isa):
    assert_agree(without_cutoffs(random_scene(4, count=20, views=1, width=size[0], height=size[1])))


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 257])
def test_any_number_of_gaussians(count, isa):
    """Whole vectors, less and more; more than one block of work."""
    scene = random_scene(1, count=count, hard=False)
    assert_agree(scene if count == 1 else without_cutoffs(scene))


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize(
    "field, value",
    [
        ("scales", [0.0, 0.0, 0.0]), ("scales", [0.3, 0.0, 0.0]), ("scales", [0.3, 0.2, 0.0]), ("scales", [1e-30, 0.1, 1e-12]),
        ("scales", [-0.2, 0.1, 0.3]), ("scales", [1.5, 1e-4, 1e-4]), ("quats", [0.0, 0.0, 0.0, 0.0]),
        ("quats", [1e-15, 0.0, 2e-15, 0.0]), ("quats", [0.0, 0.0, -1e3, 0.0]), ("opacities", 0.0), ("opacities", 1.0),
        ("means", [0.0, 0.0, 0.0]), ("means", [0.0, 0.0, 0.01]), ("means", [0.1, 0.1, -3.0]), ("means", [1e6, 0.0, 3.0]),
    ],
)  # fmt: skip
def test_one_awkward_gaussian(field, value, antialiased, isa):
    """Points, lines and discs, mirrored ones, needles, no rotation, (in)visible ones, at the camera's centre, on its near
    plane, behind it and far beside it: among others that are ordinary."""
    scene = plain_view(random_scene(2, count=12, antialiased=antialiased, sh_degree=1, hard=False))
    scene = with_field(scene, "means", [5], [0.1, -0.2, 3.0])
    scene = with_field(scene, field, [5], value)
    kept = without_cutoffs(scene)
    assert (kept.means == scene.means[5]).all(dim=1).any()
    assert_agree(kept)


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize(
    "field, value",
    [
        ("scales", 0.0), ("scales", 1e-30), ("scales", 1e12), ("scales", 1e30), ("scales", INF), ("scales", NAN),
        ("quats", 0.0), ("quats", 1e-30), ("quats", 1e30), ("quats", INF), ("quats", NAN), ("means", 1e9), ("means", 1e30),
        ("means", INF), ("means", -INF), ("means", NAN), ("colors", 1e6), ("opacities", 0.0), ("opacities", 1.0),
        ("opacities", -1.0), ("opacities", 1e30), ("opacities", INF), ("opacities", NAN),
    ],
)  # fmt: skip
def test_no_nan_whatever_comes_in(field, value, antialiased, isa):
    """One broken Gaussian in ten, in each lane of a vector sooner or later; the others are drawn and have gradients."""
    got = assert_finite(
        with_field(random_scene(6, count=40, antialiased=antialiased), field, slice(None, None, 10), value)
    )
    assert got["alpha"].max() > 0.5 and got["grad means"].abs().max() > 0


@pytest.mark.parametrize("field", ["means", "quats", "scales", "opacities"])
def test_a_gaussian_that_is_not_a_number_is_not_drawn(field, isa):
    scene = random_scene(6, count=20, sh_degree=2, hard=False)
    got = outputs_and_gradients(cpu.rasterize, with_field(scene, field, slice(None, None, 4), NAN))
    rest = torch.arange(20) % 4 != 0
    want = outputs_and_gradients(cpu.rasterize, scene.select(rest))
    for name, value in got.items():
        of_gaussians = name.startswith("grad") and name not in ("grad viewmats", "grad background")
        if of_gaussians:
            assert (value[~rest] == 0).all(), name
        torch.testing.assert_close(value[rest] if of_gaussians else value, want[name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("name, value", [("viewmats", NAN), ("viewmats", 1e30), ("Ks", NAN), ("Ks", 0.0), ("Ks", INF)])
def test_a_broken_camera_leaves_the_others_alone(name, value, isa):
    scene = random_scene(3, count=20, hard=False)
    got = outputs_and_gradients(cpu.rasterize, with_field(scene, name, [0], value))
    for output, result in got.items():
        assert (result[1:] if output == "grad viewmats" else result).isfinite().all(), output
    whole = outputs_and_gradients(cpu.rasterize, scene)
    for output in ("rgb", "alpha", "depth", "median_depth"):
        assert torch.equal(got[output][1], whole[output][1]), output


def test_everything_covered_by_everything(isa):
    """Each Gaussian reaches over the whole image of several regions, so that all lists are as long as there are Gaussians."""
    scene = random_scene(4, count=100, views=1, width=70, height=45, hard=False)
    scene = replace(scene, scales=scene.scales * 100, opacities=scene.opacities * 0.05)
    assert_agree(without_cutoffs(scene), looser=2)


def test_fifty_thousand_gaussians_in_one_pixel(isa):
    """Of opacity o, one behind the other: a pixel at their centre sees c (1 - (1 - o)^n), up to the n that would leave 1e-4."""
    count, opacity = 50_000, 0.02
    generator = torch.Generator().manual_seed(0)
    scene = plain_view(random_scene(0, count=1, views=1, width=9, height=9, hard=False))
    depths = 2 + torch.randperm(count, generator=generator) / count
    scene = Scene(
        torch.stack([torch.zeros(count), torch.zeros(count), depths], dim=1), torch.eye(4)[:1].repeat(count, 1),
        torch.full((count, 3), 1e-3), torch.full((count,), opacity), torch.tensor([[0.2, 0.5, 1.0]]).repeat(count, 1),
        scene.viewmats, torch.tensor([[[9.0, 0, 4.5], [0, 9, 4.5], [0, 0, 1]]]), 9, 9, torch.zeros(3),
    )  # fmt: skip
    got = assert_finite(scene)
    seen = math.floor(math.log(1e-4) / math.log(1 - opacity))  # 455 or, by rounding, one less
    alpha = got["alpha"][0, 4, 4].item()
    assert 1 - (1 - opacity) ** (seen - 1) - 1e-5 < alpha < 1 - (1 - opacity) ** (seen + 1) + 1e-5
    torch.testing.assert_close(
        got["rgb"][0, 4, 4], alpha * torch.tensor([0.2, 0.5, 1.0]).double(), rtol=1e-5, atol=1e-6
    )
    order = torch.argsort(depths)
    assert (got["grad colors"][order[: seen - 2]] != 0).any(dim=1).all()
    assert (got["grad colors"][order[2 * seen :]] == 0).all()  # other pixels see them fainter and go further


@pytest.mark.parametrize("angle_deg", [0.0, 0.1, 45.0, 89.9, 90.0])
@pytest.mark.parametrize("eps2d", [0.3, 0.01])
def test_needles(angle_deg, eps2d, isa):
    """Across several regions and a pixel or less wide, at all angles."""
    half = math.radians(angle_deg) / 2
    scene = plain_view(random_scene(5, count=9, views=1, width=100, height=80, hard=False))
    scene = with_field(scene, "scales", slice(None), [0.8, 1e-3, 1e-3])
    scene = with_field(scene, "quats", slice(None), [math.cos(half), 0.0, 0.0, math.sin(half)])
    scene.options["eps2d"] = eps2d
    kept = without_cutoffs(scene)
    assert len(kept.means) >= 5
    # places are known to 4e-6 pixels, and sigma is 0.1 with the smaller eps2d; the reference in float32 is as far off
    assert_agree(kept, looser=3 if eps2d == 0.3 else 15)


@pytest.mark.parametrize("antialiased", [False, True])
def test_eps2d_zero(antialiased, isa):
    scene = random_scene(8, antialiased=antialiased)
    scene.options["eps2d"] = 0.0
    assert_finite(scene)
    ordinary = random_scene(9, count=20, antialiased=antialiased, hard=False)
    ordinary.options["eps2d"] = 0.0
    assert_agree(without_cutoffs(ordinary), looser=3)


@pytest.mark.parametrize("antialiased", [False, True])
def test_thinner_than_anything(antialiased, isa):
    """Without eps2d a Gaussian can be 1e-9 pixels thin and still meet the centre of one."""
    sizes = [
        (long, thin, angle) for long in (1e-8, 1e-6, 1.0, 1e6) for thin in (1e-9, 3e-12, 1e-14) for angle in (0, 0.3)
    ]
    count = len(sizes)
    quats = torch.tensor([[math.cos(angle), 0.0, 0.0, math.sin(angle)] for _, _, angle in sizes])
    scene = plain_view(random_scene(0, count=count, views=1, hard=False))
    scene = replace(
        scene,
        means=torch.tensor([[0.0, 0.0, 2.0]]).repeat(count, 1),
        quats=quats,
        scales=torch.tensor([[long, thin, 1e-20] for long, thin, _ in sizes]),
        opacities=torch.full((count,), 0.02),
        Ks=torch.tensor([[[30.0, 0, 18.5], [0, 30, 14.5], [0, 0, 1]]]),
        options={"antialiased": antialiased, "eps2d": 0.0},
    )
    assert_finite(scene)
    for alone in range(count):
        assert_finite(scene.select(torch.tensor([alone])))


def test_equal_depths_go_by_index(isa):
    """Three Gaussians at one place: the first is in front, as a stable sort leaves it."""
    scene = random_scene(0, count=1, views=1, hard=False).select(torch.zeros(3, dtype=torch.long))
    scene = replace(scene, colors=torch.eye(3), opacities=torch.tensor([0.6, 0.5, 0.4]))
    torch.testing.assert_close(scene.draw(cpu.rasterize).rgb, scene.draw(reference.rasterize).rgb, rtol=0, atol=1e-5)


def test_many_at_equal_depths_go_by_index(isa):
    """Each of 8 places taken by 40 Gaussians of their own colours, all at one depth and mixed up: more than a vector of ties."""
    places = plain_view(random_scene(0, count=8, views=1, width=70, height=40, hard=False))
    scene = places.select(torch.randperm(320, generator=torch.Generator().manual_seed(1)) % 8)
    means = scene.means.clone()
    means[:, 2] = 3.0
    colors = torch.rand(320, 3, generator=torch.Generator().manual_seed(2))
    scene = replace(scene, means=means, colors=colors, opacities=torch.full((320,), 0.05))
    got, want = (
        outputs_and_gradients(f, s) for f, s in ((cpu.rasterize, scene), (reference.rasterize, scene.to(torch.float64)))
    )
    for name in ("rgb", "alpha", "grad colors"):
        # a tie broken otherwise would be a difference of colours, 0.05 of them and more
        assert (got[name] - want[name]).abs().max() < 1e-4 * want[name].abs().max(), name

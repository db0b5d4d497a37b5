"""The C++ census sweep against kernels/census.py in float64."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support.rigs import Rig, clear_of_borders, random_rig, relief
from torch import Tensor

if os.environ.get("SPARSE3D_PURE"):
    pytest.skip("SPARSE3D_PURE is set: this install has no compiled kernels", allow_module_level=True)

from sparse3d.geometry import rotation_from_quat
from sparse3d.kernels import _cpu, census, cpu_sweep, sweep

# Two greys of a source this close may compare either way: 4e-5 of a pixel from float32 coordinates, where `random_rig` has
# steps of up to 0.5 from pixel to pixel, and half a step of 1/65535 for each from its 16-bit copy.
DOUBT = 1e-4
ROUNDING = 1e-6  # of a score made of float32 sums of whole numbers


def census_sweep(rig: Rig, dtype: torch.dtype = torch.float32, surface: Tensor | None = None) -> Tensor:
    """By the kernel in float32, by census.py in float64."""
    form = cpu_sweep if dtype == torch.float32 else census
    return form.census_sweep(*rig.arguments(dtype)[:-1], None if surface is None else surface.to(dtype))


def largest_doubt(rig: Rig, surface: Tensor | None = None) -> Tensor:
    """How much a score may differ since greys of a source are close to each other. (D, H, W)

    A bit that differs changes the score of a source by 2 / n, and the pooled one by no more than the most that any
    of its sources changes.
    """
    reference, K, sources, source_Ks, transforms, depths, _ = rig.arguments(torch.float64)
    window = (2 * census.HALF_HEIGHT + 1, 2 * census.HALF_WIDTH + 1)
    padding = (census.HALF_WIDTH, census.HALF_WIDTH, census.HALF_HEIGHT, census.HALF_HEIGHT)
    surface = None if surface is None else surface.double()
    most = torch.zeros(len(depths), *reference.shape, dtype=torch.float64)
    for source, source_K, transform in zip(sources, source_Ks, transforms, strict=True):
        for planes, pixels, ahead in sweep.warps(reference.shape, K, source_K, transform, depths, surface):
            warped = census.bilinear(source, pixels)[:, None]
            near = F.unfold(F.pad(warped, padding, value=torch.inf), window)  # (P, 63, H W)
            doubtful = ((near - warped.flatten(2)).abs() < DOUBT).sum(dim=1) - 1  # without the pixel itself
            count = (near < torch.inf).sum(dim=1) - 1
            change = (2 * doubtful / count.clamp(min=1)).reshape(len(pixels), *reference.shape)
            most[planes] = torch.maximum(most[planes], change * (ahead & sweep.inside(pixels, source)))
    return most


def assert_agree(rig: Rig, surface: Tensor | None = None) -> Tensor:
    """Equal wherever rounding decides no bit; returns what the kernel gave."""
    got, want = census_sweep(rig, surface=surface), census_sweep(rig, torch.float64, surface)
    doubt, clear = largest_doubt(rig, surface), clear_of_borders(rig, surface)
    assert got.shape == want.shape and got.isfinite().all()
    assert (((got - want).abs() <= doubt + ROUNDING) | ~clear).all()
    return got


@pytest.mark.parametrize("planes", [1, 33, 128])
@pytest.mark.parametrize("sources", [1, 2, 3, 4, 6])
def test_scores_match_reference(sources, planes, isa):
    rig = random_rig(sources, sources=sources, planes=planes)
    got = assert_agree(rig)
    assert 0.3 < (got > -1).double().mean() <= 1  # the sources see a good part
    assert (largest_doubt(rig) == 0).double().mean() > 0.7  # most are held to one value


def test_surfaces_that_are_no_planes(isa):
    rig = random_rig(4)
    assert_agree(rig, relief(rig))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 100), (70, 5), (65, 131)])
def test_any_image_size(size, isa):
    """Smaller than the window, and larger than a tile."""
    got = assert_agree(random_rig(6, *size, planes=17))
    if size == (1, 1):
        assert ((got == 0) | (got == -1)).all()  # nothing to compare


def test_cameras_behind_some_planes(isa):
    """A source in the middle of the planes, looking ahead or askew: near planes are behind it."""
    rig = random_rig(10, planes=64)
    ahead = rig.reference_to_sources.clone()
    ahead[:, 2, 3] = torch.tensor([-3.7, -5.1])
    ahead[1, :3, :3] = rotation_from_quat(torch.tensor([1.0, 0.0, 0.4, 0.1]))
    got = assert_agree(replace(rig, reference_to_sources=ahead))
    assert (got[rig.depths < 3.0] == -1).double().mean() > 0.5


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_one_grey_sets_no_bit(value, isa):
    """Saturated skies: whatever the weights of the interpolation, greys that are equal stay equal."""
    rig = random_rig(11, planes=17)
    flat = replace(
        rig,
        reference=torch.full_like(rig.reference, value),
        sources=[torch.full_like(source, 0.1) for source in rig.sources],
    )
    got = assert_agree(flat)
    assert set(got.unique().tolist()) == {-1.0, 1.0}


def test_brightness_of_the_reference_does_not_count(isa):
    """A curve that keeps the order of 256 grey values keeps every bit."""
    rig = random_rig(12)
    reference = (255 * rig.reference).round() / 255
    got = census_sweep(replace(rig, reference=reference))
    assert torch.equal(got, census_sweep(replace(rig, reference=3 * reference**2.2 - 7)))


def test_brightness_of_a_source_does_not_count(isa):
    """Half the exposure: the same bits, but where rounding decides them."""
    rig = random_rig(13)
    darker = replace(rig, sources=[0.5 * source + 0.1 for source in rig.sources])
    got, want = census_sweep(rig), census_sweep(darker)
    assert (got - want).abs().mean() < 1e-3
    assert_agree(darker)


def distinct_greys(height: int, width: int) -> Tensor:
    """An image in [0, 1) with no grey twice. (H, W)"""
    pixels = height * width
    return torch.randperm(pixels, generator=torch.Generator().manual_seed(0)).reshape(height, width) / pixels


def test_a_view_of_itself_and_of_its_negative(isa):
    """At the right place all bits are equal; in the negative all differ."""
    rig = random_rig(14, sources=1, sizes=False, planes=5)
    image = distinct_greys(29, 37)
    same = replace(rig, reference=image, source_Ks=rig.K[None], reference_to_sources=torch.eye(4)[None])
    assert (census_sweep(replace(same, sources=[image.sqrt()])) == 1).all()
    negative = census_sweep(replace(same, sources=[1 - image]))
    torch.testing.assert_close(negative, torch.full_like(negative, -1.0), rtol=0, atol=ROUNDING)


def test_scores_peak_at_the_true_plane(isa):
    """A source 4 pixels to the left is a camera 4 depth / focal to the right; with another exposure for good measure."""
    image, focal, depths = distinct_greys(40, 60), 50.0, 1 / torch.linspace(1 / 2, 1 / 8, 25)
    K = torch.tensor([[focal, 0, 30], [0, focal, 20], [0, 0, 1]])
    right = torch.eye(4)[None].clone()
    right[0, 0, 3] = -4 * depths[13] / focal
    source = torch.roll(image, -4, dims=1).sqrt()
    scores = cpu_sweep.census_sweep(image, K, [source], K[None], right, depths)
    inner = scores[:, :, 8:]  # whose windows the source sees whole
    assert (inner[13] == 1).all() and inner.mean(dim=(1, 2)).argmax() == 13 and inner[:9].mean() < 0.5


def test_thread_count_changes_no_bit(threads, isa):
    rig = random_rig(16, height=131, width=150, sources=3, planes=40)
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(census_sweep(rig))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_strided_inputs():
    """Views give what their copies give."""
    rig = random_rig(17)
    strided = replace(rig, reference=rig.reference.T.contiguous().T, sources=[s.T.contiguous().T for s in rig.sources])
    assert torch.equal(census_sweep(strided), census_sweep(rig))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"reference": torch.zeros(29, 37, dtype=torch.float64)}, "reference is torch.float64"),
        ({"reference": torch.zeros(29, 37, device="meta")}, "reference is torch.float32 on meta"),
        ({"reference": torch.zeros(1, 29, 37)}, r"reference is \(1, 29, 37\), needed \(H, W\)"),
        ({"reference": torch.full((29, 37), torch.nan)}, "reference holds infinity or NaN"),
        ({"K": torch.eye(4)}, r"K is \(4, 4\), needed \(3, 3\)"),
        ({"sources": []}, "sources is empty"),
        ({"sources": [torch.zeros(29, 37), torch.full((29, 37), -torch.inf)]}, "sources.1. holds infinity"),
        ({"sources": [torch.zeros(29, 37)]}, r"source_Ks is \(2, 3, 3\), needed \(1, 3, 3\)"),
        ({"reference_to_sources": torch.zeros(2, 3, 4)}, r"reference_to_sources is \(2, 3, 4\), needed \(2, 4, 4\)"),
        ({"depths": torch.zeros(0)}, r"depths is \(0,\)"),
    ],
)
def test_mistakes_are_named(change, words):
    rig = replace(random_rig(0), **change)
    with pytest.raises(ValueError, match=words):
        cpu_sweep.census_sweep(rig.reference, rig.K, rig.sources, rig.source_Ks, rig.reference_to_sources, rig.depths)


def test_bindings_convert_nothing():
    """What would be a silent copy, and lose the result, names the argument."""
    image, transfers, depths = torch.rand(6, 8) + 0.1, torch.eye(3, 4, dtype=torch.float64)[None], torch.ones(2)
    _cpu.census_sweep(image, [image], transfers, depths, image, torch.empty(6, 8, 2), 1)
    for wrong in ((image.double(), [image]), (image, [image.double()])):
        with pytest.raises(ValueError, match="reference|sources"):
            _cpu.census_sweep(*wrong, transfers, depths, image, torch.empty(6, 8, 2), 1)
    with pytest.raises(ValueError, match="scores is"):
        _cpu.census_sweep(image, [image], transfers, depths, image, torch.empty(6, 8, 3), 1)

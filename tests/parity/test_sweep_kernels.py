"""The C++ plane sweep and semi-global matching against kernels/sweep.py in float64."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from support.rigs import Rig, clear_of_borders, random_rig, relief, texture
from torch import Tensor

if os.environ.get("SPARSE3D_PURE"):
    pytest.skip("SPARSE3D_PURE is set: this install has no compiled kernels", allow_module_level=True)

from sparse3d.geometry import rotation_from_quat
from sparse3d.kernels import cpu_sweep, sweep

# float32 pixel coordinates (4e-5 of a pixel at column 500), 16-bit source samples and float32 sums against float64.
# Over 60 seeds of `random_rig` and each instruction set the largest difference is 2.2e-4, and 2.8e-4 of the reference
# in float32; the largest median is 2.9e-6. (Window 3: 5e-4 and 6.6e-6.) Steps between flat areas: 4.6e-4.
TOLERANCE = 1e-3
MEDIAN_TOLERANCE = 2e-5


def assert_sweeps_agree(rig: Rig, tolerance: float = TOLERANCE, surface: Tensor | None = None) -> Tensor:
    got = cpu_sweep.zncc_sweep(*rig.arguments(), surface)
    want = sweep.zncc_sweep(*rig.arguments(torch.float64), None if surface is None else surface.double())
    clear = clear_of_borders(rig, surface)
    assert clear.double().mean() > 0.99
    assert got.shape == want.shape and got.isfinite().all()
    difference = (got - want).abs()[clear]
    assert difference.max() < tolerance
    assert difference.median() < MEDIAN_TOLERANCE
    return got


@pytest.mark.parametrize("planes", [2, 33, 128])
@pytest.mark.parametrize("window", [5, 7])
@pytest.mark.parametrize("sources", [1, 2, 3, 4])
def test_scores_match_reference(sources, window, planes, isa):
    got = assert_sweeps_agree(random_rig(sources, sources=sources, window=window, planes=planes))
    assert 0.3 < (got > -1).double().mean() <= 1  # the sources see a good part


@pytest.mark.parametrize("size", [(29, 37), (70, 131)])
def test_surfaces_that_are_no_planes(size, isa):
    rig = random_rig(4, *size)
    assert_sweeps_agree(rig, surface=relief(rig))


def test_a_relief_of_twice_the_depth_is_planes_twice_as_far(isa):
    rig = random_rig(4)
    twice = torch.full_like(rig.reference, 2.0)
    got = cpu_sweep.zncc_sweep(*rig.arguments(), twice)
    assert torch.equal(got, cpu_sweep.zncc_sweep(*replace(rig, depths=2 * rig.depths).arguments()))


@pytest.mark.parametrize("wrong", [0.0, -1.0, torch.nan, torch.inf])
def test_reliefs_are_above_0(wrong, isa):
    rig = random_rig(4)
    surface = relief(rig)
    surface[3, 4] = wrong
    with pytest.raises(ValueError, match="relief"):
        cpu_sweep.zncc_sweep(*rig.arguments(), surface)


@pytest.mark.parametrize("window", [1, 3, 9, 11])
def test_other_windows(window, isa):
    # a window of one pixel has no variance: all scores are 0, and cancellation is all there is
    assert_sweeps_agree(random_rig(5, window=window))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 100), (70, 5), (65, 131)])
def test_any_image_size(size, isa):
    """Smaller than the window, and larger than a tile."""
    assert_sweeps_agree(random_rig(6, *size, planes=17, window=7))


def test_more_sources_than_fit_registers(isa):
    assert_sweeps_agree(random_rig(7, sources=7))


def test_wide_images(isa):
    assert_sweeps_agree(random_rig(8, height=40, width=500, planes=20))


@pytest.mark.parametrize("sources", [1, 3])
def test_sources_that_see_nothing_have_no_vote(sources, isa):
    rig = random_rig(9, sources=sources, sizes=False)
    away = rig.reference_to_sources.clone()
    away[0] = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0])) @ away[0]  # turned around
    got = assert_sweeps_agree(replace(rig, reference_to_sources=away))
    if sources == 1:
        assert (got == -1).all()
    else:
        rest = replace(rig, sources=rig.sources[1:], source_Ks=rig.source_Ks[1:], reference_to_sources=away[1:])
        assert torch.equal(got, cpu_sweep.zncc_sweep(*rest.arguments()))


def test_cameras_behind_some_planes(isa):
    """A source in the middle of the planes, looking ahead or askew: near planes are behind it."""
    rig = random_rig(10, planes=64)
    ahead = rig.reference_to_sources.clone()
    ahead[:, 2, 3] = torch.tensor([-3.7, -5.1])
    ahead[1, :3, :3] = rotation_from_quat(torch.tensor([1.0, 0.0, 0.4, 0.1]))
    got = assert_sweeps_agree(replace(rig, reference_to_sources=ahead))
    assert (got[rig.depths < 3.0] == -1).double().mean() > 0.5


@pytest.mark.parametrize("low, high", [(0.0, 0.0), (0.9, 1.0), (0.0, 1.0)])
def test_patches_without_texture(low, high, isa):
    """Steps between flat areas: cancellation in the variance is worst there, and the noise term has to hold it."""
    rig = random_rig(11, planes=17)
    flat = [torch.where(image > 0.5, high, low) for image in (rig.reference, *rig.sources)]
    # an edge is sharper than any texture above, so that the same error of a coordinate does more
    assert_sweeps_agree(replace(rig, reference=flat[0], sources=flat[1:]), tolerance=2e-3)


def test_a_view_of_itself_scores_high(isa):
    """At the right place patches are equal: ZNCC is var / (var + noise)."""
    rig = random_rig(12, sources=1, sizes=False)
    same = replace(rig, sources=[rig.reference], source_Ks=rig.K[None], reference_to_sources=torch.eye(4)[None])
    got = assert_sweeps_agree(same)
    patches = torch.nn.functional.unfold(rig.reference[None, None].double(), rig.window)[0]
    variance = patches.var(dim=0, unbiased=False).reshape(23, 31)
    expected = variance / (variance + (1.5 / 255) ** 2)
    torch.testing.assert_close(got[:, 3:-3, 3:-3].double(), expected.expand(33, 23, 31), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("paths", [4, 8])
@pytest.mark.parametrize(
    "shape", [(2, 29, 37), (33, 29, 37), (128, 29, 37), (5, 1, 40), (16, 40, 1), (1, 3, 3), (67, 90, 50)]
)
def test_semi_global_matches_reference(shape, paths, isa):
    generator = torch.Generator().manual_seed(0)
    costs = 2 * torch.rand(shape, generator=generator)
    guide = texture(*shape[1:], generator)
    got = cpu_sweep.semi_global(costs, guide, paths=paths)
    want = sweep.semi_global(costs.double(), guide.double(), paths=paths)
    # up to 8 paths of at most 2.6 each, in float32: 5x the largest difference seen
    torch.testing.assert_close(got.double(), want, rtol=0, atol=1.5e-5)
    got = cpu_sweep.semi_global(costs, guide, small=0.3, large=0.1, paths=paths)  # a jump is never below a step
    want = sweep.semi_global(costs.double(), guide.double(), small=0.3, large=0.1, paths=paths)
    torch.testing.assert_close(got.double(), want, rtol=0, atol=1.5e-5)


def test_thread_count_changes_no_bit(threads, isa):
    rig = random_rig(13, height=131, width=150, sources=3, planes=40)
    results = []
    for count in (1, 2, 3, 8):
        threads(count)
        scores = cpu_sweep.zncc_sweep(*rig.arguments())
        smooth = [cpu_sweep.semi_global(1 - scores, rig.reference, paths=paths) for paths in (4, 8)]
        results.append((scores, *smooth))
    for together in results[1:]:
        for alone, other in zip(results[0], together, strict=True):
            assert torch.equal(alone, other)


def test_strided_inputs():
    """Views give what their copies give, and inputs stay as they were."""
    rig = random_rig(14)
    strided = replace(rig, reference=rig.reference.T.contiguous().T, sources=[s.T.contiguous().T for s in rig.sources])
    want = cpu_sweep.zncc_sweep(*rig.arguments())
    assert torch.equal(cpu_sweep.zncc_sweep(*strided.arguments()), want)
    costs = (1 - want).contiguous()
    before = costs.clone()
    smooth = cpu_sweep.semi_global(costs, rig.reference)
    assert torch.equal(smooth, cpu_sweep.semi_global(1 - want, rig.reference)) and torch.equal(costs, before)

"""The Triton plane sweeps against their PyTorch forms in float64. test_triton.py runs this file, in a process of its own.

On a GPU, or on the CPU in Triton's interpreter, which takes milliseconds for each operation: images are small.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.rigs import Rig, clear_of_borders, random_rig, relief
from torch import Tensor

from sparse3d.kernels import census, correlation, plane_sweep, sweep, triton_sweep

DEVICE = torch.device(triton_sweep.DEVICE)
# As of the compiled kernels: float32 coordinates and sums, over 20 seeds at most 2e-5, of steep edges more.
TOLERANCE = 2e-4


def moved(arguments: tuple) -> tuple:
    """To the device of the kernels."""

    def move(value):
        if isinstance(value, Tensor):
            return value.to(DEVICE)
        return [source.to(DEVICE) for source in value] if isinstance(value, list) else value

    return tuple(move(value) for value in arguments)


def assert_agree(got: Tensor, want: Tensor, clear: Tensor) -> None:
    assert got.device.type == DEVICE.type and got.shape == want.shape
    difference = torch.where(clear, (got.cpu() - want).abs(), 0.0)
    assert difference.max() < TOLERANCE


def small_rig(seed: int, height: int = 17, width: int = 19, sources: int = 1, window: int = 5) -> Rig:
    """More pixels than a program takes, no multiple of that."""
    return random_rig(seed, height, width, sources=sources, planes=2, window=window)


@pytest.mark.parametrize("sources", [1, 3])
def test_zncc(sources):
    rig = small_rig(sources, sources=sources)
    got = triton_sweep.zncc_sweep(*moved(rig.arguments()))
    assert_agree(got, sweep.zncc_sweep(*rig.arguments(torch.float64)), clear_of_borders(rig))


def test_surfaces_that_are_no_planes():
    rig = small_rig(2)
    surface = relief(rig)
    want = sweep.zncc_sweep(*rig.arguments(torch.float64), surface.double())
    assert_agree(triton_sweep.zncc_sweep(*moved((*rig.arguments(), surface))), want, clear_of_borders(rig, surface))
    want = census.census_sweep(*rig.arguments(torch.float64)[:-1], surface.double())
    got = triton_sweep.census_sweep(*moved((*rig.arguments()[:-1], surface)))
    assert_agree(got, want, clear_of_borders(rig, surface))


@pytest.mark.parametrize("size", [(1, 1), (3, 20)])
@pytest.mark.parametrize("window", [1, 7])
def test_zncc_of_small_images(size, window):
    rig = small_rig(4, *size, window=window)
    got = triton_sweep.zncc_sweep(*moved(rig.arguments()))
    assert_agree(got, sweep.zncc_sweep(*rig.arguments(torch.float64)), clear_of_borders(rig))


@pytest.mark.parametrize("size", [(1, 1), (3, 20), (17, 19)])
def test_census(size):
    """Here no two greys are so close that rounding decides a bit."""
    rig = small_rig(5, *size)
    got = triton_sweep.census_sweep(*moved(rig.arguments()[:-1]))
    assert_agree(got, census.census_sweep(*rig.arguments(torch.float64)[:-1]), clear_of_borders(rig))


def test_census_of_one_grey():
    rig = small_rig(6, 5, 9)
    flat = replace(rig, reference=torch.full((5, 9), 0.3), sources=[torch.full((7, 6), 0.1)])
    got = triton_sweep.census_sweep(*moved(flat.arguments()[:-1]))
    assert set(got.unique().tolist()) <= {-1.0, 1.0} and (got == 1).any()


def test_the_better_half_of_seven_sources():
    """All the same but one, and one that looks away: ties, the odd count and the missing vote."""
    rig = small_rig(7, 5, 9, sources=7)
    away = rig.reference_to_sources.clone()
    away[2:5], away[3] = away[2], torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0])) @ away[3]
    rig = replace(rig, reference_to_sources=away, sources=[rig.sources[k] for k in (0, 1, 2, 2, 2, 5, 6)])
    got = triton_sweep.zncc_sweep(*moved(rig.arguments()))
    assert_agree(got, sweep.zncc_sweep(*rig.arguments(torch.float64)), clear_of_borders(rig))


def test_cameras_behind_some_planes():
    rig = small_rig(8, 6, 8, sources=2)
    ahead = rig.reference_to_sources.clone()
    ahead[:, 2, 3] = torch.tensor([-3.7, -5.1])
    rig = replace(rig, reference_to_sources=ahead)
    want = sweep.zncc_sweep(*rig.arguments(torch.float64))
    assert_agree(triton_sweep.zncc_sweep(*moved(rig.arguments())), want, clear_of_borders(rig))
    assert (want[0] == -1).all()
    maps = torch.randn(3, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    got = triton_sweep.feature_sweep(*moved((maps[0], rig.K, maps[1:], *rig.arguments()[3:6])))
    assert (got[0] == 0).all() and (got[1] != 0).any()


@pytest.mark.parametrize("channels", [1, 3, 17, 70])
@pytest.mark.parametrize("size", [(1, 1), (5, 9)])
def test_features(size, channels):
    generator = torch.Generator().manual_seed(channels)
    rig = small_rig(9, *size, sources=2)
    reference = torch.randn(channels, *size, generator=generator)
    maps = torch.randn(2, channels, size[0] + 1, size[1] + 3, generator=generator)
    arguments = (reference, rig.K, maps, *rig.arguments()[3:6])
    got = triton_sweep.feature_sweep(*moved(arguments))
    want = correlation.feature_sweep(*(tensor.double() for tensor in arguments))
    assert_agree(got, want, torch.ones_like(want, dtype=torch.bool))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"reference": torch.zeros(5, 9, dtype=torch.float64)}, "reference is torch.float64"),
        ({"reference": torch.full((5, 9), torch.nan)}, "reference holds infinity or NaN"),
        ({"sources": [torch.full((7, 6), torch.inf)]}, "source 0 holds infinity or NaN"),
        ({"sources": []}, "sources is empty"),
        ({"K": torch.eye(4)}, r"K is \(4, 4\), needed \(3, 3\)"),
        ({"window": 13}, "window is 13"),
    ],
)
def test_mistakes_are_named(change, words):
    rig = replace(small_rig(0, 5, 9), **change)
    arguments = (rig.reference, rig.K, rig.sources, rig.source_Ks, rig.reference_to_sources, rig.depths, rig.window)
    with pytest.raises(ValueError, match=words):
        triton_sweep.zncc_sweep(*moved(arguments))
    if "window" not in change:
        with pytest.raises(ValueError, match=words):
            triton_sweep.census_sweep(*moved(arguments[:-1]))


def test_features_with_infinity_are_named():
    rig = small_rig(0, 5, 9)
    maps = torch.zeros(1, 4, 5, 9)
    for reference, source, words in ((torch.inf, 0, "reference holds"), (0, torch.nan, "source 0 holds")):
        arguments = (maps[0] + reference, rig.K, maps + source, *rig.arguments()[3:6])
        with pytest.raises(ValueError, match=words):
            triton_sweep.feature_sweep(*moved(arguments))


@pytest.mark.cuda
def test_tensors_on_a_gpu_take_these():
    arguments = moved(random_rig(0, planes=5).arguments())
    assert torch.equal(plane_sweep.zncc_sweep(*arguments), triton_sweep.zncc_sweep(*arguments))
    assert torch.equal(plane_sweep.census_sweep(*arguments[:-1]), triton_sweep.census_sweep(*arguments[:-1]))
    maps = torch.randn(2, 6, 29, 37, device=DEVICE)
    arguments = (maps[0], arguments[1], maps[1:], *(tensor[:1] for tensor in arguments[3:5]), arguments[5])
    assert torch.equal(plane_sweep.feature_sweep(*arguments), triton_sweep.feature_sweep(*arguments))

"""The C++ sweep by correlation of features against kernels/correlation.py in float64."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from support.rigs import random_rig
from torch import Tensor

if os.environ.get("SPARSE3D_PURE"):
    pytest.skip("SPARSE3D_PURE is set: this install has no compiled kernels", allow_module_level=True)

from sparse3d.geometry import rotation_from_quat
from sparse3d.kernels import _cpu, correlation, cpu_sweep

# Coordinates in float32 are off by some 1e-6 of a pixel here, and the features, normally distributed, differ by up to 5 from
# one to the next and are multiplied by up to 4. Over 60 seeds, each instruction set and number of channels the largest
# difference is 2.4e-5, and 2.1e-5 of the PyTorch form in float32. 5x that:
TOLERANCE = 1.2e-4


@dataclass(frozen=True)
class Features:
    """Arguments of feature_sweep."""

    reference: Tensor
    K: Tensor
    sources: Tensor
    source_Ks: Tensor
    reference_to_sources: Tensor
    depths: Tensor

    def arguments(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
        return tuple(tensor.to(dtype) for tensor in vars(self).values())


def random_features(
    seed: int, channels: int = 17, height: int = 13, width: int = 19, sources: int = 2, planes: int = 33, grown: int = 3
) -> Features:
    """The cameras of `random_rig` with normally distributed features; sources are `grown` larger than the reference."""
    generator = torch.Generator().manual_seed(seed)
    rig = random_rig(seed, height, width, sources=sources, planes=planes, sizes=False)
    reference = torch.randn(channels, height, width, generator=generator)
    maps = torch.randn(sources, channels, height + grown, width + 2 * grown, generator=generator)
    return Features(reference, rig.K, maps, rig.source_Ks, rig.reference_to_sources, rig.depths)


def assert_agree(features: Features) -> Tensor:
    """Returns what the kernel gave."""
    got = cpu_sweep.feature_sweep(*features.arguments())
    want = correlation.feature_sweep(*features.arguments(torch.float64))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, rtol=0, atol=TOLERANCE)
    return got


@pytest.mark.parametrize("planes", [1, 33, 128])
@pytest.mark.parametrize("channels", [1, 3, 17, 64])
@pytest.mark.parametrize("sources", [1, 3])
def test_correlations_match_reference(sources, channels, planes, isa):
    got = assert_agree(random_features(sources, channels, sources=sources, planes=planes))
    assert (got != 0).double().mean() > 0.3  # the sources see a good part


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (2, 70), (40, 5)])
@pytest.mark.parametrize("grown", [0, 4])
def test_any_map_size(size, grown, isa):
    assert_agree(random_features(6, 5, *size, planes=17, grown=grown))


def test_cameras_behind_some_planes(isa):
    """A source in the middle of the planes, looking ahead or askew: near planes are behind it and count as 0."""
    features = random_features(10, planes=64)
    ahead = features.reference_to_sources.clone()
    ahead[:, 2, 3] = torch.tensor([-3.7, -5.1])
    ahead[1, :3, :3] = rotation_from_quat(torch.tensor([1.0, 0.0, 0.4, 0.1]))
    got = assert_agree(replace(features, reference_to_sources=ahead))
    assert (got[features.depths < 3.0] == 0).double().mean() > 0.5


def test_a_source_that_looks_away_halves_the_mean(isa):
    """MVSplat averages over all sources, whether they see the pixel or not."""
    features = random_features(9)
    away = features.reference_to_sources.clone()
    away[0] = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0])) @ away[0]  # turned around
    got = assert_agree(replace(features, reference_to_sources=away))
    other = Features(
        features.reference, features.K, features.sources[1:], features.source_Ks[1:], away[1:], features.depths
    )
    torch.testing.assert_close(got, cpu_sweep.feature_sweep(*other.arguments()) / 2)


def test_a_view_of_itself_gives_its_squares(isa):
    """MVSplat eq. 2 with equal features: |f|^2 / sqrt(C) at every plane."""
    features = random_features(12, channels=64, sources=1)
    got = cpu_sweep.feature_sweep(
        features.reference, features.K, features.reference[None], features.K[None], torch.eye(4)[None], features.depths
    )
    squares = (features.reference**2).sum(dim=0) / 8
    torch.testing.assert_close(got, squares.expand(33, -1, -1), rtol=1e-4, atol=1e-4)


def test_zeros_beyond_the_border(isa):
    """A source moved by half a pixel and more: what is left of a map of ones."""
    ones, K = torch.ones(1, 4, 6), torch.eye(3)
    got = []
    for shift in (0.0, 0.5, 0.75, 1.0, 6.5, 7.0):
        moved = torch.eye(4)[None].clone()
        moved[0, 0, 3] = shift
        got.append(cpu_sweep.feature_sweep(ones, K, ones[None], K[None], moved, torch.ones(1))[0, 0])
    want = [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0.5], [1, 1, 1, 1, 1, 0.25], [1, 1, 1, 1, 1, 0], [0] * 6, [0] * 6]
    torch.testing.assert_close(torch.stack(got), torch.tensor(want, dtype=torch.float32))


def test_convention_of_mvsplat(isa):
    """Its code counts feature i as being at i, and samples with align_corners=True: K moves by half a pixel."""
    features = random_features(13, channels=8, grown=0)
    _, height, width = features.reference.shape
    v, u = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    rays = torch.stack([u, v, torch.ones_like(u)], dim=-1) @ torch.linalg.inv(features.K.double()).T
    want = torch.zeros(len(features.depths), height, width, dtype=torch.float64)
    for source, K, transform in zip(features.sources, features.source_Ks, features.reference_to_sources, strict=True):
        points = features.depths.double()[:, None, None, None] * rays @ transform[:3, :3].T.double()
        pixels = (points + transform[:3, 3].double()) @ K.T.double()
        grid = 2 * pixels[..., :2] / pixels[..., 2:] / torch.tensor([width - 1, height - 1]) - 1
        warped = F.grid_sample(source.double().expand(len(grid), -1, -1, -1), grid, align_corners=True)
        want += (warped * features.reference.double()).sum(dim=1) / 8**0.5 / 2
    half = torch.tensor([[0.0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    moved = replace(features, K=features.K + half, source_Ks=features.source_Ks + half)
    got = cpu_sweep.feature_sweep(*moved.arguments())
    torch.testing.assert_close(got.double(), want, rtol=0, atol=TOLERANCE)


def test_thread_count_changes_no_bit(threads, isa):
    features = random_features(14, height=40, width=31)
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(cpu_sweep.feature_sweep(*features.arguments()))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_strided_inputs():
    """Views, as of a network that keeps its channels last, give what their copies give."""
    features = random_features(15)
    strided = replace(
        features,
        reference=features.reference.permute(1, 2, 0).contiguous().permute(2, 0, 1),
        sources=features.sources.to(memory_format=torch.channels_last),
    )
    assert torch.equal(cpu_sweep.feature_sweep(*strided.arguments()), cpu_sweep.feature_sweep(*features.arguments()))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"reference": torch.zeros(17, 13, 19, dtype=torch.float64)}, "reference is torch.float64"),
        ({"reference": torch.zeros(13, 19)}, r"reference is \(13, 19\), needed \(C, H, W\)"),
        ({"reference": torch.zeros(0, 13, 19)}, r"reference is \(0, 13, 19\)"),
        ({"reference": torch.full((17, 13, 19), torch.nan)}, "reference holds infinity or NaN"),
        ({"sources": torch.zeros(2, 16, 13, 19)}, r"sources is \(2, 16, 13, 19\), needed \(S, 17, Hs, Ws\)"),
        ({"sources": torch.zeros(0, 17, 13, 19)}, r"sources is \(0, 17, 13, 19\)"),
        ({"sources": torch.zeros(3, 17, 13, 19)}, r"source_Ks is \(2, 3, 3\), needed \(3, 3, 3\)"),
        ({"sources": torch.zeros(2, 17, 13, 19, device="meta")}, "sources is torch.float32 on meta"),
        ({"K": torch.eye(4)}, r"K is \(4, 4\), needed \(3, 3\)"),
        ({"reference_to_sources": torch.zeros(2, 3, 4)}, r"reference_to_sources is \(2, 3, 4\), needed \(2, 4, 4\)"),
        ({"depths": torch.zeros(2, 3)}, r"depths is \(2, 3\), needed \(D\)"),
    ],
)
def test_mistakes_are_named(change, words):
    with pytest.raises(ValueError, match=words):
        cpu_sweep.feature_sweep(*vars(replace(random_features(0), **change)).values())


def test_a_source_with_infinity_is_named():
    features = random_features(0)
    features.sources[1, 16, 15, 24] = torch.inf
    with pytest.raises(ValueError, match="sources.1. holds infinity or NaN"):
        cpu_sweep.feature_sweep(*features.arguments())


def test_bindings_convert_nothing():
    """What would be a silent copy, and lose the result, names the argument."""
    maps, transfers, depths = torch.rand(1, 3, 6, 8), torch.eye(3, 4, dtype=torch.float64)[None], torch.ones(2)
    _cpu.feature_sweep(maps[0], maps, transfers, depths, torch.empty(6, 8, 2), 1)
    for wrong in ((maps[0].double(), maps), (maps[0], maps.double()), (maps[0], maps.transpose(2, 3))):
        with pytest.raises(ValueError, match="reference|sources"):
            _cpu.feature_sweep(*wrong, transfers, depths, torch.empty(6, 8, 2), 1)
    with pytest.raises(ValueError, match="scores is"):
        _cpu.feature_sweep(maps[0], maps, transfers, depths, torch.empty(6, 8, 3), 1)

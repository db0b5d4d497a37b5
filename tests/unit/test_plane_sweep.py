"""Which form of a sweep is taken for which tensors."""

from __future__ import annotations

import pytest
import torch
from support.rigs import random_rig

from sparse3d.kernels import census, correlation, cpu, cpu_sweep, plane_sweep, sweep

compiled = pytest.mark.skipif(not cpu.available(), reason="this install has no compiled kernels")


def features(dtype=torch.float32):
    rig = random_rig(1, 7, 9, sources=1, planes=5, sizes=False)
    generator = torch.Generator().manual_seed(0)
    reference, sources = torch.randn(6, 7, 9, generator=generator), torch.randn(1, 6, 7, 9, generator=generator)
    cameras = (rig.source_Ks, rig.reference_to_sources, rig.depths)
    return tuple(tensor.to(dtype) for tensor in (reference, rig.K, sources, *cameras))


@compiled
def test_float32_on_the_cpu_takes_the_compiled_forms():
    arguments = random_rig(0, planes=5).arguments()
    scores = plane_sweep.zncc_sweep(*arguments)
    assert torch.equal(scores, cpu_sweep.zncc_sweep(*arguments))
    assert torch.equal(plane_sweep.census_sweep(*arguments[:-1]), cpu_sweep.census_sweep(*arguments[:-1]))
    assert torch.equal(plane_sweep.feature_sweep(*features()), cpu_sweep.feature_sweep(*features()))
    smooth = plane_sweep.semi_global(1 - scores, arguments[0], paths=4)
    assert torch.equal(smooth, cpu_sweep.semi_global(1 - scores, arguments[0], paths=4))


def test_float64_takes_the_pytorch_forms():
    arguments = random_rig(0, planes=5).arguments(torch.float64)
    scores = plane_sweep.zncc_sweep(*arguments)
    assert scores.dtype == torch.float64 and torch.equal(scores, sweep.zncc_sweep(*arguments))
    assert torch.equal(plane_sweep.census_sweep(*arguments[:-1]), census.census_sweep(*arguments[:-1]))
    both = [form.feature_sweep(*features(torch.float64)) for form in (plane_sweep, correlation)]
    assert both[0].dtype == torch.float64 and torch.equal(*both)
    smooth = plane_sweep.semi_global(1 - scores, arguments[0])
    assert torch.equal(smooth, sweep.semi_global(1 - scores, arguments[0]))


@pytest.mark.parametrize("argument", [0, 2])
def test_gradients_reach_the_features(argument):
    arguments = features()
    arguments[argument].requires_grad_()
    plane_sweep.feature_sweep(*arguments).sum().backward()
    assert arguments[argument].grad.abs().sum() > 0
    with torch.no_grad():
        assert not plane_sweep.feature_sweep(*arguments).requires_grad


def test_an_install_without_compiled_kernels_takes_the_pytorch_forms(monkeypatch):
    monkeypatch.setattr(cpu, "available", lambda: False)
    arguments = random_rig(0, planes=5).arguments()
    assert torch.equal(plane_sweep.zncc_sweep(*arguments), sweep.zncc_sweep(*arguments))

"""What the tests of the compiled kernels share."""

from __future__ import annotations

import pytest
import torch

from sparse3d.kernels import cpu


@pytest.fixture
def threads():
    """Sets the number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(params=cpu.compiled().instruction_sets() if cpu.available() else [])
def isa(request, monkeypatch):
    """Each instruction set that this CPU has, one after the other."""
    monkeypatch.setenv("SPARSE3D_ISA", request.param)
    assert cpu.instruction_set() == request.param
    return request.param

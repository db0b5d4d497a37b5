"""The meaning of the optimizer's step is PyTorch's own Adam."""

import pytest
import torch

from sparse3d.kernels import adam
from sparse3d.kernels.adam import selective_adam


@pytest.fixture(params=[True, False], ids=["picked", "masked"], autouse=True)
def form(request, monkeypatch):
    """How it works on the CPU, and how on a GPU."""
    monkeypatch.setattr(adam, "_picks", lambda _: request.param)


def test_it_is_pytorchs_adam_where_all_is_drawn():
    generator = torch.Generator().manual_seed(23)
    values = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    mean, square = torch.zeros_like(values), torch.zeros_like(values)
    theirs = values.clone().requires_grad_()
    optimizer = torch.optim.Adam([theirs], lr=0.01, eps=1e-15)
    for step, size in enumerate((1, 1e-12, 1e3, 1e-3, 1)):
        gradient = size * torch.randn(20, 3, generator=generator, dtype=torch.float64)
        theirs.grad = gradient
        optimizer.step()
        rates = torch.full((3,), 0.01, dtype=torch.float64)
        selective_adam(values, gradient, mean, square, rates, torch.ones(20, dtype=torch.bool), step + 1)
        torch.testing.assert_close(values, theirs.detach())


def test_what_is_not_drawn_stays_to_the_bit():
    generator = torch.Generator().manual_seed(0)
    state = [torch.rand(50, 4, 3, generator=generator) for _ in range(3)]
    gradient = torch.rand(50, 4, 3, generator=generator)
    drawn = torch.arange(50) % 3 == 0
    before = [t.clone() for t in state]
    gradient[~drawn] = torch.nan
    selective_adam(state[0], gradient, *state[1:], torch.full((4, 3), 0.01), drawn, 1)
    for now, then in zip(state, before, strict=True):
        assert torch.equal(now[~drawn], then[~drawn])
        assert now.isfinite().all() and (now[drawn] != then[drawn]).all()

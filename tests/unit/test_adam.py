"""The meaning of the optimizer's step is PyTorch's own Adam."""

import pytest
import torch

from sparse3d.kernels.adam import rows_masked, rows_picked, selective_adam

BETAS, EPS = (0.9, 0.999), 1e-15


@pytest.mark.parametrize("form", [rows_picked, rows_masked])
def test_it_is_pytorchs_adam_where_all_is_drawn(form):
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
        form(values, gradient, mean, square, rates, torch.ones(20, dtype=torch.bool), step + 1, BETAS, EPS)
        torch.testing.assert_close(values, theirs.detach())


@pytest.mark.parametrize("form", [rows_picked, rows_masked])
def test_what_is_not_drawn_stays_to_the_bit(form):
    generator = torch.Generator().manual_seed(0)
    state = [torch.rand(50, 4, 3, generator=generator) for _ in range(3)]
    gradient = torch.rand(50, 4, 3, generator=generator)
    drawn = torch.arange(50) % 3 == 0
    before = [t.clone() for t in state]
    gradient[~drawn] = torch.nan
    form(state[0], gradient, *state[1:], torch.full((4, 3), 0.01), drawn, 1, BETAS, EPS)
    for now, then in zip(state, before, strict=True):
        assert torch.equal(now[~drawn], then[~drawn])
        assert now.isfinite().all() and (now[drawn] != then[drawn]).all()


def test_on_the_cpu_it_works_on_the_rows_that_are_drawn_alone():
    values = torch.zeros(4, 3)
    drawn = torch.tensor([True, False, False, True])
    state = [torch.zeros(4, 3) for _ in range(2)]
    selective_adam(values, torch.ones(4, 3), *state, torch.full((3,), 0.1), drawn, 1)
    torch.testing.assert_close(values, torch.tensor([-0.1, 0, 0, -0.1])[:, None].expand(4, 3))

"""The optimizer's step in C++ against kernels/adam.py and against PyTorch's own Adam."""

import os

import pytest
import torch

if os.environ.get("SPARSE3D_PURE"):
    pytest.skip("SPARSE3D_PURE is set: this install has no compiled kernels", allow_module_level=True)

from sparse3d.kernels import adam, cpu_adam

SHAPES = [(37, 3), (64, 4), (100, 16, 3), (33,), (5, 15, 3), (0, 3)]
RTOL = 5e-6  # of a few float32 roundings and the two estimates (3e-7 each), over five steps


def random_state(shape, dtype):
    generator = torch.Generator().manual_seed(sum(shape))
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    rates = torch.rand(shape[1:], generator=generator, dtype=torch.float64)
    gradients = [torch.randn(shape, generator=generator, dtype=torch.float64) * 10.0**k for k in (0, -12, 3, -3, 0)]
    drawn = [torch.rand(shape[0], generator=generator) < share for share in (0.5, 1.0, 0.1, 0.9, 0.0)]
    state = [values, torch.zeros_like(values), torch.zeros_like(values)]
    return [t.to(dtype) for t in state], rates.to(dtype), [g.to(dtype) for g in gradients], drawn


@pytest.mark.parametrize("shape", SHAPES)
def test_matches_reference(shape, isa):
    got, rates32, gradients32, drawn = random_state(shape, torch.float32)
    want, rates64, gradients64, _ = random_state(shape, torch.float64)
    for step in range(5):
        cpu_adam.selective_adam(got[0], gradients32[step], *got[1:], rates32, drawn[step], step + 1)
        adam.selective_adam(want[0], gradients64[step], *want[1:], rates64, drawn[step], step + 1)
        for mine, theirs in zip(got, want, strict=True):
            # of the larger of an entry and what one step moves: values near 0 are differences
            torch.testing.assert_close(mine.double(), theirs, rtol=RTOL, atol=RTOL)


def test_reference_is_pytorchs_adam_where_all_is_drawn():
    (values, mean, square), _, gradients, _ = random_state((20, 3), torch.float64)
    theirs = values.clone().requires_grad_()
    optimizer = torch.optim.Adam([theirs], lr=0.01, eps=1e-15)
    for step, gradient in enumerate(gradients):
        theirs.grad = gradient
        optimizer.step()
        rates = torch.full((3,), 0.01, dtype=torch.float64)
        adam.selective_adam(values, gradient, mean, square, rates, torch.ones(20, dtype=torch.bool), step + 1)
        torch.testing.assert_close(values, theirs.detach())


@pytest.mark.parametrize("count", [1, 2, 8])
def test_what_is_not_drawn_stays_to_the_bit(count, isa, threads):
    threads(count)
    state, rates, gradients, _ = random_state((5000, 16, 3), torch.float32)
    drawn = torch.arange(5000) % 3 == 0
    before = [t.clone() for t in state]
    gradients[0][~drawn] = torch.nan
    cpu_adam.selective_adam(state[0], gradients[0], *state[1:], rates, drawn, 1)
    for now, then in zip(state, before, strict=True):
        assert torch.equal(now[~drawn], then[~drawn])
        assert now.isfinite().all()
    assert (state[0][drawn] != before[0][drawn]).all()


def test_without_gradient_nothing_is_nan(isa):
    """A moment of zero is divided by eps alone."""
    state = [torch.ones(20, 3), torch.zeros(20, 3), torch.zeros(20, 3)]
    cpu_adam.selective_adam(
        state[0], torch.zeros(20, 3), *state[1:], torch.ones(3), torch.ones(20, dtype=torch.bool), 1
    )
    assert torch.equal(state[0], torch.ones(20, 3))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gradient", {"gradient": torch.zeros(4, 4)}),
        ("mean", {"mean": torch.zeros(4, 3, dtype=torch.float64)}),
        ("square", {"square": torch.zeros(3, 4).T}),
        ("rates", {"rates": torch.zeros(4)}),
        ("drawn", {"drawn": torch.ones(4)}),
        ("step", {"step": 0}),
        ("eps", {"eps": 0.0}),
        ("betas", {"betas": (0.9, 1.0)}),
    ],
)
def test_names_what_is_wrong(name, change):
    arguments = {n: torch.zeros(4, 3) for n in ("values", "gradient", "mean", "square")}
    arguments |= {"rates": torch.zeros(3), "drawn": torch.ones(4, dtype=torch.bool), "step": 1}
    with pytest.raises(ValueError, match=name):
        cpu_adam.selective_adam(**(arguments | change))

"""A training step in C++ against the gradients of cpu.rasterize through PyTorch's activations, and kernels/adam.py."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import pytest
import torch
from support.gaussian_scenes import Scene, random_scene
from torch import Tensor

if os.environ.get("SPARSE3D_PURE"):
    pytest.skip("SPARSE3D_PURE is set: this install has no compiled kernels", allow_module_level=True)

from sparse3d.kernels import adam, cpu
from sparse3d.kernels.cpu_train import Drawn, Dropout, Trained

RATES = (0.01, 0.02, 0.03, 0.04, 0.05)
DECAY = 0.97  # of every second Gaussian
# Of the largest number of each result: float32 roundings of exp and sigmoid (4e-7) go through the rasterizer, where thin
# Gaussians enlarge them; 5x the largest seen over 40 seeds
RTOL = 3e-4


@dataclass
class State:
    """What a step changes, in the order of cpu_train.py."""

    values: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    rates: list[Tensor]

    def clone(self, dtype: torch.dtype = torch.float32) -> State:
        return State(*([tensor.to(dtype, copy=True) for tensor in tensors] for tensors in vars(self).values()))

    def named(self) -> dict[str, Tensor]:
        return {f"{what} {k}": tensors[k] for what, tensors in vars(self).items() for k in range(5)}


def state_of(scene: Scene, coefficients: int, seed: int = 0) -> State:
    """The scene's Gaussians before their activation, and moments as they are amid a run."""
    generator = torch.Generator().manual_seed(seed)
    sh = 0.5 * torch.randn(len(scene.means), coefficients, 3, generator=generator)
    values = [scene.means, scene.quats, scene.scales.log(), scene.opacities.clamp(1e-5, 1 - 1e-5).logit(), sh]
    means = [0.1 * torch.randn(value.shape, generator=generator) for value in values]
    squares = [0.1 + torch.rand(value.shape, generator=generator) for value in values]
    rates = [
        rate * (0.5 + torch.rand(value.shape[1:], generator=generator))
        for rate, value in zip(RATES, values, strict=True)
    ]
    return State([value.clone() for value in values], means, squares, rates)


def a_dropout(count: int) -> Dropout:
    return Dropout(torch.rand(count, generator=torch.Generator().manual_seed(3)) > 0.2, 1.25)


def decay_of(count: int) -> Tensor:
    return torch.where(torch.arange(count) % 2 == 0, DECAY, 1.0)


def draw(state: State, scene: Scene, dropout: Dropout | None) -> Drawn:
    return Drawn(
        Trained(state.values, state.means, state.squares), scene.viewmats, scene.Ks, scene.width, scene.height, sh_degree=scene.options["sh_degree"],
        antialiased=scene.options["antialiased"], near_plane=0.01, background=scene.background, dropout=dropout,
    )  # fmt: skip


def weights_of(scene: Scene) -> Tensor:
    return torch.rand(1, scene.height, scene.width, 3, generator=torch.Generator().manual_seed(7)) - 0.3


def move(state: State, scene: Scene, dropout: Dropout | None, step: int) -> Tensor:
    """By the kernel; returns the picture before."""
    drawn = draw(state, scene, dropout)
    drawn.update(weights_of(scene), state.rates, step, opacity_decay=decay_of(len(scene.means)))
    return drawn.rgb


def move_by_pytorch(state: State, scene: Scene, dropout: Dropout | None, step: int) -> tuple[Tensor, Tensor]:
    """The same in float64 from float32 gradients; returns the picture and which Gaussians took part."""
    inputs = [value.float().requires_grad_() for value in state.values]
    means, quats, log_scales, logits, sh = inputs
    opacities = logits.sigmoid()
    if dropout is not None:
        opacities = opacities * (dropout.kept * dropout.factor)
    shown = replace(scene, means=means, quats=quats, scales=log_scales.exp(), opacities=opacities, colors=sh)
    rgb = shown.draw(cpu.rasterize).rgb
    (rgb * weights_of(scene)).sum().backward()
    gradients = [value.grad.double() for value in inputs]
    drawn = gradients[3] != 0
    for value, gradient, mean, square, rate in zip(
        state.values, gradients, state.means, state.squares, state.rates, strict=True
    ):
        adam.selective_adam(value, gradient, mean, square, rate, drawn, step)
    decayed = torch.logit(state.values[3].sigmoid() * decay_of(len(scene.means)), eps=1e-7)
    state.values[3] = torch.where(drawn, decayed, state.values[3])
    return rgb.detach(), drawn


@pytest.mark.parametrize("with_dropout", [False, True])
@pytest.mark.parametrize("degree, coefficients", [(0, 1), (0, 4), (1, 4), (2, 9), (3, 16), (1, 16)])
def test_moves_as_pytorch_does(degree, coefficients, with_dropout, isa):
    scene = random_scene(5, count=300, views=1, sh_degree=degree, antialiased=degree == 2)
    dropout = a_dropout(len(scene.means)) if with_dropout else None
    got = state_of(scene, coefficients)
    want = got.clone(torch.float64)
    for step in (1, 2, 30):
        rgb, (expected, drawn) = move(got, scene, dropout, step), move_by_pytorch(want, scene, dropout, step)
        torch.testing.assert_close(rgb, expected, rtol=0, atol=5e-6)
        assert drawn.any() and not drawn.all()
        for name, value in got.named().items():
            theirs = want.named()[name]
            scale = float(theirs.abs().max())
            torch.testing.assert_close(
                value.double(), theirs, rtol=0, atol=RTOL * scale, msg=lambda m, n=name: f"{n}: {m}"
            )
        want = got.clone(torch.float64)  # rounding must not add up


def test_what_takes_no_part_stays_to_the_bit(isa):
    scene = random_scene(6, count=500, views=1, sh_degree=3)
    dropout = a_dropout(len(scene.means))
    state = state_of(scene, 16)
    before = state.clone()
    _, drawn = move_by_pytorch(state.clone(torch.float64), scene, dropout, 1)
    assert (drawn <= dropout.kept).all()
    move(state, scene, dropout, 1)
    for (name, now), then in zip(state.named().items(), before.named().values(), strict=True):
        if not name.startswith("rates"):
            assert torch.equal(now[~drawn], then[~drawn]), name
            assert (
                (now[drawn] != then[drawn]).flatten(1).any(1).all() if now.ndim > 1 else (now != then)[drawn].all()
            ), name


@pytest.mark.parametrize("count", [2, 3, 8])
def test_thread_count_changes_no_bit(count, threads, isa):
    scene = random_scene(12, count=3000, views=1, width=150, height=101, sh_degree=3)
    results = []
    for number in (1, count):
        threads(number)
        state = state_of(scene, 16)
        rgb = move(state, scene, a_dropout(len(scene.means)), 3)
        results.append({"rgb": rgb, **state.named()})
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


def test_faint_opacities_decay_to_a_floor_and_extremes_stay_finite(isa):
    """Beyond the range of exp in float32: scales of 0 and infinity, opacities of 0 and 1. NaN is not drawn."""
    scene = random_scene(3, count=64, views=1, sh_degree=0, hard=False)
    state = state_of(scene, 1)
    state.values[2][:8] = -200.0
    state.values[2][8:16] = 200.0
    state.values[3][16:24] = -200.0
    state.values[3][24:32] = 200.0
    state.values[2][32], state.values[3][33] = torch.nan, torch.nan
    before = state.clone()
    rgb = move(state, scene, None, 1)
    assert rgb.isfinite().all()
    for name, value in state.named().items():
        untouched = torch.isnan(before.named()[name])
        assert torch.equal(value.isnan(), untouched), name
        assert value[~untouched].isfinite().all(), name
    for row in (32, 33):
        assert torch.equal(state.values[0][row], before.values[0][row])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": 0}, r"means is \(4, 5\)"),
        ({"values": 2}, r"log_scales is \(4, 5\)"),
        ({"means": 1}, r"mean of quats is \(4, 5\)"),
        ({"squares": 3}, r"square of logit_opacities is \(4, 5\)"),
        ({"rates": 4}, r"rates of sh is \(20\)"),
    ],
)
def test_names_what_is_wrong(change, words):
    scene = random_scene(0, count=4, views=1, sh_degree=1, hard=False)
    state = state_of(scene, 4)
    ((name, k),) = change.items()
    getattr(state, name)[k] = torch.zeros(4, 5)
    with pytest.raises(ValueError, match=words):
        move(state, scene, None, 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"step": 0}, "step is 0"),
        ({"eps": 0.0}, "eps is 0"),
        ({"betas": (0.9, 1.0)}, "beta2 is 1"),
        ({"opacity_decay": torch.ones(5)}, "opacity_decay"),
    ],
)
def test_names_the_setting_that_is_wrong(settings, words):
    scene = random_scene(0, count=4, views=1, sh_degree=1, hard=False)
    state = state_of(scene, 4)
    arguments = {"rates": state.rates, "step": 1} | settings
    with pytest.raises(ValueError, match=words):
        draw(state, scene, None).update(weights_of(scene), **arguments)


def test_what_cannot_be_changed_in_place_is_refused():
    scene = random_scene(0, count=4, views=1, sh_degree=1, hard=False)
    state = state_of(scene, 4)
    state.values[1] = torch.zeros(4, 4).T
    with pytest.raises(ValueError, match="quats is not contiguous"):
        draw(state, scene, None)
    with pytest.raises(ValueError, match=r"kept is torch\.float32"):
        draw(state_of(scene, 4), scene, Dropout(torch.ones(4), 1.0))
    with pytest.raises(ValueError, match="kept_factor is 0"):
        draw(state_of(scene, 4), scene, Dropout(torch.ones(4, dtype=torch.bool), 0.5))

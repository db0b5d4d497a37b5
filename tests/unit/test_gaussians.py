"""Gaussians and their origins, joined and chosen from."""

from __future__ import annotations

import pytest
import torch

from sparse3d.init.initialization import Origin, Start
from sparse3d.types import Gaussians


def some(count: int, degree: int, seed: int = 0) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((3,), (4,), (3,), (), ((degree + 1) ** 2, 3))
    return Gaussians(*(torch.randn(count, *size, generator=generator) for size in sizes))


def test_joined_in_order_with_the_highest_degree():
    parts = [some(3, 0), some(0, 1, 1), some(2, 2, 2)]
    joined = Gaussians.joined(parts)
    assert len(joined) == 5 and joined.sh_degree == 2
    for name in ("means", "quats", "log_scales", "logit_opacities"):
        assert torch.equal(getattr(joined, name), torch.cat([getattr(part, name) for part in parts]))
    assert torch.equal(joined.sh[:3, :1], parts[0].sh) and not joined.sh[:3, 1:].any()
    assert torch.equal(joined.sh[3:], parts[2].sh)


def test_nothing_joined_is_no_gaussian():
    none = Gaussians.joined([])
    assert len(none) == 0 and none.sh_degree == 0
    both = Gaussians.joined([none, some(2, 1)])
    assert all(torch.equal(a, b) for a, b in zip(both.values(), some(2, 1).values(), strict=True))


def test_chosen_by_mask_index_and_slice():
    all_of_them = some(5, 1)
    keep = torch.tensor([True, False, True, False, False])
    for chosen in (all_of_them[keep], all_of_them[torch.tensor([0, 2])]):
        assert len(chosen) == 2
        for got, value in zip(chosen.values(), all_of_them.values(), strict=True):
            assert torch.equal(got, value[[0, 2]])
    twice = all_of_them[torch.tensor([4, 4, 1])]
    assert torch.equal(twice.means, all_of_them.means[[4, 4, 1]])
    assert len(all_of_them[torch.zeros(5, dtype=torch.bool)]) == 0


def test_values_are_what_a_constructor_takes():
    first = some(4, 3)
    again = Gaussians(*first.values())
    assert all(getattr(again, name) is getattr(first, name) for name in vars(first))


def test_starts_keep_their_origins():
    start = Start.joined([Start.of(some(2, 0), Origin.MATCHED), Start.of(some(3, 1), Origin.SPARSE)])
    assert start.origin.tolist() == [0, 0, 3, 3, 3] and start.origin.dtype == torch.uint8
    assert len(Start.joined([])) == 0 and Start.joined([]).origin.dtype == torch.uint8
    with pytest.raises(ValueError, match="origin"):
        Start(some(2, 0), torch.zeros(3, dtype=torch.uint8))

"""Render guidance: masks on latent grids, the schedule, and the correction of an Euler step, by their definitions."""

from __future__ import annotations

import pytest
import torch

from sparse3d.priors.guidance import Guidance, Schedule, filled, grown, to_cells, to_groups


def guidance(**changes) -> Guidance:
    generator = torch.Generator().manual_seed(0)
    values = {
        "latents": torch.randn(1, 3, 4, 5, 6, generator=generator),
        "mask": torch.rand(1, 3, 1, 5, 6, generator=generator),
        "known": torch.tensor([True, False, False]),
        "schedule": Schedule(6.0, 3.0),
    }
    return Guidance(**(values | changes))


def test_a_cell_is_trusted_as_its_least_trusted_pixel():
    trust = torch.rand(2, 1, 16, 24, generator=torch.Generator().manual_seed(1))
    cells = to_cells(trust, 8)
    for y in range(2):
        for x in range(3):
            block = trust[:, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
            assert torch.equal(cells[:, :, y, x], block.amin((2, 3)))
    whole = torch.ones(1, 1, 40, 40)
    whole[..., 20, 20] = 0
    eroded = to_cells(whole, 8, erosion=1)
    assert int((eroded == 0).sum()) == 9 and int((to_cells(whole, 8) == 0).sum()) == 1


@pytest.mark.parametrize("group", [4, 8])
def test_frames_of_a_causal_video_vae_are_trusted_as_the_least_of_their_group(group):
    cells = torch.rand(1 + 2 * group, 1, 3, 3, generator=torch.Generator().manual_seed(2))
    pooled = to_groups(cells, group)
    assert torch.equal(pooled[0], cells[0])
    for k in range(2):
        frames = cells[1 + k * group : 1 + (k + 1) * group]
        assert torch.equal(pooled[1 + k], torch.stack(list(frames)).min(0).values)
    with pytest.raises(ValueError, match=f"needed 1 \\+ a multiple of {group}"):
        to_groups(cells[:-1], group)


def test_the_schedule_falls_from_one_to_none_between_its_ends():
    schedule = Schedule(6.0, 1.5)
    assert schedule(700) == schedule(6.0) == 1 and schedule(1.5) == schedule(0.002) == 0
    assert schedule(3.0) == pytest.approx(0.5)  # the middle in log sigma: sqrt(6 * 1.5)
    values = [schedule(1.5 * 4 ** (k / 20)) for k in range(21)]
    assert values == sorted(values)
    with pytest.raises(ValueError, match="needed 0 < low <= high"):
        Schedule(1.0, 2.0)


def test_pulling_replaces_what_is_trusted_and_holds_photos_to_the_end():
    held, x0 = guidance(), torch.randn(1, 3, 4, 5, 6, generator=torch.Generator().manual_seed(3))
    whole = held.pulled(x0, 100.0)
    assert torch.allclose(whole, held.mask * held.latents + (1 - held.mask) * x0, atol=1e-6)
    late = held.pulled(x0, 0.1)
    assert torch.equal(late[:, 1:], x0[:, 1:]) and torch.allclose(late[:, 0], whole[:, 0], atol=1e-6)


@pytest.mark.parametrize("sigma", [10.0, 4.0, 0.5])
def test_a_step_is_corrected_to_what_it_would_have_been(sigma):
    """Euler: prev = x0 + r (x - x0), for any prediction and for flow matching."""
    held, generator = guidance(), torch.Generator().manual_seed(4)
    x, x0 = (torch.randn(1, 3, 4, 5, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    following = 0.6 * sigma

    def step(clean):
        return clean + following / sigma * (x - clean)

    got = held.corrected(x, step(x0), sigma, following)
    assert torch.allclose(got, step(held.pulled(x0, sigma)), atol=1e-9)


def test_a_quantile_takes_the_trusted_cells_that_the_model_agrees_with_most():
    mask = torch.ones(1, 3, 1, 5, 6)
    mask[..., 0] = 0  # a column that is not trusted
    held = guidance(mask=mask, quantile=lambda sigma: 0.4)
    x0 = torch.randn(1, 3, 4, 5, 6, generator=torch.Generator().manual_seed(5))
    taken = torch.isclose(held.pulled(x0, 50.0), held.latents, atol=1e-6).all(2)
    apart = (held.latents - x0).abs().mean(2)
    for frame in range(3):
        assert not taken[0, frame, :, 0].any()
        trusted, chosen = apart[0, frame, :, 1:], taken[0, frame, :, 1:]
        assert abs(int(chosen.sum()) - 0.4 * 24) <= 1.5 and trusted[chosen].max() <= trusted[~chosen].min()


def test_holes_take_the_colours_around_them_and_grow():
    rgb, trust = torch.full((1, 3, 16, 16), 0.6), torch.ones(1, 1, 16, 16)
    rgb[..., 4:9, 4:9], trust[..., 4:9, 4:9] = 0, 0
    assert torch.allclose(filled(rgb, trust), torch.tensor(0.6), atol=1e-6)
    holes = torch.zeros(1, 1, 9, 9)
    holes[..., 4, 4] = 1
    assert int(grown(holes, 2).sum()) == 25

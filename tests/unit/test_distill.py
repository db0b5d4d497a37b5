"""Score losses, with a prior whose score is known in closed form."""

from __future__ import annotations

import pytest
import torch
from support.gaussian_prior import GaussianScore
from torch import Tensor

from sparse3d.optimize.distill import (
    LEVELS,
    Denoiser,
    inverted,
    lora_loss,
    pull,
    sample_loss,
    sampled,
    sdi,
    sds,
    vsd,
)

KINDS = ("vp", "flow", "edm")
SHAPE = (1, 3, 6, 8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def means(seed: int = 1) -> Tensor:
    return torch.rand(SHAPE, generator=generator(seed))


def denoiser(kind: str = "vp", std: float = 0.2, **options) -> Denoiser:
    return Denoiser(GaussianScore(means(), std, kind, **options), torch.tensor([0]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [0.05, 0.4, 0.9])
def test_sds_by_noise_is_sds_by_x0(kind, t):
    """w (e - n) with w = s^2 of latents scaled to unit variance, against w (a / s) (z0 - x0)."""
    prior, z0, noise = denoiser(kind), means(2), torch.randn(SHAPE, generator=generator())
    alpha, sigma = prior.levels(t)
    z_t = alpha * z0 + sigma * noise
    seen = (z_t - alpha * prior.x0(z_t, t)) / sigma
    weight = sigma**2 / (alpha**2 + sigma**2)
    torch.testing.assert_close(sds(prior, z0, t, noise), weight * (seen - noise), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_sds_comes_to_the_mean(kind):
    prior, draws = denoiser(kind), generator()
    z = torch.zeros(SHAPE)
    for step in range(1500):
        t = LEVELS["sds"].drawn(step / 1500, draws)
        z -= 0.2 * (1 - step / 1500) * sds(prior, z, t, torch.randn(SHAPE, generator=draws))
    assert (z - means()).abs().max() < 0.1 and (z - means()).abs().mean() < 0.03  # from 0.5 in the mean


@pytest.mark.parametrize("t", [0.2, 0.6, 0.9])
def test_sdi_is_the_distance_to_where_exact_inversion_leads(t):
    """DDIM carries N(m, v) to N(a m, a^2 v + s^2) by scaling, so that z_t - a m = (z0 - m) sqrt(a^2 v + s^2) / std, of which x0 is known."""
    prior, z0 = denoiser("vp"), means(2)
    alpha, sigma = prior.levels(t)
    spread = (alpha**2 * 0.2**2 + sigma**2) ** 0.5
    z_t = inverted(prior, z0, t, generator(), steps=300)
    torch.testing.assert_close(
        z_t, alpha * means() + spread / 0.2 * (z0 - means()), rtol=0.02, atol=0.05
    )  # of steps of the first order
    assert (sampled(prior, z_t, t, 300) - z0).abs().max() < 0.05
    found = sdi(prior, z0, t, generator(), steps=300, eta=0.0)
    torch.testing.assert_close(found, (1 - alpha * 0.2 / spread) * (z0 - means()), rtol=0, atol=0.02)


def test_sdi_comes_to_the_mean_with_the_papers_settings():
    prior, draws, z = denoiser("vp"), generator(), torch.zeros(SHAPE)
    for step in range(200):
        z -= 0.3 * sdi(prior, z, LEVELS["sdi"].drawn(step / 200, draws), draws)
    assert prior.calls == 11 * 200
    assert (z - means()).abs().mean() < 0.1  # from 0.5


def test_samples_from_noise_have_the_priors_mean_and_deviation():
    prior = Denoiser(GaussianScore(torch.full((4000, 1, 1, 1), 0.3), 0.2), torch.arange(4000))
    noise = torch.randn(4000, 1, 1, 1, generator=generator())
    made = sampled(prior, noise, 1.0, 100)
    assert float(made.mean()) == pytest.approx(0.3, abs=0.02) and float(made.std()) == pytest.approx(0.2, rel=0.1)
    assert prior.calls == 100


def test_the_scores_of_vsd_cancel_where_renders_are_as_the_prior():
    prior = denoiser(trainable=True)
    lora = prior.score.lora()
    with torch.no_grad():
        lora.mean.copy_(means())
    noise = torch.randn(SHAPE, generator=generator())
    assert vsd(prior, lora, means(2), 0.5, noise).abs().max() < 1e-6
    lora.off()
    with torch.no_grad():
        lora.mean.add_(0.1)
    assert (vsd(prior, lora, means(2), 0.5, noise) > 0).all()  # renders are too bright, so they are to be darker


def test_vsd_brings_renders_to_the_prior_while_its_addition_follows_them():
    prior, draws = denoiser(trainable=True), generator()
    lora = prior.score.lora()
    optimizer = torch.optim.Adam(lora.parameters(), 0.03)
    particles = torch.zeros(SHAPE)
    for step in range(800):
        noise = torch.randn(SHAPE, generator=draws)
        t = LEVELS["vsd"].drawn(step / 800, draws)
        particles -= 0.1 * vsd(prior, lora, particles, t, noise)
        optimizer.zero_grad()
        lora_loss(prior, lora, particles, t, torch.randn(SHAPE, generator=draws)).backward()
        optimizer.step()
        assert not lora.active
    assert (particles - means()).abs().mean() < 0.06 and (lora.mean - particles).abs().mean() < 0.1


@pytest.mark.parametrize("loss", ["pull", "sample", "lora"])
def test_gradients_are_those_of_finite_differences(loss):
    prior, z, target = denoiser(trainable=True), means(2).double(), means(3).double()
    prior.score.mean, lora = prior.score.mean.double(), prior.score.lora()
    lora.mean = lora.mean.detach().double().requires_grad_()
    noise = torch.randn(SHAPE, generator=generator()).double()
    if loss == "sample":
        assert torch.autograd.gradcheck(lambda x: sample_loss(x, target), z.requires_grad_(), eps=1e-7, atol=1e-5)
    elif loss == "lora":

        def of_mean(mean: Tensor) -> Tensor:
            lora.mean = mean
            return lora_loss(prior, lora, z, 0.5, noise)

        assert torch.autograd.gradcheck(of_mean, lora.mean)
    else:  # the loss's gradient is the distilled one, whatever that depends on
        g = sds(prior, z, 0.5, noise)
        z.requires_grad_()
        pull(z, g).backward()
        torch.testing.assert_close(z.grad, g / z.numel())


def test_a_render_that_is_differentiated_gets_the_gradient_of_its_encoder():
    """The chain rule through encode: the directional derivative of <g, E(x)> by finite differences."""
    matrix = torch.randn(3, 3, generator=generator()).double()
    x = means(2).double().requires_grad_()
    encode = lambda rgb: torch.tanh(torch.einsum("ij,njhw->nihw", matrix, rgb))
    g = means(4).double()
    pull(encode(x), g).backward()
    direction = means(5).double()
    ahead, back = (((g * encode(x.detach() + step * direction)).mean()) for step in (1e-6, -1e-6))
    slope = ((ahead - back) / 2e-6).item()
    assert (x.grad * direction).sum().item() == pytest.approx(slope, rel=1e-6)


def test_levels_go_where_the_papers_say():
    assert LEVELS["sds"].at(0) == (0.02, 0.98) and LEVELS["sds"].at(1) == (0.02, 0.5)
    assert LEVELS["sample"].at(0) == (1.0, 1.0) and LEVELS["sample"].at(1) == pytest.approx((0.02, 1.0))
    assert LEVELS["sdi"].at(0.5)[0] == pytest.approx(0.5) == LEVELS["sdi"].at(0.5)[1]
    drawn = [LEVELS["vsd"].drawn(0.5, generator(seed)) for seed in range(50)]
    assert 0.02 <= min(drawn) < 0.2 and 0.6 < max(drawn) <= 0.74


def test_scores_that_are_no_numbers_or_of_another_size_are_told():
    prior = denoiser()
    prior.score.mean = torch.full(SHAPE, torch.nan)
    with pytest.raises(ValueError, match="not numbers"):
        sds(prior, means(), 0.5, means())
    prior.score.mean = torch.zeros(1, 3, 6, 1)
    prior.score.predict_x0 = lambda z, t, idx, guidance=None: z[:, :2]
    with pytest.raises(ValueError, match=r"shape \(1, 2, 6, 8\), needed \(1, 3, 6, 8\)"):
        sds(prior, means(), 0.5, means())

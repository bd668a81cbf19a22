"""Reflected Metropolis steps: where they lead, and that they leave the law on its domain as it is."""

import math

import pytest
import torch

from ebm_lab.data.truncated_gaussian import TruncatedGaussian
from ebm_lab.samplers import Reflected, run_chains
from ebm_lab.samplers.reflected import fold

F64 = torch.float64


def test_folding():
    x = torch.tensor([-0.2, 0.3, 1.2, 2.3, -1.4], dtype=F64)
    torch.testing.assert_close(fold(x, "unit"), torch.tensor([0.2, 0.3, 0.8, 0.3, 0.6], dtype=F64))
    torch.testing.assert_close(fold(x, "nonnegative"), x.abs())


@pytest.mark.parametrize("domain", ["nonnegative", "unit"])
def test_a_proposal_is_as_likely_as_its_reverse(domain):
    """Sums over images: q(y | x) = Σ_k N(y - image_k(x)) is symmetric."""

    def density(y, x):
        if domain == "nonnegative":
            images = [x, -x]
        else:
            images = [sign * x + 2 * k for k in range(-4, 5) for sign in (1, -1)]
        return sum(math.exp(-((y - image) ** 2) / (4 * 0.1)) for image in images)

    for x, y in ((0.1, 0.7), (0.95, 0.3)):
        assert density(y, x) == pytest.approx(density(x, y), rel=1e-12)
    # and the folded draws follow it
    z = torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=F64)
    y = fold(0.1 + math.sqrt(2 * 0.1) * z, domain)
    edges = torch.linspace(0, 1, 11, dtype=F64)
    shares = torch.histogram(y, edges).hist / len(y)
    middles = torch.linspace(0.0005, 0.9995, 1000, dtype=F64)
    expected = torch.tensor([density(float(m), 0.1) for m in middles]).view(10, 100).mean(1) * 0.1
    expected = expected / math.sqrt(4 * math.pi * 0.1)
    error = (expected / len(y)).sqrt()
    assert ((shares - expected).abs() < 4.5 * error).all()  # of ten bins, one false alarm in 15 000


@pytest.mark.parametrize("domain", ["nonnegative", "unit"])
def test_chains_keep_the_law_from_which_they_start(domain):
    law = TruncatedGaussian([0.5, 0.3], [0.4, 0.8], domain)
    generator = torch.Generator().manual_seed(0)
    x = law.sample(40_000, generator, F64)

    def energy(y):
        return 0.5 * ((y - law.means) / law.scales).square().sum(1)

    chains = run_chains(Reflected(0.05, domain), energy, x, 20, generator)
    assert 0.3 < chains.acceptance < 0.95 and (chains.x != x).any(1).double().mean() > 0.99
    assert (chains.x >= 0).all() and (domain == "nonnegative" or (chains.x <= 1).all())
    fresh = law.sample(40_000, generator, F64)
    for moment in (1, 2, 3):
        found, expected = chains.x**moment, fresh**moment
        error = ((found.var(0) + expected.var(0)) / len(x)).sqrt()
        assert ((found.mean(0) - expected.mean(0)).abs() < 4 * error).all()
    # twice the precision is another law, and chains see it
    other = run_chains(Reflected(0.05, domain), lambda y: 2 * energy(y), x, 20, generator).x
    error = ((other.var(0) + fresh.var(0)) / len(x)).sqrt()
    assert ((other.mean(0) - fresh.mean(0)).abs() > 5 * error).any()


def test_another_domain_is_refused():
    with pytest.raises(ValueError, match="domain must be nonnegative or unit, got 'real'"):
        Reflected(0.1, "real")

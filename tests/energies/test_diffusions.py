"""Diffusions: published numbers, and marginals that solve their own equation."""

import math

import pytest
import torch

from ebm_lab.energies import (
    NoisedQuadratic,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
    score,
)

F64 = torch.float64
ONE = torch.ones((), dtype=F64)
ALL = [VarianceExploding(0.01, 50.0), VariancePreserving(), SubVariancePreserving()]


def test_published_numbers():
    vp = VariancePreserving()
    assert vp.integral(ONE).item() == pytest.approx(10.05, abs=1e-12)
    assert vp.scale(ONE).item() == pytest.approx(0.0065716, abs=1e-7)
    assert vp.std(ONE).square().item() == pytest.approx(0.9999568, abs=1e-7)
    assert SubVariancePreserving().std(ONE).item() == pytest.approx(0.9999568, abs=1e-7)
    ve = VarianceExploding(0.01, 50.0)
    assert [ve.std(t * ONE).item() for t in (0, 1)] == pytest.approx([0.01, 50.0])


@pytest.mark.parametrize("diffusion", ALL, ids=lambda d: type(d).__name__)
def test_marginals_solve_their_equation(diffusion):
    # dx = f x dt + g dw: α' = f α and (std²)' = 2 f std² + g², so that (σ²)' = g²/α².
    t = torch.linspace(0.01, 1, 50, dtype=F64, requires_grad=True)
    drifts = isinstance(diffusion, VariancePreserving)
    rate = torch.autograd.grad(diffusion.scale(t).log().sum(), t)[0] if drifts else torch.zeros_like(t)
    (growth,) = torch.autograd.grad(diffusion.std(t).square().sum(), t)
    g = diffusion.diffusion(t)
    torch.testing.assert_close(growth, 2 * rate * diffusion.std(t).square() + g.square())
    (widening,) = torch.autograd.grad(diffusion.sigma(t).square().sum(), t)
    torch.testing.assert_close(widening, (g / diffusion.scale(t)).square())
    if drifts:
        torch.testing.assert_close(rate, -0.5 * diffusion.beta(t))


def test_noised_quadratic_is_the_normalised_gaussian():
    covariance = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=F64)
    energy = NoisedQuadratic((2,)).double()
    energy.set_covariance(covariance)
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    sigma = torch.tensor([0.1, 0.5, 2.0], dtype=F64)
    for i, s in enumerate(sigma):
        law = torch.distributions.MultivariateNormal(
            torch.zeros(2).double(), covariance + s**2 * torch.eye(2)
        )
        assert energy(x[i : i + 1], sigma=s).item() == pytest.approx(-law.log_prob(x[i]).item())
    torch.testing.assert_close(
        score(energy, x[1:2], sigma=sigma[1]),
        -torch.linalg.solve(covariance + 0.25 * torch.eye(2), x[1])[None],
    )
    torch.testing.assert_close(energy(x[1:], sigma=sigma[1:])[1:], energy(x[2:], sigma=2.0))


def test_noised_quadratic_takes_a_tilt():
    energy = NoisedQuadratic((2,)).double()
    x, before = torch.zeros(1, 2, dtype=F64), NoisedQuadratic((2,)).double()
    with torch.no_grad():
        energy.tilt.fill_(0.7)
    assert (energy(x, sigma=3.0) - before(x, sigma=3.0)).item() == pytest.approx(0.7 * math.log(3))

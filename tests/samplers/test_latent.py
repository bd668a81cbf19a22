"""Kernels in a noise's normal coordinates: the law they see, the chains they make, what they refuse."""

import math

import pytest
import torch

from ebm_lab.energies import Quadratic
from ebm_lab.energies.latent import LatentEnergy
from ebm_lab.errors import UserError
from ebm_lab.noise import Gaussian, GaussianCopula, StandardGaussian, UniformBox
from ebm_lab.samplers import (
    HMC,
    MALA,
    DualAveraging,
    InLatentSpace,
    Langevin,
    ParallelTempering,
    Reflected,
    run_chains,
)

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def skewed(num=3000):
    """Two correlated coordinates, one of them log-normal: a copula's maps are far from linear here."""
    z = torch.randn(num, 2, generator=seeded(), dtype=F64) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]], dtype=F64)
    return torch.stack([z[:, 0].exp(), z[:, 1]], 1)


@pytest.fixture(scope="module")
def copula():
    noise = GaussianCopula((2,), num_knots=12).double()
    noise.fit(skewed())
    return noise


def test_the_noise_s_own_energy_is_a_standard_normal_s_in_its_coordinates(copula):
    z = torch.randn(20, 2, generator=seeded(1), dtype=F64)
    seen = LatentEnergy(lambda x: -copula.log_prob(x), copula)(z)
    expected = 0.5 * z.square().sum(1) + math.log(2 * math.pi)
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-9)


def test_log_z_is_the_same_in_both_coordinates(copula):
    """Of N((2, 0), .3²) without its constant, 2π .3², by the trapezoid rule over z: the maps bend at the
    knots, and there the rule errs by its squared mesh."""
    line = torch.linspace(-8, 8, 1601, dtype=F64)
    centre = torch.tensor([2.0, 0.0], dtype=F64)
    energy = LatentEnergy(lambda x: 0.5 * ((x - centre) / 0.3).square().sum(1), copula)
    total = (-energy(torch.cartesian_prod(line, line))).exp().sum() * (line[1] - line[0]) ** 2
    assert total.item() == pytest.approx(2 * math.pi * 0.09, rel=1e-3)


@pytest.mark.parametrize("kernel", [HMC(0.3, 10), MALA(0.05)], ids=["hmc", "mala"])
def test_chains_keep_the_model_s_law_not_the_noise_s(copula, kernel):
    """4000 chains that start as exact draws of N(μ, S) still are after 60 steps: mean and covariance to 4
    standard errors, and they have moved."""
    precision = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=F64)
    covariance, mean, n = precision.inverse(), torch.tensor([1.0, -0.5], dtype=F64), 4000
    start = mean + torch.randn(n, 2, generator=seeded(2), dtype=F64) @ torch.linalg.cholesky(covariance).T
    energy = lambda x: 0.5 * ((x - mean) @ precision * (x - mean)).sum(1)  # noqa: E731
    chains = run_chains(InLatentSpace(kernel).on(copula), energy, start, 60, seeded(3))
    x = chains.x - mean
    assert (x.mean(0).abs() < 4 * (covariance.diagonal() / n).sqrt()).all()
    error = ((covariance.diagonal()[:, None] * covariance.diagonal() + covariance.square()) / n).sqrt()
    assert ((x.T @ x / n - covariance).abs() < 4 * error).all()
    correlation = torch.corrcoef(torch.stack([x[:, 0], start[:, 0]]))[0, 1]
    assert chains.acceptance > 0.5 and correlation < 0.9


def test_in_the_coordinates_of_a_standard_normal_it_is_the_kernel_itself():
    energy, x = Quadratic((3,)).double(), torch.randn(5, 3, generator=seeded(4), dtype=F64)
    kernel = HMC(0.2, 5)
    latent = InLatentSpace(kernel).on(StandardGaussian((3,)).double())
    ours, plain = (run_chains(k, energy, x, 7, seeded(5)).x for k in (latent, kernel))
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


def test_a_step_goes_the_length_of_the_noise_s_scales():
    """Widths of 1e-3 and 1e3 at once: in x no step suits both, in z one near 1 is accepted."""
    widths = torch.tensor([1e-3, 1e3], dtype=F64)
    noise = Gaussian((2,), ridge=0.0).double()
    noise.fit(widths * torch.randn(500, 2, generator=seeded(6), dtype=F64))
    energy = lambda x: 0.5 * (x / widths).square().sum(1)  # noqa: E731
    adapted = DualAveraging(InLatentSpace(MALA(0.1)), 0.574, num_adapt=100).on(noise)
    chains = run_chains(adapted, energy, noise.sample(200, seeded(7)), 20, seeded(8))
    assert chains.step_size > 0.3 and chains.acceptance > 0.4


class Overflowing(StandardGaussian):
    """x = e^{z}, so that z above 710 has no x."""

    def transport(self, z):
        return z.exp(), z.sum(1)

    def latent(self, x):
        return x.log(), -x.log().sum(1)


def test_where_the_map_leaves_the_floats_no_chain_goes():
    energy = LatentEnergy(lambda x: x.square().sum(1) - x.square().sum(1), Overflowing((1,)).double())
    # at z = 400 x² has no float, and E is inf - inf
    seen = energy(torch.tensor([[0.0], [400.0], [800.0]], dtype=F64))
    assert seen.tolist() == [0.0, math.inf, math.inf]
    kernel = InLatentSpace(HMC(1e6, 1)).on(Overflowing((1,)).double())
    start = torch.ones(50, 1, dtype=F64)
    chains = run_chains(kernel, lambda x: 0.5 * x.log().square().sum(1), start, 3, seeded(9))
    assert torch.equal(chains.x, start) and chains.acceptance == 0
    with pytest.raises(FloatingPointError, match="E or ∇E is NaN"):  # one of the energy itself is told
        run_chains(
            kernel, lambda x: x.sum(1) + torch.where(x[:, 0] == 1, 0.0, torch.nan), start, 3, seeded(9)
        )


def test_refusals():
    with pytest.raises(UserError, match="UniformBox is not the law of a map of a standard normal"):
        InLatentSpace(HMC(0.1)).on(UniformBox((2,), -1.0, 1.0))
    with pytest.raises(UserError, match="needs the run's noise"):
        run_chains(InLatentSpace(HMC(0.1)), lambda x: x.sum(1), torch.zeros(1, 2), 1, seeded())
    tempered = ParallelTempering(MALA(0.1), [1.0, 2.0])
    for kernel in (Langevin(0.1), tempered, Reflected(0.1), HMC(0.1, temperature=2.0)):
        with pytest.raises(ValueError, match=f"{type(kernel).__name__} is no kernel for a latent space"):
            InLatentSpace(kernel)
    with pytest.raises(ValueError, match="InLatentSpace has no .* or a memory of its own"):
        ParallelTempering(InLatentSpace(MALA(0.1)), [1.0, 2.0])

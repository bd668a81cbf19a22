import math
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor

from ebm_lab.energies.energy import Energy, score
from ebm_lab.evaluation.divergences import (
    fisher_divergence,
    grid_entropy,
    grid_fisher_divergence,
    grid_kl,
    median_bandwidth,
    mmd,
    negative_log_likelihood,
    score_matching_loss,
)
from ebm_lab.evaluation.quadrature import Grid


@dataclass
class Mixture:
    """Σ w_k N(μ_k, 1) on the line."""

    means: Tensor
    weights: Tensor

    def log_prob(self, x):
        log_terms = self.weights.log() - 0.5 * (x - self.means).square() - 0.5 * math.log(2 * math.pi)
        return log_terms.logsumexp(1)

    def score(self, x):
        shares = (self.weights.log() - 0.5 * (x - self.means).square()).softmax(1)
        return (shares * (self.means - x)).sum(1, keepdim=True)


class Quadratic(Energy):
    """E(x) = ½ λ ‖x‖²."""

    def __init__(self, dim, precision):
        super().__init__()
        self.shape = (dim,)
        self.precision = precision

    def forward(self, x):
        return 0.5 * self.precision * x.square().sum(1)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixture(*weights):
    return Mixture(torch.tensor([-6.0, 6.0]).double(), torch.tensor(weights, dtype=torch.float64))


def gaussian_log_prob(x, mean, covariance):
    return torch.distributions.MultivariateNormal(mean, covariance).log_prob(x)


MEAN_P, COVARIANCE_P = torch.tensor([0.5, 0.0]).double(), torch.tensor([[1.0, 0.4], [0.4, 0.8]]).double()
MEAN_Q, COVARIANCE_Q = torch.tensor([0.0, -0.3]).double(), torch.tensor([[1.5, 0.0], [0.0, 0.7]]).double()


def gaussian_kl(mean_p, covariance_p, mean_q, covariance_q):
    difference = mean_q - mean_p
    trace = torch.linalg.solve(covariance_q, covariance_p).trace()
    distance = difference @ torch.linalg.solve(covariance_q, difference)
    return 0.5 * (trace + distance - 2 + covariance_q.logdet() - covariance_p.logdet())


def test_grid_kl_of_two_gaussians_both_ways():
    grid = Grid(9.0, 181, 2)
    log_p = grid.evaluate(partial(gaussian_log_prob, mean=MEAN_P, covariance=COVARIANCE_P))
    log_q = grid.evaluate(partial(gaussian_log_prob, mean=MEAN_Q, covariance=COVARIANCE_Q))
    forward, error = grid_kl(log_p, log_q, grid)
    assert forward == pytest.approx(gaussian_kl(MEAN_P, COVARIANCE_P, MEAN_Q, COVARIANCE_Q).item(), abs=1e-10)
    assert error < 1e-6
    backward, _ = grid_kl(log_q, log_p, grid)
    assert backward == pytest.approx(
        gaussian_kl(MEAN_Q, COVARIANCE_Q, MEAN_P, COVARIANCE_P).item(), abs=1e-10
    )
    assert abs(forward - backward) > 0.01


def test_entropy_of_a_gaussian():
    grid = Grid(9.0, 181, 2)
    log_p = grid.evaluate(partial(gaussian_log_prob, mean=MEAN_P, covariance=COVARIANCE_P))
    value, error = grid_entropy(log_p, grid)
    expected = 0.5 * COVARIANCE_P.logdet().item() + math.log(2 * math.pi * math.e)
    assert value == pytest.approx(expected, abs=1e-10)
    assert error < 1e-6


def test_entropy_of_a_density_with_zeros():
    # uniform on 20 nodes of spacing 0.1: log 2
    grid = Grid(2.0, 41, 1)
    x = grid.points[:, 0]
    log_p = torch.where((x > -1.01) & (x < 0.99), -math.log(2.0), -math.inf)
    assert grid_entropy(log_p, grid)[0] == pytest.approx(math.log(2), abs=1e-7)  # log_p is float32


def test_the_error_bar_of_kl_holds_the_error_of_log_z():
    grid = Grid(14.0, 281, 1)
    log_p = grid.evaluate(mixture(0.5, 0.5).log_prob)
    log_q = grid.evaluate(mixture(0.2, 0.8).log_prob)
    value, _ = grid_kl(log_p, log_q, grid)
    shifted, error = grid_kl(log_p, log_q - 5e-4, grid)
    assert abs(shifted - value) == pytest.approx(5e-4, rel=1e-3)
    assert error == pytest.approx(5e-4, rel=1e-6)  # nothing else is wrong on this grid


@pytest.mark.parametrize("shift", [0.01, -0.01])
def test_densities_that_are_not_normalised_are_refused(shift):
    grid = Grid(9.0, 181, 1)
    log_p = grid.evaluate(Mixture(torch.zeros(1).double(), torch.ones(1).double()).log_prob)
    with pytest.raises(ValueError, match="log_q integrates to"):
        grid_kl(log_p, log_p + shift, grid)
    with pytest.raises(ValueError, match="log_p integrates to"):
        grid_kl(log_p + shift, log_p, grid)


def test_score_matching_is_blind_to_the_weights_of_modes():
    data, model, grid = mixture(0.5, 0.5), mixture(0.9, 0.1), Grid(16.0, 1601, 1)
    log_p, log_q = grid.evaluate(data.log_prob), grid.evaluate(model.log_prob)
    divergence, error = grid_fisher_divergence(model.score(grid.points), data.score(grid.points), log_p, grid)
    assert divergence == pytest.approx(3.76e-8, rel=2e-3)
    assert error < 1e-9
    assert grid_kl(log_p, log_q, grid)[0] == pytest.approx(0.510826, abs=1e-6)
    # samples never visit the middle: what they report is smaller still
    x = data.means[torch.arange(1000) % 2, None] + normal(1000, 1)
    assert fisher_divergence(model.score, data, x)[0] < 1e-9


def test_grid_fisher_divergence_sums_over_features():
    # s_θ - s = -x for E = ‖x‖²: ½ E‖x‖² = 1 in two dimensions
    grid = Grid(9.0, 181, 2)
    log_p = grid.evaluate(
        partial(gaussian_log_prob, mean=torch.zeros(2).double(), covariance=torch.eye(2).double())
    )
    value, _ = grid_fisher_divergence(-2 * grid.points, -grid.points, log_p, grid)
    assert value == pytest.approx(1.0, abs=1e-10)


class StandardNormal:
    def score(self, x):
        return -x


@pytest.mark.parametrize("dim", [1, 10])
def test_fisher_divergence_of_a_gaussian(dim):
    # ½ (λ-1)² E‖x‖² = d/2 at λ = 2, standard error √(2d)/2/√n
    value, error = fisher_divergence(
        partial(score, Quadratic(dim, 2.0)), StandardNormal(), normal(20000, dim)
    )
    assert error == pytest.approx(math.sqrt(2 * dim) / 2 / math.sqrt(20000), rel=0.05)
    assert abs(value - dim / 2) < 4 * error


def test_fisher_divergence_on_two_points_is_exact():
    x = torch.tensor([[1.0], [-1.0]]).double()
    assert fisher_divergence(partial(score, Quadratic(1, 2.0)), StandardNormal(), x) == (0.5, 0.0)


def test_negative_log_likelihood_adds_log_z_and_its_error():
    # ½ λ x² on ±1 and ±3 at λ = 2: energies 1, 1, 9, 9
    x = torch.tensor([[1.0], [-1.0], [3.0], [-3.0]]).double()
    value, error = negative_log_likelihood(Quadratic(1, 2.0), 0.25, x, log_z_error=0.5)
    assert value == 5.25
    assert error == pytest.approx(math.sqrt(64 / 12) + 0.5, rel=1e-12)


def naive_mmd(x, y, bandwidth):
    def kernel(a, b):
        return math.exp(-(a - b).square().sum().item() / (2 * bandwidth**2))

    def within(z):
        pairs = [(i, j) for i in range(len(z)) for j in range(len(z)) if i != j]
        return sum(kernel(z[i], z[j]) for i, j in pairs) / len(pairs)

    across = sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))
    return within(x) + within(y) - 2 * across


def test_mmd_is_the_u_statistic_and_its_error_the_jackknife():
    x, y = normal(5, 2), normal(4, 2, seed=1) + 1
    value, error = mmd(x, y, 0.8)
    assert value == pytest.approx(naive_mmd(x, y, 0.8), abs=1e-12)
    without_x = [naive_mmd(x[torch.arange(5) != i], y, 0.8) for i in range(5)]
    without_y = [naive_mmd(x, y[torch.arange(4) != i], 0.8) for i in range(4)]
    variance = sum(
        (len(t) - 1) / len(t) * sum((v - sum(t) / len(t)) ** 2 for v in t) for t in (without_x, without_y)
    )
    assert error == pytest.approx(math.sqrt(variance), rel=1e-10)


MMD_OF_UNIT_SHIFT = 0.177267635  # N(0,1) and N(1,1) at ℓ = 1: (2/√3)(1 - e^{-1/6})


def test_mmd_of_two_gaussians_in_chunks():
    value, error = mmd(normal(3000, 1), normal(2500, 1, seed=1) + 1, 1.0)
    assert error < 0.0125  # about 0.53 / √2750
    assert abs(value - MMD_OF_UNIT_SHIFT) < 4 * error


def test_mmd_is_unbiased_and_its_error_is_the_spread_of_replicates():
    results = [mmd(normal(150, 1, seed=2 * i), normal(100, 1, seed=2 * i + 1) + 1, 1.0) for i in range(100)]
    values, errors = torch.tensor(results).double().T
    assert abs(values.mean() - MMD_OF_UNIT_SHIFT) < 4 * values.std() / 10
    # the spread of 100 replicates is itself known to 7 %
    assert errors.mean().item() == pytest.approx(values.std().item(), rel=0.3)


def test_mmd_error_is_conservative_where_the_laws_agree():
    results = [mmd(normal(100, 1, seed=2 * i), normal(100, 1, seed=2 * i + 1), 1.0) for i in range(200)]
    values, errors = torch.tensor(results).double().T
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(200)
    # √2 as the docstring says; root mean square, since the error varies much here
    assert errors.square().mean().sqrt().item() / values.std().item() == pytest.approx(math.sqrt(2), rel=0.2)


def test_mmd_does_not_depend_on_the_origin():
    # the shift is exact in float64 and so are the distances, but not the squares of what is shifted
    x, y = torch.arange(8.0).double()[:, None] / 64, torch.arange(9.0).double()[:, None] / 32
    assert mmd(x + 2**27, y + 2**27, 1 / 64) == mmd(x, y, 1 / 64)


def test_mmd_takes_images_and_float32():
    x, y = normal(20, 1, 4, 4), normal(30, 1, 4, 4, seed=1)
    expected, _ = mmd(x.flatten(1), y.flatten(1), 4.0)
    assert mmd(x, y, 4.0)[0] == expected
    assert mmd(x.float(), y.float(), 4.0)[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, math.nan, math.inf])
def test_mmd_refuses_an_impossible_bandwidth(bandwidth):
    with pytest.raises(ValueError, match="bandwidth must be finite and > 0"):
        mmd(normal(5, 1), normal(5, 1), bandwidth)


def test_mmd_refuses_too_few_events():
    with pytest.raises(ValueError, match="got 5 and 2"):
        mmd(normal(5, 1), normal(2, 1), 1.0)


def test_median_bandwidth_of_three_points():
    # distances 3, 4, 5
    assert median_bandwidth(torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])) == 4.0


def test_median_bandwidth_strides_over_ordered_data():
    x = torch.arange(100.0)[:, None]
    assert median_bandwidth(x, max_points=10) == pytest.approx(30.0)  # of 0, 10, ..., 90; distances in tens


def test_median_bandwidth_refuses_points_that_coincide():
    with pytest.raises(ValueError, match="bandwidth of your own"):
        median_bandwidth(torch.zeros(10, 2))


@pytest.mark.parametrize("dim", [3, 6])  # second derivatives in a loop, and all at once
def test_the_score_matching_loss_is_the_fisher_divergence_but_for_the_data_s_own(dim):
    """E = λ‖x‖²/2: event by event -λd + λ²‖x‖²/2; of N(0, I) it is ½(λ-1)²d - ½d in expectation."""
    x, precision = normal(700, dim, seed=3), 1.7
    value, error = score_matching_loss(Quadratic(dim, precision), x)
    expected = 0.5 * precision**2 * x.square().sum(1) - precision * dim
    assert value == pytest.approx(expected.mean().item(), abs=1e-12)
    assert error == pytest.approx(expected.std().item() / math.sqrt(700), rel=1e-9)
    assert abs(value - 0.5 * dim * ((precision - 1) ** 2 - 1)) < 4 * error

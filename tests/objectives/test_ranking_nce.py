"""The ranking loss: exact values, what it does not see, its bound."""

import math
from types import SimpleNamespace

import pytest
import torch
from closed_forms import Scaled, normal_grid
from torch.optim import SGD

from ebm_lab.data import Batch
from ebm_lab.energies import DensityEnergy
from ebm_lab.noise import StandardGaussian
from ebm_lab.objectives import Optimization, Parts, RankingNCE
from ebm_lab.objectives.ranking_nce import ranking_losses
from ebm_lab.samplers import Langevin

F64 = torch.float64


def test_equal_weights_cost_log_of_their_number():
    loss = ranking_losses(torch.full((5,), 0.3, dtype=F64), torch.full((5, 9), 0.3, dtype=F64)).mean()
    assert loss.item() == pytest.approx(math.log(10), abs=1e-14)


def test_a_constant_of_the_energy_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    data, noise = (torch.randn(*s, generator=generator, dtype=F64) for s in ((6,), (6, 4)))
    torch.testing.assert_close(ranking_losses(data + 7, noise + 7), ranking_losses(data, noise))


def test_where_the_noise_has_no_density_the_loss_is_the_limit_of_ever_less():
    """w(x) → ∞: log(1 + Σ w_k / w) → 0, and the energy there has no slope."""
    log_weights = torch.tensor([2.0, 12.0, math.inf], dtype=F64, requires_grad=True)
    losses = ranking_losses(log_weights, torch.tensor([[0.0, math.log(3)]] * 3, dtype=F64))
    expected = [math.log1p(4 * math.exp(-2)), math.log1p(4 * math.exp(-12)), 0.0]
    assert losses.tolist() == pytest.approx(expected, abs=1e-15)
    (slope,) = torch.autograd.grad(losses.sum(), log_weights)
    assert slope[2] == 0 and slope[0].item() == pytest.approx(-1 / (1 + math.exp(2) / 4), abs=1e-15)


def population(precision: torch.Tensor) -> torch.Tensor:
    """N(0, 1) against one event of N(0, 4): every pair of quantiles."""
    x, x_noise = normal_grid(600), normal_grid(600, 2.0)
    energy, log_noise = Scaled(1.0), torch.distributions.Normal(0.0, 2.0).log_prob
    energy.precision = precision
    data, noise = (-energy(e) - log_noise(e[:, 0]) for e in (x, x_noise))
    pairs = ranking_losses(data.repeat_interleave(len(noise)), noise.repeat(len(data))[:, None])
    return pairs.mean()


def test_one_against_one_at_the_truth():
    precision = torch.nn.Parameter(torch.ones((), dtype=F64))
    loss = population(precision)
    (slope,) = torch.autograd.grad(loss, precision)
    # 600 quantiles miss the tails, at some 1e-3 of the second moment
    assert loss.item() == pytest.approx(0.522970385, abs=1e-3)
    assert abs(slope.item()) < 2e-3
    # KL(N(0, 1) ‖ N(0, 4)) = log 2 - 3/8 = .318, and log 2 - J = .170 is below it
    assert math.log(2) - loss.item() < math.log(2) - 3 / 8


@pytest.mark.parametrize(("at", "sign"), [(0.7, -1), (1.4, 1)])
def test_it_is_not_stationary_elsewhere(at, sign):
    precision = torch.nn.Parameter(torch.tensor(at, dtype=F64))
    (slope,) = torch.autograd.grad(population(precision), precision)
    assert sign * slope.item() > 1e-2


def test_with_the_true_ratio_and_many_noise_events_the_bound_is_the_divergence():
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(4000, generator=generator, dtype=F64)
    noise = 2 * torch.randn(4000, 200, generator=generator, dtype=F64)

    def log_weights(x):
        return torch.distributions.Normal(0.0, 1.0).log_prob(x) - torch.distributions.Normal(
            0.0, 2.0
        ).log_prob(x)

    losses = ranking_losses(log_weights(data), log_weights(noise))
    bound, error = math.log(201) - losses.mean().item(), losses.std().item() / math.sqrt(4000)
    divergence = math.log(2) - 3 / 8
    # for large K the bound falls short by (E_noise[w²] - 1) / (2K) ~ .003, below a standard error's .008
    assert divergence - 0.01 - 4 * error < bound < divergence + 4 * error


def method(energy, num_noise):
    """With noise N(0, 4)."""
    parts = Parts(energy, Langevin(0.1), StandardGaussian((1,), 2.0), Optimization(algorithm=SGD, lr=0.1))
    return RankingNCE(parts, num_noise=num_noise).double()


def bound_of(ranking, x):
    """The final number of a method with test events x: value, error, note."""
    with ranking.drawing_from(torch.Generator().manual_seed(1)):
        (value, error, _, note), *_ = ranking.measurements(SimpleNamespace(test_x=x)).values()
    return value, error, note


@pytest.mark.parametrize("num_noise", [1, 9])
def test_a_model_that_is_the_noise_has_a_bound_of_nought(num_noise):
    """All weights equal: J = log(K + 1), so that training's bound and the report's are 0."""
    ranking, x = method(DensityEnergy(StandardGaussian((1,), 2.0)), num_noise), normal_grid(50)
    loss = ranking.loss(Batch(x))
    assert loss.item() == pytest.approx(math.log(num_noise + 1), abs=1e-12)
    assert ranking.metrics["kl_bound"].item() == pytest.approx(0, abs=1e-12)
    value, error, note = bound_of(ranking, x)
    assert (value, error) == pytest.approx((0, 0), abs=1e-12)
    assert f"log(K + 1) = {math.log(num_noise + 1):.3f}" in note


def test_the_true_model_has_the_divergence_as_its_bound():
    ranking = method(Scaled(1.0), 200)
    x = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    value, error, _ = bound_of(ranking, x)
    divergence = math.log(2) - 3 / 8
    assert divergence - 0.01 - 4 * error < value < divergence + 4 * error  # as above
    # nearly all of a loss's spread is that of log p_data / p_n = log 2 - 3x²/8: 3/8 √2
    assert error == pytest.approx(3 / 8 * math.sqrt(2 / 4000), rel=0.1)

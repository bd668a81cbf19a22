"""The flow of a Gaussian in closed form: where it leads, its likelihood, and what a probe sees."""

import math

import pytest
import torch

from ebm_lab.energies import NoisedQuadratic, ScoreNetwork
from ebm_lab.samplers import flow_log_prob, probability_flow

F64 = torch.float64
SMALL = 1e-4  # in the place of σ = 0: its square is 1e-8


def gaussian(covariance: torch.Tensor) -> NoisedQuadratic:
    energy = NoisedQuadratic((len(covariance),)).double()
    energy.set_covariance(covariance)
    return energy


def normal(x: torch.Tensor, variance: float) -> torch.Tensor:
    return torch.distributions.Normal(0, math.sqrt(variance)).log_prob(x).sum(1)


@pytest.mark.parametrize(("prior_variance", "expected"), [(5.0, -1.4189385332), (4.0, -1.4323667575)])
def test_likelihood_of_a_gaussian(prior_variance, expected):
    # Data N(0, 1), σ_T = 2, x = 1: x_T = √5; with the law of x_T as the prior log p = -½ log 2πe, exactly,
    # and with the usual N(0, σ_T²) a different number.
    energy, x = gaussian(torch.eye(1, dtype=F64)), torch.ones(1, 1, dtype=F64)
    end = probability_flow(energy, x, SMALL, 2.0, tolerance=1e-10)
    assert end.x.item() == pytest.approx(math.sqrt(5), abs=1e-7)
    found = flow_log_prob(energy, x, SMALL, 2.0, lambda y: normal(y, prior_variance), tolerance=1e-10)
    assert found.item() == pytest.approx(expected, abs=1e-7)


def test_flow_goes_back_to_where_it_came_from():
    covariance = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=F64)
    x = torch.tensor([[1.0, -1.0], [0.3, 2.0]], dtype=F64)
    up = probability_flow(gaussian(covariance), x, 0.1, 3.0, tolerance=1e-10)
    down = probability_flow(gaussian(covariance), up.x, 3.0, 0.1, tolerance=1e-10)
    torch.testing.assert_close(down.x, x, atol=1e-7, rtol=0)
    torch.testing.assert_close(down.log_ratio, -up.log_ratio, atol=1e-7, rtol=0)
    # ½ log det of what widens: log p falls by it where events move with the law
    widening = (
        torch.linalg.slogdet(covariance + 9 * torch.eye(2))[1]
        - torch.linalg.slogdet(covariance + 0.01 * torch.eye(2))[1]
    )
    torch.testing.assert_close(up.log_ratio, -0.5 * widening.expand(2), atol=1e-7, rtol=0)


def test_a_probe_sees_the_divergence_in_expectation():
    # Rademacher probes (1, ±1) average to the trace; one alone is off by the correlation.
    energy = gaussian(torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=F64))
    x = torch.tensor([[1.0, -1.0]], dtype=F64).expand(2, 2)
    probe = torch.tensor([[1, 1], [1, -1]], dtype=F64)
    exact = probability_flow(energy, x, 0.1, 3.0, tolerance=1e-10).log_ratio
    probed = probability_flow(energy, x, 0.1, 3.0, probe=probe, tolerance=1e-10).log_ratio
    assert probed.mean().item() == pytest.approx(exact[0].item(), abs=1e-7)
    assert (probed - exact).abs().min() > 0.05


def test_a_score_network_has_a_likelihood_too():
    class Score(ScoreNetwork):
        shape = (3,)
        noise_conditional = True

        def forward(self, x, sigma=None):
            return -x / (1 + sigma**2)

    x = torch.tensor([[1.0, 0.5, -2.0]], dtype=F64)
    found = flow_log_prob(Score(), x, SMALL, 2.0, lambda y: normal(y, 5.0), tolerance=1e-10)
    torch.testing.assert_close(found, normal(x, 1.0), atol=1e-7, rtol=0)

"""The likelihood of the probability flow, of every method that learns the scores of all levels."""

import math

import hydra
import pytest
import torch

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.data.dequantisation import log_jacobian
from ebm_lab.draws import normal_like
from ebm_lab.errors import UserError

RANGES = {
    "score_sde": ["objective.sde.smallest=0.3", "objective.sde.largest=3.0"],
    "ncsn": ["objective.ladder.smallest=0.3", "objective.ladder.largest=3.0"],
}


def build_with(objective: str, *overrides: str):
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return build(hydra.compose("train", overrides=[f"objective={objective}", "logger=none", *overrides]))


@pytest.mark.parametrize("divergence", ["exact", "probed"])
@pytest.mark.parametrize("objective", RANGES)
def test_divergence_is_chosen_by_name(objective, divergence):
    # log p of N(0, Σ + σ₀²I), Σ not diagonal
    built = build_with(
        objective,
        *("data=gaussian", "data.dim=2", "data.num_train=20000", "energy=quadratic_noised"),
        *(*RANGES[objective], f"objective.divergence={divergence}"),
    )
    method = built.objective.double()
    method.energy.set_covariance(built.data.density.covariance)
    x = built.data.test_x[:100].double()
    errors = method.log_prob(x) + method.energy(x, sigma=method.ladder.sigmas[0]).detach()
    if divergence == "exact":
        assert errors.abs().max() < 0.02  # the prior is fitted to 20 000 events
    else:  # vᵀ∇s v of signs has the off-diagonal part of ∇s beside the trace: another number, with the mean
        assert errors.abs().max() > 0.05 and abs(errors.mean()) < 4 * errors.std() / 10 + 0.02


@pytest.mark.parametrize("objective", RANGES)
def test_nll_of_a_run_is_that_of_the_noised_data(objective):
    # At the truth the flow gives log N(x; 0, Σ + σ₀²I): the mean over 200 events has the known error.
    built = build_with(
        objective,
        *("data=gaussian", "data.dim=2", "data.num_train=20000", "energy=quadratic_noised"),
        *RANGES[objective],
    )
    method = built.objective.double()
    method.energy.set_covariance(built.data.density.covariance)
    x = built.data.test_x[:200].double()
    exact = method.energy(x, sigma=method.ladder.sigmas[0]).detach()
    torch.testing.assert_close(-method.log_prob(x), exact, atol=0.02, rtol=0)  # the prior is fitted to 20 000
    found = method.measurements(built.data)
    assert found["nll_flow_gap"][0] == pytest.approx(0.0, abs=0.01)  # no sampling error: it is paired
    assert found["nll_flow_gap"][1] < 0.1 * found["nll_flow"][1]
    nll, error, unit, note = found["nll_flow"]
    entropy = built.data.density.noised(method.sigma).entropy()
    assert abs(nll - entropy) < 4 * error and unit == "nats" and "exact divergence" in note


@pytest.mark.parametrize("objective", RANGES)
def test_bits_of_pixels_count_the_levels(objective):
    # S = s²I with a Hutchinson probe is exact for every probe, so that bits/dim of a Gaussian is a formula.
    built = build_with(objective, "data=digits", "energy=quadratic_noised", "objective.num_likelihood=5")
    method = built.objective.double()
    method.energy.set_covariance(0.3 * torch.eye(64))
    found = method.measurements(built.data)
    nll, _, _, note = found["nll_flow"]
    dims, levels = 64, built.data.levels
    expected = (log_jacobian(levels, (dims,)) + nll) / (dims * math.log(2))
    assert found["bits_per_dim_flow"][0] == pytest.approx(expected, rel=1e-6)
    # log p by the flow: det of what it widens by, and the fitted prior at its end, widened x
    x = built.data.test_x[:5].double()
    low, high = method.ladder.sigmas[0], method.ladder.sigmas[-1]
    growth = (0.3 + high**2) / (0.3 + low**2)
    prior = method.prior.log_prob(growth**0.5 * x, math.sqrt(high**2 - low**2))
    assert nll == pytest.approx(-(prior + 32 * math.log(growth)).mean().item(), abs=1e-2)
    assert "one probe an event" in note


@pytest.mark.parametrize("objective", RANGES)
def test_samples_of_the_flow_are_those_of_the_prior_scaled(objective):
    # On N(0, m) the flow from σ_T to σ₀ is x √((m + σ₀²)/(m + σ_T²)), and the jump m/(m + σ₀²) ends it.
    built = build_with(
        objective,
        *("data=gaussian", "data.dim=1", "data.num_train=20000", "energy=quadratic_noised"),
        *(*RANGES[objective], "objective.samples_by=flow", "objective.tolerance=1e-9"),
    )
    method, m = built.objective.double(), float(built.data.density.covariance)
    method.energy.set_covariance(torch.tensor([[m]]).double())
    low, high = method.ladder.sigmas[0], method.ladder.sigmas[-1]
    start = method.start(50, torch.Generator().manual_seed(0))
    fresh = torch.Generator().manual_seed(0)
    wide = method.prior.sample(50, fresh) + math.sqrt(high**2 - low**2) * normal_like(start, fresh)
    torch.testing.assert_close(start, wide)
    x = method.generate(50, None, 0, torch.Generator().manual_seed(0))
    scale = math.sqrt((m + low**2) / (m + high**2)) * m / (m + low**2)
    torch.testing.assert_close(x, scale * start, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("objective", RANGES)
def test_mistakes_are_told_in_a_sentence(objective):
    with pytest.raises(UserError, match="num_likelihood must be at least 2, got 1"):
        build_with(objective, "objective.num_likelihood=1")
    with pytest.raises(UserError, match="tolerance must be positive, got 0"):
        build_with(objective, "objective.tolerance=0.0")
    with pytest.raises(UserError, match="objective.divergence must be one of auto, exact, probed"):
        build_with(objective, "objective.divergence=hutchinson")
    with pytest.raises(UserError, match="objective.samples_by must be one of .*, flow"):
        build_with(objective, "objective.samples_by=ode")

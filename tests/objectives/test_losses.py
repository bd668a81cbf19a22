"""Every loss against numbers that a person can derive: float64, deterministic designs."""

import math

import pytest
import torch
from closed_forms import Scaled, column, normal_grid

from ebm_lab.energies import Energy, Quadratic
from ebm_lab.objectives.dsm import denoising_loss
from ebm_lab.objectives.maximum_likelihood import likelihood_surrogate
from ebm_lab.objectives.nce import nce_loss
from ebm_lab.objectives.noise_contrast import log_ratio
from ebm_lab.objectives.short_run import short_run_precision
from ebm_lab.objectives.ssm import sliced_loss
from ebm_lab.samplers import MALA, Langevin, run_chains

PRECISION = torch.tensor([[2, 0.6], [0.6, 1]], dtype=torch.float64)


class DoubleWell(Energy):
    """E(x) = (x² - 1)²."""

    shape = (1,)

    def forward(self, x):
        return (x.square() - 1).square().sum(1)


def slope(loss: torch.Tensor, energy: Scaled) -> float:
    return torch.autograd.grad(loss, energy.precision)[0].item()


# --- maximum likelihood ---------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [0.3, 1.0, 4.0])
def test_surrogate_has_the_gradient_of_the_two_phases(precision):
    energy = Scaled(precision)
    phases = likelihood_surrogate(energy, column(1, -1, 2, -2), column(0, 1))
    assert slope(phases.loss, energy) == pytest.approx(1.0, abs=1e-12)


def test_energy_penalty_adds_the_stated_number():
    energy = Scaled(1.0)
    x, x_model = column(1, -1, 2, -2), column(0, 1)
    plain = likelihood_surrogate(energy, x, x_model).loss
    penalised = likelihood_surrogate(energy, x, x_model, energy_penalty=1.0).loss
    assert (penalised - plain).item() == pytest.approx(2.25, abs=1e-12)


def test_surrogate_does_not_see_an_added_constant():
    class Shifted(Scaled):
        def forward(self, x):
            return super().forward(x) + 7.0

    for make in (Scaled, Shifted):
        energy = make(1.5)
        assert slope(likelihood_surrogate(energy, column(1, -2), column(0.5)).loss, energy) == pytest.approx(
            1.125
        )


def test_no_gradient_flows_through_the_chains():
    energy = Scaled(1.0)
    x_model = column(0, 1) * energy.precision  # equal to (0, 1), and dependent on the parameter
    loss = likelihood_surrogate(energy, column(1, -1, 2, -2), x_model).loss
    assert slope(loss, energy) == pytest.approx(1.0, abs=1e-12)


def expected_cd_gradient(precision: float, step_size: float, num_steps: int) -> float:
    """½ (m₂ - v_k) with data ±1, v_k the chain's second moment: noise ±1 and data ±1 make moments exact."""
    energy = Scaled(precision)
    kernel, moment = Langevin(step_size), torch.ones(1, 1, dtype=torch.float64)
    for _ in range(num_steps):  # the moment after a step from x = ±√v with z = ±1 is (1-hλ)² v + 2h
        x = torch.cat([moment.sqrt(), -moment.sqrt()]).repeat_interleave(2, 0)
        z = column(1, -1, 1, -1)
        state, _ = kernel.step(energy, kernel.init(energy, x), None, draw=z)
        moment = state.x.square().mean().reshape(1, 1)
    loss = likelihood_surrogate(energy, column(1, -1), torch.cat([moment.sqrt(), -moment.sqrt()])).loss
    return slope(loss, energy)


@pytest.mark.parametrize("num_steps", [1, 2, 5, 20])
def test_cd_root_is_biased_alike_for_every_k(num_steps):
    root = Langevin(0.125).gaussian_precision(torch.tensor(1.0, dtype=torch.float64)).item()
    assert root == pytest.approx(1.0717967697, abs=1e-9)
    assert expected_cd_gradient(root, 0.125, num_steps) == pytest.approx(0, abs=1e-9)
    assert abs(expected_cd_gradient(1.0, 0.125, num_steps)) > 1e-3


def test_cd1_gradient_and_its_score_matching_limit():
    assert expected_cd_gradient(1.0, 0.1, 1) == pytest.approx(-0.005, abs=1e-12)
    # g / h -> d/dλ J_ISM(2) = λ m₂ - 1 = 1 as h -> 0
    assert expected_cd_gradient(2.0, 1e-3, 1) / 1e-3 == pytest.approx(0.998, abs=1e-9)


@pytest.mark.parametrize("dim", [2, 10])
def test_cd_with_an_exact_kernel_is_stationary_at_the_truth(dim, generator):
    energy = Scaled(1.0, dim)
    x = torch.randn(40_000, dim, generator=generator, dtype=torch.float64)
    chains = run_chains(MALA(0.3), energy, x, 3, generator)
    per_event = 0.5 * (x.square().sum(1) - chains.x.square().sum(1))
    error = per_event.std() / math.sqrt(len(x))
    assert abs(per_event.mean() / error) < 4  # 4 standard errors: one false alarm in 16 000


@pytest.mark.parametrize(("num_steps", "expected"), [(10, 9.008734860), (100, 4.086346638)])
def test_short_run_learns_a_root_of_its_own(num_steps, expected):
    assert short_run_precision(0.25, 0.01, num_steps, 1.0).item() == pytest.approx(expected, abs=1e-6)


# --- denoising ---------------------------------------------------------------------------------------------


def test_dsm_on_the_four_pairs():
    x, z = column(1, 1, -1, -1), column(1, -1, 1, -1)
    for precision, expected in ((1.0, 1.625), (0.8, 1.6)):
        assert denoising_loss(Scaled(precision), x, z, 0.5).item() == pytest.approx(expected, abs=1e-12)
    energy = Scaled(0.8)
    assert slope(denoising_loss(energy, x, z, 0.5), energy) == pytest.approx(0, abs=1e-12)
    # J_DSM - J_ESM(p_σ) = C for every λ, with J_ESM = ½ (m₂ + σ²)(λ - 1/(m₂ + σ²))²
    for precision in (0.1, 1.0, 3.0):
        explicit = 0.5 * 1.25 * (precision - 0.8) ** 2
        constant = denoising_loss(Scaled(precision), x, z, 0.5).item() - explicit
        assert constant == pytest.approx(1.6, abs=1e-12)


def test_dsm_sums_over_features():
    x, z = column(1, 1, -1, -1), column(1, -1, 1, -1)
    one = denoising_loss(Scaled(1.0), x, z, 0.5)
    three = denoising_loss(Scaled(1.0, 3), x.expand(4, 3), z.expand(4, 3), 0.5)
    torch.testing.assert_close(three, 3 * one)


# --- sliced ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("v", "sliced", "reduced"), [((1.0, 1.0), -3.70, -3.14), ((1.0, -1.0), -0.18, -0.74)]
)
def test_ssm_along_given_slices(v, sliced, reduced):
    energy = Quadratic((2,)).double()
    energy.set_precision(PRECISION)
    x = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    v = torch.tensor([v], dtype=torch.float64)
    assert sliced_loss(energy, x, v, variance_reduced=False).item() == pytest.approx(sliced, abs=1e-12)
    assert sliced_loss(energy, x, v, variance_reduced=True).item() == pytest.approx(reduced, abs=1e-12)


@pytest.mark.parametrize("variance_reduced", [False, True])
def test_ssm_averages_to_implicit_score_matching(variance_reduced):
    energy = Quadratic((2,)).double()
    energy.set_precision(PRECISION)
    x = torch.tensor([[1.0, -1.0]] * 4, dtype=torch.float64)
    v = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    assert sliced_loss(energy, x, v, variance_reduced).item() == pytest.approx(-1.94, abs=1e-12)


def test_ssm_reaches_the_closed_form_of_implicit_score_matching():
    # Data (±1, 0), (0, ±2): S = diag(½, 2), the minimiser is P = diag(2, ½) with J* = -½ tr S⁻¹ = -1.25.
    x = torch.tensor([[1, 0], [-1, 0], [0, 2], [0, -2]], dtype=torch.float64).repeat_interleave(4, 0)
    v = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64).repeat(4, 1)
    energy = Quadratic((2,)).double()
    energy.set_precision(torch.diag(torch.tensor([2, 0.5], dtype=torch.float64)))
    loss = sliced_loss(energy, x, v)
    gradients = torch.autograd.grad(loss, list(energy.parameters()))
    assert loss.item() == pytest.approx(-1.25, abs=1e-12)
    assert max(g.abs().max().item() for g in gradients) < 1e-12


def test_ssm_differentiates_what_autograd_must_differentiate_twice():
    x = column(0.5)
    assert sliced_loss(DoubleWell(), x, torch.ones_like(x)).item() == pytest.approx(2.125, abs=1e-12)
    # λ = 2 on ±1: ½λ²m₂ - λ = 0
    assert sliced_loss(Scaled(2.0), column(1, -1), column(1, 1)).item() == pytest.approx(0, abs=1e-12)


def test_ssm_probe_variance():
    # Rademacher v leaves 2 Σ_{i≠j} H_ij² = 1.44 of variance in vᵀHv; Gaussian v has 2‖H‖² = 11.44.
    energy = Quadratic((2,)).double()
    energy.set_precision(PRECISION)
    x = torch.zeros(1, 2, dtype=torch.float64)
    along = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    losses = torch.stack([sliced_loss(energy, x, v[None]) for v in along])
    assert losses.var(correction=0).item() == pytest.approx(1.44, abs=1e-12)


# --- noise contrast ----------------------------------------------------------------------------------------

LOG_Z = 0.5 * math.log(2 * math.pi)


def nce_problem(nu: int, noise_scale: float, log_z: torch.Tensor, energy: Scaled) -> torch.Tensor:
    """Population NCE of N(0, 1) data against N(0, noise_scale²), by quantile grids of 2¹⁶ points."""
    x, x_noise = normal_grid(2**16), normal_grid(2**16, noise_scale)
    log_noise = torch.distributions.Normal(0, noise_scale).log_prob
    logits = [log_ratio(energy(e), log_z, log_noise(e[:, 0]), nu) for e in (x, x_noise)]
    return nce_loss(*logits, nu)


@pytest.mark.parametrize(
    ("nu", "noise_scale", "expected"),
    [(1, 2.0, 1.200827598), (10, 2.0, 3.056148561), (1, 1.0, 2 * math.log(2)), (10, 1.0, 3.350997072)],
)
def test_nce_at_the_truth(nu, noise_scale, expected):
    energy = Scaled(1.0)
    log_z = torch.tensor(LOG_Z, dtype=torch.float64, requires_grad=True)
    loss = nce_problem(nu, noise_scale, log_z, energy)
    gradients = torch.autograd.grad(loss, [energy.precision, log_z])
    assert loss.item() == pytest.approx(expected, abs=1e-4)
    # The grid of quantiles misses the far tails, at 1e-4 of the second moment.
    assert max(abs(g.item()) for g in gradients) < 1e-4


def test_nce_is_not_stationary_elsewhere():
    for precision, shift in ((1.4, 0.0), (1.0, 0.3)):
        energy = Scaled(precision)
        log_z = torch.tensor(LOG_Z + shift, dtype=torch.float64, requires_grad=True)
        gradients = torch.autograd.grad(nce_problem(1, 2.0, log_z, energy), [energy.precision, log_z])
        assert max(abs(g.item()) for g in gradients) > 1e-2

"""Data against perturbed and against shifted data: exact values, the limit to score matching."""

import math

import hydra
import pytest
import torch
from closed_forms import Scaled, normal_grid
from hydra.utils import instantiate

from ebm_lab import schema
from ebm_lab.binding import check_bindings
from ebm_lab.cli import CONFIGS
from ebm_lab.energies import Quadratic
from ebm_lab.noise import GaussianPerturbation, ShrinkingPerturbation
from ebm_lab.objectives.conditional_nce import conditional_loss
from ebm_lab.objectives.shifted_nce import shifted_loss
from ebm_lab.objectives.ssm import sliced_loss

F64 = torch.float64


def population(perturbation, precision: torch.Tensor) -> torch.Tensor:
    """CNCE of N(0, 1): Gauss-Hermite nodes in x and z, with repeated events standing for their weights."""
    import numpy as np

    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    nodes, weights = torch.tensor(nodes, dtype=F64), torch.tensor(weights / weights.sum(), dtype=F64)
    x, z = (t.reshape(-1, 1) for t in torch.meshgrid(nodes, nodes, indexing="ij"))
    y = perturbation.perturb(x, z)
    logits = 0.5 * precision * (y**2 - x**2)[:, 0] + perturbation.log_ratio(x, y)
    pairs = torch.stack([conditional_loss(g.new_zeros(1), g[None]) for g in logits])
    return (torch.outer(weights, weights).flatten() * pairs).sum()


def slope_at(perturbation, at: float) -> float:
    precision = torch.tensor(at, dtype=F64, requires_grad=True)
    return torch.autograd.grad(population(perturbation, precision), precision)[0].item()


def test_cnce_has_the_value_at_the_truth_and_the_expansion_of_score_matching():
    value = population(GaussianPerturbation(0.1), torch.tensor(1.0)).item()
    assert value == pytest.approx(1.383803660, abs=1e-8)
    # 2 log 2 + (ε²/2) J, J = E[-λ + ½ λ² x²] = -½ at λ = 1, 0 at λ = 2; the rest is of order ε⁴
    assert value == pytest.approx(2 * math.log(2) - 0.25 * 0.1**2, abs=1e-4)
    for precision, limit in ((1.0, -0.5), (2.0, 0.0)):
        value = population(GaussianPerturbation(0.01), torch.tensor(precision)).item()
        assert (value - 2 * math.log(2)) / (0.5 * 0.01**2) == pytest.approx(limit, abs=1e-3)


@pytest.mark.parametrize(
    "perturbation",
    [
        GaussianPerturbation(0.1),
        GaussianPerturbation(1.0),
        ShrinkingPerturbation(0.9, 0.3),
        ShrinkingPerturbation(0.5, 1.0),
    ],
    ids=["narrow", "wide", "shrinking", "shrinking-wide"],
)
def test_cnce_is_stationary_at_the_truth_only(perturbation):
    assert abs(slope_at(perturbation, 1.0)) < 1e-9
    assert slope_at(perturbation, 0.7) < -1e-4
    assert slope_at(perturbation, 1.4) > 1e-4


def test_the_log_ratio_of_a_perturbation_is_that_of_its_densities():
    perturbation, generator = ShrinkingPerturbation(0.8, 0.5), torch.Generator().manual_seed(0)
    x, y = (torch.randn(20, 1, 3, generator=generator, dtype=F64) for _ in range(2))

    def log_density(end, start):
        return torch.distributions.Normal(0.8 * start, 0.5).log_prob(end).flatten(1).sum(1)

    torch.testing.assert_close(perturbation.log_ratio(x, y), log_density(y, x) - log_density(x, y))


def perturbation_of(*overrides: str):
    """Of the command with these overrides."""
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=["objective=conditional_nce", "output_dir=x", *overrides])
    check_bindings(cfg)
    return instantiate(cfg.objective.perturbation, _convert_="all")


def test_perturbations_are_chosen_by_name():
    by_default = perturbation_of()
    assert isinstance(by_default, GaussianPerturbation) and by_default.scale == 0.3
    chosen = "perturbation@objective.perturbation=shrinking"
    shrinking = perturbation_of(
        chosen, "objective.perturbation.shrink=0.6", "objective.perturbation.scale=0.8"
    )
    x, z = (torch.tensor([[v]], dtype=F64) for v in (2.0, 0.5))
    y = shrinking.perturb(x, z)
    assert y.item() == pytest.approx(0.6 * 2 + 0.8 * 0.5, abs=1e-15)
    # (1 - .36)(4 - 2.56)/(2 · .64)
    assert shrinking.log_ratio(x, y).item() == pytest.approx(0.72, abs=1e-12)
    # the recipe's step holds for either
    assert perturbation_of("data=digits", chosen).scale == perturbation_of("data=digits").scale == 0.1


def test_without_the_log_ratio_an_asymmetric_perturbation_has_another_optimum():
    class Uncorrected(ShrinkingPerturbation):
        def log_ratio(self, x, y):
            return x.new_zeros(len(x))

    assert abs(slope_at(Uncorrected(0.9, 0.3), 1.0)) > 1e-3


def test_an_equal_pair_costs_twice_log_two_and_a_constant_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    energies, perturbed = (torch.randn(9, generator=generator, dtype=F64) for _ in range(2))
    assert conditional_loss(energies, energies).item() == pytest.approx(2 * math.log(2), abs=1e-15)
    moved = conditional_loss(energies + 3, perturbed + 3)
    assert moved.item() == pytest.approx(conditional_loss(energies, perturbed).item(), abs=1e-14)


@pytest.mark.parametrize(("precision", "limit"), [(1.0, -0.5), (2.0, 0.0)])
def test_small_shifts_are_score_matching(precision, limit):
    x, v = normal_grid(2**14), 0.02
    loss = shifted_loss(Scaled(precision), x, torch.full_like(x, v))
    assert (loss.item() - 2 * math.log(2)) / (0.5 * v**2) == pytest.approx(limit, abs=3e-3)


def test_small_shifts_are_the_sliced_loss_event_by_event():
    generator = torch.Generator().manual_seed(0)
    energy = Quadratic((3,)).double()
    energy.set_precision(torch.tensor([[2, 0.6, 0], [0.6, 1, 0.2], [0, 0.2, 0.7]], dtype=F64))
    x = torch.randn(50, 3, generator=generator, dtype=F64)
    v = 2 * torch.randint(0, 2, x.shape, generator=generator).double() - 1
    shifted = (shifted_loss(energy, x, 1e-3 * v) - 2 * math.log(2)) / (0.5 * 1e-3**2)
    sliced = sliced_loss(energy, x, v, variance_reduced=False)
    assert shifted.item() == pytest.approx(sliced.item(), abs=1e-4)


def test_the_truth_is_stationary_for_a_shift_of_any_length():
    x = normal_grid(2**16)
    slopes = []
    for precision in (0.7, 1.0, 1.4):
        energy = Scaled(precision)
        loss = shifted_loss(energy, x, torch.ones_like(x))
        slopes.append(torch.autograd.grad(loss, energy.precision)[0].item())
    # the quantiles miss the tails, at 1e-4 of the second moment
    assert slopes[0] < -0.01 and abs(slopes[1]) < 1e-4 and slopes[2] > 0.01

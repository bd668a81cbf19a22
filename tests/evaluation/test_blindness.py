"""What losses see of the weight of a mode: published numbers, and the losses of the objectives themselves."""

import math

import pytest
import torch

from ebm_lab.energies import ModeWeight, NoisedModeWeight, score
from ebm_lab.evaluation.blindness import (
    TwoModes,
    conditional_noise_contrastive,
    denoising,
    dual,
    energy_discrepancy,
    fisher_divergence,
    kl,
    level_classification,
    multi_scale,
    noise_contrastive,
    score_matching,
    sensitivity,
)
from ebm_lab.evaluation.quadrature import Grid, normalise
from ebm_lab.objectives.diffclf import level_classification_loss, level_logits
from ebm_lab.objectives.dual_score_matching import dual_score_loss
from ebm_lab.objectives.nce import nce_loss
from ebm_lab.objectives.noise_contrast import log_ratio
from ebm_lab.objectives.ssm import sliced_loss

F64 = torch.float64
SIGMAS = 1.0, 4.0
OF_LEVELS = dual(SIGMAS), level_classification(SIGMAS)
HALF, NINE = TwoModes.of_weight(0.5), TwoModes.of_weight(0.9)


@pytest.mark.parametrize(
    ("loss", "expected", "tolerance"),
    [
        (kl, 0.4, 1e-6),  # w - .5, as the modes do not overlap
        (noise_contrastive(37.0), 0.224390, 1e-6),
        (energy_discrepancy(50.0), 0.279430, 1e-6),
        (energy_discrepancy(1.0), 2.2e-5, 1e-6),
        (score_matching, 3.7e-8, 1e-9),
    ],
    ids=["maximum likelihood", "nce", "discrepancy 50", "discrepancy 1", "score matching"],
)
def test_derivatives_in_the_logit(loss, expected, tolerance):
    assert sensitivity(loss) == pytest.approx(expected, abs=tolerance)


def test_a_divergence_of_a_ten_millionth_where_the_likelihood_lacks_half_a_nat():
    assert float(fisher_divergence(HALF, NINE)) == pytest.approx(3.76e-8, abs=1e-10)
    assert float(kl(HALF, NINE)) == pytest.approx(-math.log(4 * 0.9 * 0.1) / 2, abs=1e-6)
    # Both score matching losses differ by a constant: the same derivative.
    assert sensitivity(fisher_divergence) == pytest.approx(sensitivity(score_matching), rel=1e-4)


@pytest.mark.parametrize(
    "loss", [kl, noise_contrastive(), energy_discrepancy(50.0), denoising(4.0), *OF_LEVELS]
)
def test_nobody_pulls_at_the_truth(loss):
    assert abs(sensitivity(loss, weight=0.5)) < 1e-10
    assert sensitivity(loss, weight=0.1) == pytest.approx(-sensitivity(loss, weight=0.9), rel=1e-6)


def test_noise_that_bridges_the_modes_sees():
    slopes = [sigma**2 * sensitivity(denoising(sigma)) for sigma in (0.1, 1.0, 2.15, 4.64)]
    assert slopes == sorted(slopes) and slopes[0] < 1e-9 and slopes[-1] > 0.1
    assert sensitivity(multi_scale((0.1, 1.0, 2.15, 4.64))) == pytest.approx(sum(slopes) / 4, rel=1e-9)
    assert sensitivity(conditional_noise_contrastive(1.0)) < 1e-6
    assert sensitivity(conditional_noise_contrastive(12.0)) > 0.05


def test_the_energy_is_the_law_of_the_formulas():
    energy = ModeWeight((1,)).double()
    energy.logit.data.copy_(NINE.logit)
    x = torch.linspace(-10, 10, 81, dtype=F64)
    torch.testing.assert_close(-energy(x[:, None]).detach(), NINE.log_prob(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(score(energy, x[:, None])[:, 0], NINE.score(x), rtol=1e-10, atol=1e-10)
    probe = x.clone().requires_grad_(True)
    (curvature,) = torch.autograd.grad(NINE.score(probe).sum(), probe)
    torch.testing.assert_close(NINE.curvature(x), curvature, rtol=1e-8, atol=1e-10)
    assert normalise(ModeWeight((2,), distance=2.0, scale=0.7).double(), 8.0, 201).log_z.value == (
        pytest.approx(0, abs=1e-9)
    )


def test_noise_adds_its_variance_to_both_modes():
    """E(x, σ_i) of N(±3, .7² + σ_i²), a level an event, and one that is bound."""
    energy = NoisedModeWeight((2,), distance=3.0, scale=0.7).double()
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    sigmas = torch.tensor([0.1, 1.0, 5.0], dtype=F64)
    for event, sigma, found in zip(x, sigmas, energy(x, sigmas), strict=True):
        wide = ModeWeight((2,), distance=3.0, scale=float((0.49 + sigma**2).sqrt())).double()
        torch.testing.assert_close(found, wide(event[None])[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found, energy.given(sigma=float(sigma))(event[None])[0])


def events(law, num):
    """`num` events of equal weight at the quantiles of a law: a mean over them is an integral to 1/num."""
    grid = Grid(law.half_width, 40_001, 1)
    axis = grid.axis
    mass = law.log_prob(axis).exp().cumsum(0) * grid.spacing
    return axis[torch.searchsorted(mass, (torch.arange(num, dtype=F64) + 0.5) / num * mass[-1])][:, None]


def test_the_losses_of_the_objectives_have_these_derivatives():
    """`nce_loss` and `sliced_loss` on quantiles, which leave the valley between the modes empty."""
    energy = ModeWeight((1,)).double()
    energy.logit.data.copy_(NINE.logit)
    x = events(HALF, 4000)
    noise = math.sqrt(37) * torch.special.ndtri((torch.arange(4000, dtype=F64) + 0.5) / 4000)[:, None]

    def log_noise(y):
        return (-(y**2) / 74 - math.log(2 * math.pi * 37) / 2)[:, 0]

    zero = torch.zeros((), dtype=F64)
    logits = [log_ratio(energy(y), zero, log_noise(y), 1) for y in (x, noise)]
    (slope,) = torch.autograd.grad(nce_loss(*logits, 1), energy.logit)
    assert float(slope) == pytest.approx(sensitivity(noise_contrastive()), abs=1e-3)
    (slope,) = torch.autograd.grad(sliced_loss(energy, x, torch.ones_like(x)), energy.logit)
    assert abs(float(slope)) < 1e-5


def test_losses_of_noise_levels_have_these_derivatives():
    """`dual_score_loss` and `level_classification_loss` on quantiles of the data and of their noise."""
    energy = NoisedModeWeight((1,)).double()
    energy.logit.data.copy_(NINE.logit)
    quantiles = (torch.arange(300, dtype=F64) + 0.5) / 300
    x, z = (part.reshape(-1, 1) for part in torch.meshgrid(
        events(HALF, 300)[:, 0], torch.special.ndtri(quantiles), indexing="ij")
    )  # fmt: skip
    levels = torch.tensor(SIGMAS, dtype=F64)
    of_dual, of_classifier = 0.0, 0.0
    for k, sigma in enumerate(SIGMAS):
        of_dual += dual_score_loss(energy, x, z, torch.full((len(x),), sigma, dtype=F64)) / len(SIGMAS)
        logits = level_logits(energy, x + sigma * z, levels)
        of_level = level_classification_loss(logits, torch.full((len(x),), k))
        of_classifier += of_level / len(SIGMAS)
    for loss, population in zip((of_dual, of_classifier), OF_LEVELS, strict=True):
        (slope,) = torch.autograd.grad(loss, energy.logit)
        assert float(slope) == pytest.approx(sensitivity(population), rel=0.02)  # 300 quantiles lack tails


def test_far_events_have_derivatives_in_single_precision():
    """exp of the difference of the terms, 120 at x = 10, overflows there."""
    energy = ModeWeight((1,))
    x = torch.tensor([[-10.0], [-6.0], [9.0], [10.0]])
    (slope,) = torch.autograd.grad(sliced_loss(energy, x, torch.ones_like(x)), energy.logit)
    assert abs(float(slope)) < 1e-6


@pytest.mark.parametrize("arguments", [{"distance": 0.0}, {"scale": -1.0}, {"weight": 1.0}])
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="must be positive and weight between 0 and 1"):
        ModeWeight((1,), **arguments)

"""Mixed sources against quadrature, sampling and autograd; the energy that can be exactly right on them."""

import math

import pytest
import torch

from ebm_lab.data import DensityData, MixedSources
from ebm_lab.data.ica import random_sources
from ebm_lab.data.point_sets import gaussian_classes
from ebm_lab.energies import ICA
from ebm_lab.evaluation.final import nll_gap
from ebm_lab.evaluation.quadrature import Grid, normalise

F64 = torch.float64
LAW = MixedSources([[1.0, 0.4], [-0.3, 0.8]])


def energy_of(unmixing) -> ICA:
    energy = ICA((len(unmixing),)).double()
    energy.unmixing.data.copy_(unmixing)
    return energy


def test_density_and_entropy_by_quadrature():
    grid = Grid(LAW.bounds, 401, 2)
    log_p = grid.evaluate(LAW.log_prob)
    assert grid.integrate(log_p.exp())[0] == pytest.approx(1, abs=2e-6)  # 1e-6 lies outside of the box
    assert -grid.integrate(log_p.exp() * log_p)[0] == pytest.approx(LAW.entropy(), abs=5e-5)
    assert LAW.entropy() == pytest.approx(4 + math.log(0.92), abs=1e-12)


def test_score_is_the_gradient_of_log_p():
    law = random_sources(5)
    x = law.sample(20, torch.Generator().manual_seed(0), F64).requires_grad_(True)
    (gradient,) = torch.autograd.grad(law.log_prob(x).sum(), x)
    torch.testing.assert_close(law.score(x), gradient, rtol=1e-12, atol=1e-12)


def test_draws_have_the_moments_of_logistic_sources():
    """Variance π²/3; |s| has mean 2 log 2 and variance π²/3 - (2 log 2)²."""
    num = 100_000
    law = random_sources(4, seed=2)
    s = law.sample(num, torch.Generator().manual_seed(0), F64) @ law.unmixing.T
    variance, mean = math.pi**2 / 3, 2 * math.log(2)
    error = math.sqrt((variance - mean**2) / num)
    assert (s.abs().mean(0) - mean).abs().max() < 4 * error
    covariance = s.T @ s / num
    off = covariance - variance * torch.eye(4, dtype=F64)
    assert off.triu(1).abs().max() < 4 * variance / math.sqrt(num)  # 6 pairs
    fourth = 7 * math.pi**4 / 15
    assert off.diagonal().abs().max() < 4 * math.sqrt((fourth - variance**2) / num)


def test_bounds_hold_all_but_a_millionth_and_are_no_looser_than_a_few_units():
    x = LAW.sample(2_000_000, torch.Generator().manual_seed(0)).abs().amax(1)
    assert (x > LAW.bounds).float().mean() < 4e-6
    assert LAW.bounds < 1.3 * x.max()


@pytest.mark.parametrize("dim", [2, 10])
def test_matrices_are_conditioned_and_a_function_of_the_seed(dim):
    law = random_sources(dim, seed=3)
    assert torch.linalg.cond(law.mixing) < dim
    assert torch.equal(law.mixing, random_sources(dim, seed=3).mixing)
    assert not torch.equal(law.mixing, random_sources(dim, seed=4).mixing)


@pytest.mark.parametrize("unmixing", [[[1.0, 0.0], [0.0, 1.0]], [[0.7, 0.5], [-0.4, 1.3]]])
def test_log_z_of_the_energy_is_the_integral(unmixing):
    energy = energy_of(torch.tensor(unmixing, dtype=F64))
    assert normalise(energy, 30.0, 401).log_z.value == pytest.approx(energy.log_partition().item(), abs=1e-6)


def test_the_gap_is_zero_at_every_form_of_the_truth():
    law = random_sources(6)
    x = law.sample(500, torch.Generator().manual_seed(0), F64)
    rows = torch.tensor([3, 0, 5, 1, 2, 4])
    signs = torch.tensor([1.0, -1, 1, -1, -1, 1], dtype=F64)
    for unmixing in (law.unmixing, signs[:, None] * law.unmixing[rows]):
        gap = nll_gap(energy_of(unmixing), law, x)
        assert abs(gap.value) < 1e-12 and gap.error < 1e-12


def test_the_gap_elsewhere_is_the_divergence():
    unmixing = torch.linalg.inv(LAW.mixing) + torch.tensor([[0.1, -0.2], [0.05, 0.1]], dtype=F64)
    energy = energy_of(unmixing)
    grid = Grid(1.5 * LAW.bounds, 401, 2)
    log_p, log_q = grid.evaluate(LAW.log_prob), normalise(energy, 1.5 * LAW.bounds, 401).log_density
    divergence, _ = grid.integrate(log_p.exp() * (log_p - log_q))
    gap = nll_gap(energy, LAW, LAW.sample(50_000, torch.Generator().manual_seed(0), F64))
    assert divergence > 0.01 and abs(gap.value - divergence) < 4 * gap.error < divergence / 5


def test_fresh_batches_are_never_seen_twice_and_come_back():
    data = DensityData(
        density=LAW,
        shape=[2],
        order_seed=1,
        num_train=100,
        num_val=10,
        num_test=10,
        batch_size=50,
        fresh=True,
    )
    data.setup()
    loader = data.train_dataloader()
    batches = [loader.batch(t).x for t in (0, 1, 2)]
    assert torch.equal(batches[0], data.train_dataloader().batch(0).x)
    rows = torch.cat([*batches, data.train_x])
    assert len(rows.unique(dim=0)) == 250
    pooled = torch.cat([loader.batch(t).x for t in range(400)]) @ LAW.unmixing.T.float()
    error = math.sqrt((7 * math.pi**4 / 15 - math.pi**4 / 9) / len(pooled))
    assert (pooled.square().mean(0) - math.pi**2 / 3).abs().max() < 4 * error


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: random_sources(1), "dim must be an integer, at least 2, got 1"),
        (lambda: MixedSources([[1.0, 2.0]]), r"mixing must be a square matrix .* got shape \(1, 2\)"),
        (lambda: MixedSources([[1.0, 2.0], [2.0, 4.0]]), "mixing must be invertible"),
        (
            lambda: DensityData(
                density=gaussian_classes(2), shape=[2], order_seed=0, labelled=True, fresh=True
            ),
            "events that are drawn anew have no labels: set labelled=false or fresh=false",
        ),
    ],
)
def test_mistakes_are_told_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()

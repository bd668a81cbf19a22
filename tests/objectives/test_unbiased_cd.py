"""Unbiased CD: the surrogate on a signed measure, and the likelihood's own gradient from short chains."""

import functools
import math

import pytest
import torch

from ebm_lab.data.batch import Batch
from ebm_lab.energies import RBM, Energy, Quadratic, all_states
from ebm_lab.noise import StandardGaussian
from ebm_lab.objectives import Optimization, Parts, UnbiasedContrastiveDivergence
from ebm_lab.objectives.maximum_likelihood import likelihood_surrogate
from ebm_lab.samplers import HMC, MALA, BlockGibbs, Gibbs, Langevin, coupled, run_chains, run_coupled_chains

F64 = torch.float64


class Scaled(Energy):
    """E(x) = λ x² / 2 + c."""

    shape = (1,)

    def __init__(self, precision: float, constant: float = 0.0) -> None:
        super().__init__()
        self.precision = torch.nn.Parameter(torch.tensor(precision, dtype=F64))
        self.constant = constant

    def forward(self, x):
        return 0.5 * self.precision * x.square().sum(1) + self.constant


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)[:, None]


def slope(loss: torch.Tensor, energy: Scaled) -> float:
    return torch.autograd.grad(loss, energy.precision)[0].item()


@pytest.mark.parametrize(("weights", "expected"), [((0.5, 0.5), 1.0), ((2.0, -1.0), 1.75)])
@pytest.mark.parametrize("constant", [0.0, 7.0])
def test_surrogate_on_a_signed_measure(weights, expected, constant):
    energy, weights = Scaled(1.5, constant), torch.tensor(weights, dtype=F64)
    phases = likelihood_surrogate(energy, column(1, -1, 2, -2), column(0, 1), weights=weights)
    assert slope(phases.loss, energy) == pytest.approx(expected, abs=1e-12)
    assert phases.loss.item() == pytest.approx(1.5 * expected, abs=1e-12)  # c cancels


def gradients(energy, x, kernel, generator) -> tuple[float, float]:
    """Of unbiased CD with chains of two steps, and of CD-2 itself."""
    chains = run_coupled_chains(
        coupled(kernel), energy, x, generator, burn_in=0, num_steps=2, max_steps=10_000
    )
    unbiased = slope(likelihood_surrogate(energy, x, chains.x, weights=chains.weights).loss, energy)
    negatives = run_chains(kernel, energy, x, 2, generator).x
    return unbiased, slope(likelihood_surrogate(energy, x, negatives).loss, energy)


@pytest.mark.parametrize(
    ("kernel", "variance"),
    [(MALA(0.1), 0.5), (Langevin(0.1), 1 / (2 * (1 - 0.1)))],
    ids=["exact for MALA", "Langevin's own law"],
)
def test_two_steps_give_the_gradient_that_infinitely_many_would(kernel, variance):
    """½ (1 - v), v the kernel's stationary variance at λ = 2, where CD-2 is far off."""
    x = (torch.arange(2000, dtype=F64) + 0.5).div(2000).mul(2).sub(1).erfinv().mul(math.sqrt(2))[:, None]
    x = x / x.square().mean().sqrt()
    energy, generator = Scaled(2.0), torch.Generator().manual_seed(0)
    found = torch.tensor([gradients(energy, x, kernel, generator) for _ in range(24)])
    error = found.std(0) / len(found) ** 0.5
    expected = 0.5 * (1 - variance)
    assert abs(found[:, 0].mean() - expected) < 4 * error[0] and error[0] < 0.02  # 1 false alarm in 16 000
    assert abs(found[:, 1].mean() - expected) > 10 * error[1]


@pytest.mark.parametrize("kernel", [BlockGibbs(), Gibbs(num_sites=1, scan="random")], ids=["block", "site"])
def test_an_rbm_of_3_and_2_units_gets_its_exact_gradient(kernel):
    """∇ of -log p by enumeration, every parameter within 4 standard errors of 11 means, where CD-1 is off."""
    rbm, generator = RBM((3,), num_hidden=2).double(), torch.Generator().manual_seed(1)
    for parameter in rbm.parameters():
        parameter.data = 2.5 * torch.randn(parameter.shape, generator=generator, dtype=F64)
    x = torch.tensor([[0, 0, 1], [1, 1, 0]], dtype=F64).repeat(500, 1)
    states = torch.cat(list(all_states((3,), "binary")))

    def gradient(loss):
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(rbm.parameters()))])

    exact = gradient(rbm(x).mean() + (-rbm(states)).logsumexp(0))
    unbiased, biased = [], []
    for _ in range(30):
        chains = run_coupled_chains(
            coupled(kernel), rbm, x, generator, burn_in=0, num_steps=1, max_steps=10_000
        )
        unbiased.append(gradient(likelihood_surrogate(rbm, x, chains.x, weights=chains.weights).loss))
        biased.append(gradient(likelihood_surrogate(rbm, x, run_chains(kernel, rbm, x, 1, generator).x).loss))
    for found, is_right in ((unbiased, True), (biased, False)):
        found = torch.stack(found)
        z = (found.mean(0) - exact) / (found.std(0) / len(found) ** 0.5)
        assert (z.abs().max() < 4) == is_right, z
    assert (torch.stack(unbiased).std(0) / 30**0.5).max() < 0.05


def objective(sampler=None, **options) -> UnbiasedContrastiveDivergence:
    optimization = Optimization(algorithm=functools.partial(torch.optim.SGD), lr=0.1)
    parts = Parts(Quadratic((2,)), sampler or Langevin(0.1), StandardGaussian((2,)), optimization)
    return UnbiasedContrastiveDivergence(parts, **options)


def test_capped_pairs_are_counted_and_reported(generator):
    """After one step no pair of Langevin chains has met, so all are given up; after 1000 none is."""
    batch = Batch(torch.randn(64, 2, generator=generator))
    given_up = objective(burn_in=0, num_steps=1, max_steps=1)
    given_up.loss(batch)
    assert given_up.metrics["capped"] == 1 and given_up.metrics["meeting_time_max"] == 1
    assert "100 %" in given_up.notes[0] and "CD of 1 steps" in given_up.notes[0]
    met = objective(max_steps=1000)
    met.loss(batch)
    assert met.metrics["capped"] == 0 and met.notes == ()
    assert 1 < met.metrics["meeting_time"] < met.metrics["meeting_time_max"] < 1000


def test_pairs_start_at_the_data_or_at_the_noise(generator):
    """k = 0 and m = 1 leave X₀ in the measure with weight ½, whatever else is there."""
    batch = Batch(torch.full((4, 2), 9.0))
    for start, far in (("data", True), ("noise", False)):
        method = objective(start=start, burn_in=0, num_steps=1, max_steps=1)
        method.loss(batch)
        # Data at 9 have energy 81; one step to a variance of about .2 leaves most of it
        assert (method.metrics["energy_model"] > 40) == far


def test_jumps_end_what_the_kernel_would_not(generator):
    """Of a standard Gaussian's own proposals all are taken: no pair outlives its second step."""
    method = objective(MALA(1e-4), start="noise", num_jumps=1)
    method.loss(Batch(torch.randn(64, 2, generator=generator)))
    assert method.metrics["meeting_time_max"] == 2 and method.metrics["capped"] == 0


def test_what_cannot_work_is_refused():
    with pytest.raises(ValueError, match="HMC has no coupled form"):
        objective(HMC(0.1))
    with pytest.raises(ValueError, match="without gradient_clip or clamp"):
        objective(Langevin(0.1, gradient_clip=1.0))
    with pytest.raises(ValueError, match="burn_in <= num_steps <= max_steps"):
        objective(burn_in=6)
    with pytest.raises(ValueError, match="num_jumps must not be negative"):
        objective(num_jumps=-1)

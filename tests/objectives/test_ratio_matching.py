"""Losses over flips against closed forms of two spins and of one bit, and against sums over all events."""

import math

import pytest
import torch
from torch.nn.functional import softplus

from ebm_lab.data.ising import random_boltzmann
from ebm_lab.energies import Energy, Ising
from ebm_lab.energies.states import binary_states
from ebm_lab.objectives.flips import flip_differences, flip_loss
from ebm_lab.objectives.ratio_matching import ratio_matching_loss

F64 = torch.float64
PHIS = {
    "ratio matching": lambda u: u.sigmoid().square(),
    "pseudo-likelihood": softplus,
    "minimum probability flow": lambda u: (u / 2).exp(),
}
every_phi = pytest.mark.parametrize("name", PHIS)


class Bit(Energy):
    """E(0) = a, E(1) = 0."""

    shape = (1,)

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(a, dtype=F64))

    def forward(self, x):
        return self.a * (1 - x[:, 0])


def two_spins(coupling: float) -> Ising:
    """E = -J s₁ s₂ with both triangles: J of the pair is half of the coupling."""
    energy = Ising((2,)).double()
    half = coupling / 2
    energy.set_couplings(torch.tensor([[0, half], [half, 0]], dtype=F64))
    return energy


@every_phi
def test_two_spins(name):
    """⟨s₁s₂⟩ = .6, four equal pairs and one unequal: J = atanh .6 = log 2 for all, with the known minima."""
    x = torch.tensor([[1, 1], [1, 1], [0, 0], [0, 0], [1, 0]], dtype=F64)
    energy = two_spins(math.log(2))
    loss = flip_loss(energy, x, PHIS[name])
    (gradient,) = torch.autograd.grad(loss, energy.pairs)
    assert gradient.abs().max() < 1e-12
    expected = {"ratio matching": 0.32, "pseudo-likelihood": 1.000804847, "minimum probability flow": 1.6}
    assert loss.item() == pytest.approx(expected[name], abs=1e-9)
    for coupling in (0.4, 1.0):  # and no other coupling is
        energy = two_spins(coupling)
        (gradient,) = torch.autograd.grad(flip_loss(energy, x, PHIS[name]), energy.pairs)
        assert gradient.abs().max() > 1e-2


def test_one_bit_leaves_its_variance():
    x = torch.tensor([[1.0]] * 8 + [[0.0]] * 2, dtype=F64)  # m = .8, log odds log 4
    energy = Bit(math.log(4))
    loss = ratio_matching_loss(energy, x)
    assert loss.item() == pytest.approx(0.16, abs=1e-12)
    assert torch.autograd.grad(loss, energy.a)[0].abs() < 1e-12


@every_phi
@pytest.mark.parametrize("seed", [0, 1])
def test_three_random_spins_are_stationary_at_the_truth(name, seed):
    """The gradient of the population, by the sum over all eight events."""
    law, states = random_boltzmann(3, scale=0.7, seed=seed), binary_states(3)
    energy = Ising((3,), field=True).double()
    energy.set_couplings(law.couplings)
    with torch.no_grad():
        energy.field.copy_(law.field)
    p = law.log_prob(states).exp()
    loss = (p * PHIS[name](flip_differences(energy, states)).sum(1)).sum()
    gradients = torch.cat(torch.autograd.grad(loss, [energy.pairs, energy.field]))
    assert gradients.abs().max() < 1e-10
    with torch.no_grad():
        energy.field.mul_(1.4)
    loss = (p * PHIS[name](flip_differences(energy, states)).sum(1)).sum()
    assert torch.cat(torch.autograd.grad(loss, [energy.pairs, energy.field])).abs().max() > 1e-3


def test_differences_are_those_of_one_flip_after_the_other():
    energy = Ising((2, 3), field=True).double()
    torch.manual_seed(0)
    for parameter in energy.parameters():
        torch.nn.init.normal_(parameter)
    x = binary_states(6)[torch.randperm(64)[:5]].view(5, 2, 3)
    found = flip_differences(energy, x)
    for site in range(6):
        flipped = x.flatten(1).clone()
        flipped[:, site] = 1 - flipped[:, site]
        torch.testing.assert_close(found[:, site], energy(x) - energy(flipped.view_as(x)))


def test_drawn_flips_have_the_same_mean():
    """Over every choice of one site an event, the loss averages to that of all sites."""
    energy = Ising((3,), field=True).double()
    torch.manual_seed(0)
    for parameter in energy.parameters():
        torch.nn.init.normal_(parameter)
    x = binary_states(3)
    losses = [ratio_matching_loss(energy, x, torch.full((8, 1), site)) for site in range(3)]
    assert losses[0] != losses[1]
    torch.testing.assert_close(torch.stack(losses).mean(), ratio_matching_loss(energy, x))

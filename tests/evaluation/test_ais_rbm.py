"""Annealed importance sampling of restricted Boltzmann machines, against log Z by enumeration."""

import pytest
import torch

from ebm_lab.energies import RBM, path_between
from ebm_lab.errors import UserError
from ebm_lab.evaluation.annealed_importance import climb, climb_back
from ebm_lab.evaluation.ladder import Ladder, linear
from ebm_lab.evaluation.log_z import AIS, Question
from ebm_lab.noise import Bernoulli, StandardGaussian
from ebm_lab.samplers import BlockGibbs, run_chains

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def machine():
    rbm = RBM((6,), num_hidden=5, scale=0.0).double()
    with torch.no_grad():
        for parameter in rbm.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=seeded(3), dtype=F64))
    return rbm


@pytest.fixture
def noise():
    bits = (torch.rand(500, 6, generator=seeded(1), dtype=F64) < torch.linspace(0.2, 0.8, 6)).double()
    fitted = Bernoulli((6,)).double()
    fitted.fit(bits)
    return fitted


def test_the_path_starts_at_the_noise_and_ends_at_the_machine(machine, noise):
    path, v = (
        path_between(noise, machine),
        torch.bernoulli(torch.full((9, 6), 0.5, dtype=F64), generator=seeded()),
    )
    torch.testing.assert_close(-path(0.0)(v) - path.log_z_start, noise.log_prob(v))
    assert path(1.0) is machine
    torch.testing.assert_close(path(1 - 1e-12)(v), machine(v))


def test_the_weights_are_differences_of_the_path(machine, noise):
    path, v = path_between(noise, machine), noise.sample(9, seeded(2))
    for beta, following in ((0.0, 0.1), (0.3, 0.8), (0.9, 1.0)):
        torch.testing.assert_close(path.weigh(v, beta)(following), path(beta)(v) - path(following)(v))


def test_weights_average_to_z_from_both_ends(machine, noise):
    """E[w] = Z / Z_0 however few the levels; E[1/w] from exact events; 4 standard errors."""
    path, ladder, exact = path_between(noise, machine), Ladder(linear(6)), float(machine.log_partition())
    up = climb(path, BlockGibbs(), ladder, 20_000, seeded())
    share = (up.log_weights - exact).exp()
    assert abs(share.mean() - 1) < 4 * share.std() / len(share) ** 0.5
    v = run_chains(BlockGibbs(), machine, noise.sample(20_000, seeded(5)), 300, seeded(6)).x
    down = climb_back(path, BlockGibbs(), ladder, v, seeded(7))
    share = (exact - down.log_weights).exp()
    assert abs(share.mean() - 1) < 4 * share.std() / len(share) ** 0.5


def test_the_bracket_holds_the_exact_number(machine, noise):
    v = noise.sample(300, seeded(8))
    question = Question(machine, noise, v, "binary", 1.0, 11, seeded(9))
    ais = AIS(kernel=BlockGibbs(), num_chains=300, num_temperatures=200, schedule="linear", reverse_steps=300)
    found, exact = ais(question), float(machine.log_partition())
    assert found.doubt is None
    for side in (found.estimate, found.reverse):
        assert abs(side.value - exact) < 4 * side.error
        assert side.error < 0.05


def test_noise_without_log_odds_is_refused(machine):
    with pytest.raises(UserError, match="annealed from noise=bernoulli, the run has StandardGaussian"):
        path_between(StandardGaussian((6,)), machine)

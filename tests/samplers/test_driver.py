import copy

import pytest
import torch
from torch import nn

from ebm_lab.samplers import HMC, MALA, Langevin, run_chains

F64 = torch.float64
KERNELS = [Langevin(0.1), MALA(0.1), HMC(0.1, 3)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def quadratic(x):
    return 0.5 * x.square().flatten(1).sum(1)


class Network(nn.Module):
    """A power iteration, which a forward pass in training mode would move."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 8))

    def forward(self, x):
        return torch.tanh(self.first(x)).sum(1) + quadratic(x)


def test_the_energy_is_restored_after_an_error():
    energy = Network().double()
    with pytest.raises(FloatingPointError):
        run_chains(MALA(0.1), energy, torch.full((1, 2), torch.nan, dtype=F64), 1, seeded())
    assert energy.training and energy.first.bias.requires_grad


def test_training_mode_would_have_moved_the_power_iteration():
    energy = Network().double()
    before = copy.deepcopy(energy.state_dict())
    energy(torch.randn(5, 2, dtype=F64, generator=seeded()))
    assert any(not torch.equal(before[name], value) for name, value in energy.state_dict().items())


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: type(k).__name__)
def test_the_driver_is_the_kernel_in_a_loop(kernel):
    x = torch.randn(6, 1, 2, 2, generator=seeded(), dtype=F64)
    chains = run_chains(kernel, quadratic, x, 5, seeded(1), record_every=2)

    generator, state, trace, xs, rates = seeded(1), kernel.init(quadratic, x), [], [], []
    for _ in range(5):
        state, info = kernel.step(quadratic, state, generator)
        trace.append(info.energy.mean())
        rates.append(info.acceptance)
        xs.append(state.x)
    assert torch.equal(chains.x, xs[-1]) and torch.equal(chains.samples, torch.stack([xs[1], xs[3]]))
    torch.testing.assert_close(chains.energies, torch.stack(trace))
    torch.testing.assert_close(chains.energies[0], quadratic(x).mean())
    torch.testing.assert_close(chains.energies[-1], quadratic(xs[-2]).mean())
    torch.testing.assert_close(chains.gradient_norm, xs[-2].flatten(1).norm(dim=1).mean())
    if rates[0] is not None:
        torch.testing.assert_close(chains.acceptance, torch.stack(rates).mean())


@pytest.mark.parametrize("num_steps", [63, 64, 65, 130])
def test_long_traces_keep_every_step_in_order(num_steps):
    # Gradient descent from 1: x_k = 0.9^k, so the energy before step k is 0.81^k / 2.
    chains = run_chains(Langevin(0.1, 0.0), quadratic, torch.ones(3, 1, dtype=F64), num_steps, None)
    expected = 0.5 * 0.81 ** torch.arange(num_steps, dtype=F64)
    torch.testing.assert_close(chains.energies, expected, rtol=1e-10, atol=0)


def test_what_a_kernel_does_not_have_is_none():
    chains = run_chains(Langevin(0.1), quadratic, torch.zeros(3, 2), 2, seeded())
    assert (chains.samples, chains.acceptance, chains.clipped) == (None, None, None)


def test_clipped_fraction_is_averaged():
    # Gradients (x = 1, 0.1) against a bound of 0.5, T = 0, tiny step: exactly half is clipped in each step.
    x = torch.tensor([[1.0, 0.1]], dtype=F64)
    chains = run_chains(Langevin(1e-6, 0.0, gradient_clip=0.5), quadratic, x, 3, None)
    assert chains.clipped.item() == 0.5


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: type(k).__name__)
def test_no_steps_return_the_start(kernel):
    x = torch.randn(3, 2, generator=seeded())
    chains = run_chains(kernel, quadratic, x, 0, seeded(), record_every=1)
    assert torch.equal(chains.x, x)
    assert chains.samples.shape == (0, 3, 2) and chains.energies.shape == (0,)
    assert (chains.acceptance, chains.gradient_norm, chains.clipped) == (None, None, None)


def test_start_is_left_unchanged_and_no_grad_around_is_fine():
    x = torch.ones(2, 2)
    with torch.no_grad():
        moved = run_chains(Langevin(0.5, 0.0), quadratic, x, 1, None).x
    assert x.eq(1).all() and moved.eq(0.5).all()


@pytest.mark.parametrize(
    ("num_steps", "record_every", "words"),
    [(-1, None, "num_steps must be at least 0, got -1"), (1, 0, "record_every must be at least 1")],
)
def test_lengths_are_checked(num_steps, record_every, words):
    with pytest.raises(ValueError, match=words):
        run_chains(Langevin(0.1), quadratic, torch.zeros(1, 1), num_steps, None, record_every=record_every)

"""What every kernel of configs/sampler owes the others; a new YAML joins by existing."""

import copy
import math

import hydra
import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from ebm_lab import schema
from ebm_lab.cli import CONFIGS
from ebm_lab.noise import StandardGaussian
from ebm_lab.samplers import ExactKernel, run_chains

F64 = torch.float64
SHAPES = [(2,), (1, 4, 4)]


def make(name, shape=(2,)):
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=[f"sampler={name}", "output_dir=x"])
    return instantiate(cfg.sampler, _convert_="all").on(StandardGaussian(shape).double())


NAMES = sorted(f.stem for f in (CONFIGS / "sampler").glob("*.yaml"))
NAMES = [
    name for name in NAMES if "real" in make(name).domains
]  # those of discrete events have tests of their own
every_kernel = pytest.mark.parametrize("name", NAMES)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def quadratic(precision):
    return lambda x: 0.5 * (precision * x.square()).flatten(1).sum(1)


def curved(x):
    return (0.5 * x.square() + 0.25 * x**4).flatten(1).sum(1)


class Network(nn.Module):
    """Everything that a sampler could disturb: power iteration, dropout, a frozen parameter."""

    def __init__(self, shape):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.utils.parametrizations.spectral_norm(nn.Linear(math.prod(shape), 8))
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(8, 1)
        self.last.bias.requires_grad_(False)
        self.parameter_graphs = self.events = 0

    def forward(self, x):
        energies = self.last(self.dropout(torch.tanh(self.first(x.flatten(1))))).squeeze(1) + quadratic(1.0)(
            x
        )
        self.parameter_graphs += any(p.requires_grad for p in self.parameters())
        self.events += len(x)
        return energies


@every_kernel
@every_shape
def test_the_energy_is_left_as_it_was_found(name, shape):
    kernel, energy = make(name, shape), Network(shape).double()
    energy.dropout.eval()  # a mixed mode, to be kept mixed
    energy.last.weight.grad = torch.full_like(energy.last.weight, 7.0)
    before = copy.deepcopy(energy.state_dict())
    modes = [module.training for module in energy.modules()]
    learning = [p.requires_grad for p in energy.parameters()]
    x = 0.3 * torch.randn(5, *shape, generator=seeded(), dtype=F64)
    x.requires_grad_(True)
    chains = run_chains(kernel, energy, x, 4, seeded(1))

    assert all(torch.equal(before[key], value) for key, value in energy.state_dict().items())
    assert [module.training for module in energy.modules()] == modes
    assert [p.requires_grad for p in energy.parameters()] == learning
    assert energy.last.weight.grad.eq(7).all() and energy.first.bias.grad is None and x.grad is None
    assert energy.parameter_graphs == 0
    assert not chains.x.requires_grad and not torch.equal(chains.x, x)


@every_kernel
@every_shape
def test_randomness_comes_from_the_generator_alone(name, shape):
    kernel, x = make(name, shape), 0.3 * torch.randn(3, *shape, generator=seeded())
    state = torch.get_rng_state()
    first, again, other = (run_chains(kernel, curved, x, 3, seeded(s)).x for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.dtype == x.dtype and first.shape == x.shape


@every_kernel
def test_a_step_costs_what_it_says(name):
    kernel, energy = make(name).freeze(), Network((2,)).double()
    x = 0.1 * torch.randn(5, 2, generator=seeded(), dtype=F64)
    counts = []
    for num_steps in (3, 7):
        energy.events = 0
        run_chains(kernel, energy, x, num_steps, seeded(1))
        counts.append(energy.events)
    assert counts[1] - counts[0] == 4 * 5 * kernel.evaluations_per_step


@every_kernel
@every_shape
def test_every_event_goes_its_own_way(name, shape):
    """The steepness of one event's energy changes the path of that event only; where a kernel rejects, it
    rejects that event only. A kernel that adapts learns from all of them: it is frozen."""
    kernel, x = make(name, shape).freeze(), torch.zeros(4, *shape, dtype=F64)
    x[1:] = 0.3 * torch.randn(3, *shape, generator=seeded(), dtype=F64)

    def run(steepness):
        factors = torch.tensor([steepness, 1.0, 1.0, 1.0], dtype=F64)
        return run_chains(kernel, lambda x: factors.repeat(len(x) // 4) * curved(x), x, 5, seeded(1)).x

    gentle, steep = run(1.0), run(1e6)
    assert torch.equal(gentle[1:], steep[1:]) and not torch.equal(gentle[0], steep[0])
    if isinstance(kernel, ExactKernel):
        assert torch.equal(steep[0], x[0])  # at the bottom of a funnel: nothing is accepted there
        assert all(not torch.equal(a, b) for a, b in zip(steep[1:], x[1:], strict=True))


@every_kernel
@every_shape
@pytest.mark.parametrize("factor", [0.5, 0.01])
def test_a_scaled_kernel_walks_a_scaled_path(name, shape, factor):
    kernel, x = make(name, shape).freeze(), 0.1 * torch.randn(6, *shape, generator=seeded(), dtype=F64)
    path = run_chains(kernel, curved, x, 4, seeded(1), record_every=1)
    scaled = run_chains(
        kernel.at_scale(factor), lambda x: curved(x / factor), factor * x, 4, seeded(1), record_every=1
    )
    torch.testing.assert_close(scaled.samples, factor * path.samples, rtol=1e-9, atol=1e-12 * factor)
    assert kernel.at_scale(factor).temperature == kernel.temperature
    assert kernel.at_scale(factor).describe().partition(" ")[0] == kernel.describe().partition(" ")[0]


@every_kernel
def test_the_gaussian_law_is_the_known_one_or_is_refused(name):
    """`gaussian_precision` against a long run, in standard errors of independent chains.

    The variance is that of one step on a flat energy, so that bias shows and chains forget their start, of
    half the variance, in some twenty steps; 2 coordinates of 5000 chains give a relative error of √(2/n).
    """
    kernel = make(name)
    if kernel.temperature is None:
        assert kernel.describe()
        with pytest.raises(ValueError, match="stationary variance is known for"):
            kernel.gaussian_precision(torch.tensor(1.0, dtype=F64))
        return
    generator, n = seeded(), 10_000
    flat, start = (lambda x: 0 * x.sum(1)), torch.zeros(n // 2, 2, dtype=F64)
    variance = run_chains(kernel.freeze(), flat, start, 1, generator).x.square().mean()
    precision = kernel.gaussian_precision(variance)
    x = (variance / 2).sqrt() * torch.randn(n // 2, 2, generator=generator, dtype=F64)
    x = run_chains(kernel, quadratic(precision), x, 80, generator).x
    z = (x.square().mean() / variance - 1) / math.sqrt(2 / n)
    assert abs(z) < 4
    assert abs(x.mean()) < 4 * (variance / n).sqrt()


@every_kernel
def test_a_saved_kernel_is_found_again(name):
    kernel, again = make(name), make(name)
    with kernel.adapting():
        run_chains(kernel, curved, 0.1 * torch.randn(4, 2, generator=seeded()), 3, seeded(1))
    again.load_state_dict(kernel.state_dict())
    x = 0.1 * torch.randn(4, 2, generator=seeded())
    a, b = (run_chains(k.freeze(), curved, x, 3, seeded(1)).x for k in (kernel, again))
    assert torch.equal(a, b) and again.state_dict() == kernel.state_dict()

"""Closed forms and invariants of every energy."""

import math

import pytest
import torch

from ebm_lab.energies import (
    MLP,
    RBM,
    ConvNet,
    DensityEnergy,
    Energy,
    GaussianBase,
    GaussianMixtureEnergy,
    Ising,
    Mixture,
    Potts,
    Quadratic,
    ResNet,
    ScoreNetwork,
    Sum,
    Tempered,
    UNet,
    WideResNet,
    energy_and_gradient,
    frozen,
    score,
)
from ebm_lab.noise import Histograms, StandardGaussian
from ebm_lab.samplers import Langevin, run_chains


def randomised(energy: Energy) -> Energy:
    """Normal parameters, where those at the start leave nothing to test."""
    for parameter in energy.parameters():
        torch.nn.init.normal_(parameter)
    return energy


ENERGIES = {
    "mlp": lambda: MLP((3,), width=8, depth=2, base=GaussianBase((3,), scale=2.0)),
    "mlp_of_images": lambda: MLP((1, 5, 4), width=8, depth=1, activation="tanh"),
    "convnet": lambda: ConvNet((2, 5, 7), channels=(4, 6, 6), hidden=8),
    "resnet": lambda: ResNet((2, 5, 7), channels=(4, 6), base=GaussianBase((2, 5, 7), scale=2.0)),
    "normalised_resnet": lambda: ResNet((2, 5, 7), channels=(4, 6), spectral_norm=True),
    "wide_resnet": lambda: WideResNet((1, 7, 5)),
    "unet": lambda: UNet((2, 5, 7), channels=(4, 5, 6), base=GaussianBase((2, 5, 7), scale=2.0)),
    "residual_unet": lambda: UNet((2, 5, 7), channels=(4, 6), form="residual", scale=0.5),
    "quadratic": lambda: Quadratic((3,)),
    "gaussian_mixture": lambda: GaussianMixtureEnergy((3,), num_components=4),
    "rbm": lambda: randomised(RBM((2, 2), num_hidden=3)),
    "ising": lambda: randomised(Ising((4,), field=True)),
    "potts": lambda: randomised(Potts((3, 2))),
    "density": lambda: DensityEnergy(StandardGaussian((3,), scale=1.5)),
    "sum": lambda: Sum([Quadratic((3,)), GaussianMixtureEnergy((3,))], weights=(0.3, 2.0)),
    "mixture": lambda: Mixture([Quadratic((3,)), GaussianMixtureEnergy((3,))], weights=(0.3, 2.0)),
    "tempered": lambda: Tempered(MLP((3,), width=8, depth=1), 0.5),
}


@pytest.fixture(params=ENERGIES)
def energy(request) -> Energy:
    torch.manual_seed(0)
    return ENERGIES[request.param]().double()


def events(energy: Energy, num: int = 5) -> torch.Tensor:
    return torch.randn(num, *energy.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_events_do_not_see_each_other(energy):
    # No batch norm: E of a batch is E of its events, and dE(x_i)/dx_j = 0.
    x = events(energy)
    alone = torch.cat([energy(x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(energy(x), alone, rtol=1e-12, atol=1e-12)


def test_gradient_is_the_derivative(energy):
    x = events(energy)
    _, gradient = energy_and_gradient(energy, x)
    direction = torch.randn_like(x)
    h = 1e-6
    slope = (energy(x + h * direction) - energy(x - h * direction)) / (2 * h)
    torch.testing.assert_close((gradient * direction).flatten(1).sum(1), slope.detach(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(score(energy, x), -gradient)


def test_score_is_conservative(energy):
    # u^T J v = v^T J u for the Jacobian J of the score, as it is a gradient.
    x, u, v = events(energy), torch.randn(5, *energy.shape).double(), torch.randn(5, *energy.shape).double()
    x.requires_grad_(True)
    s = score(energy, x, create_graph=True)
    if not s.requires_grad:
        pytest.skip("the score is linear without parameters: its Jacobian is constant")
    (ju,) = torch.autograd.grad((s * u).sum(), x, retain_graph=True)
    (jv,) = torch.autograd.grad((s * v).sum(), x)
    torch.testing.assert_close((ju * v).sum(), (jv * u).sum(), rtol=1e-10, atol=1e-10)


def test_hessian_vanishes_exactly_where_an_energy_says_so():
    for name, smooth in (("silu", True), ("relu", False)):
        energy = MLP((2,), width=16, depth=2, activation=name).double()
        x = events(energy).requires_grad_(True)
        s = score(energy, x, create_graph=True)
        (curvature,) = torch.autograd.grad(s.sum(), x)
        assert energy.twice_differentiable is smooth
        assert bool(curvature.abs().max() > 1e-6) is smooth


def test_an_energy_is_as_smooth_as_its_base():
    """Second derivatives of a histogram are zero, so that a score matched with them ignores it."""
    for density, smooth in ((Histograms((2,)), False), (StandardGaussian((2,)), True)):
        assert MLP((2,), base=DensityEnergy(density)).twice_differentiable is smooth


@pytest.mark.parametrize("dim", [2, 10])
def test_quadratic_is_a_gaussian(dim):
    energy = Quadratic((dim,)).double()
    root = torch.randn(dim, dim, generator=torch.Generator().manual_seed(0)).double()
    precision = root @ root.T + torch.eye(dim)
    energy.set_precision(precision)
    torch.nn.init.normal_(energy.mean)
    normal = torch.distributions.MultivariateNormal(energy.mean.detach(), precision_matrix=precision)
    x = events(energy)
    torch.testing.assert_close(energy.precision, precision)
    torch.testing.assert_close(-energy(x) - energy.log_partition(), normal.log_prob(x))


def test_log_partition_of_the_specified_gaussian():
    energy = Quadratic((2,)).double()
    energy.set_precision(torch.tensor([[2, 0.6], [0.6, 1]], dtype=torch.float64))
    assert energy.log_partition().item() == pytest.approx(1.590528945, abs=1e-9)


def test_gaussian_mixture_integrates_to_its_partition():
    energy = GaussianMixtureEnergy((1,), num_components=3).double()
    with torch.no_grad():
        energy.heights.copy_(torch.tensor([0.3, -1.0, 2.0]))
        energy.log_scales.copy_(torch.tensor([[0.2], [-0.5], [0.0]]))
    x = torch.linspace(-20, 20, 20001, dtype=torch.float64)[:, None]
    integral = torch.trapezoid((-energy(x)).exp(), dx=0.002)
    assert integral.log().item() == pytest.approx(energy.log_partition().item(), abs=1e-9)


def test_compositions():
    # The product of N(0,1) and N(1,1) is N(1/2, 1/2); temperature divides; a mixture adds densities.
    zero, one = Quadratic((1,)).double(), Quadratic((1,)).double()
    torch.nn.init.ones_(one.mean)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    product = Sum([zero, one])(x)
    torch.testing.assert_close(product, (x[:, 0] - 0.5) ** 2 + 0.25)
    torch.testing.assert_close(Tempered(zero, 0.5)(x), x[:, 0] ** 2)
    mixed = Mixture([zero, one], weights=(0.25, 0.75)).double()(x)
    torch.testing.assert_close((-mixed).exp(), 0.25 * (-zero(x)).exp() + 0.75 * (-one(x)).exp())
    torch.testing.assert_close(GaussianBase((1,), scale=2.0)(x), x[:, 0] ** 2 / 8)
    density = DensityEnergy(StandardGaussian((1,))).double()
    torch.testing.assert_close(density(x), 0.5 * x[:, 0] ** 2 + 0.5 * math.log(2 * math.pi))


def test_a_column_of_energies_is_refused():
    class Column(Energy):
        shape = (2,)

        def forward(self, x):
            return x.sum(1, keepdim=True)

    with pytest.raises(ValueError, match=r"energy has shape \(batch,\) = \(3,\)"):
        Column()(torch.zeros(3, 2))


class Noised(Energy):
    """The energy of N(0, σ²I)."""

    shape = (2,)
    noise_conditional = True

    def forward(self, x, sigma):
        return 0.5 * x.square().sum(1) / sigma**2


def test_a_condition_is_bound_before_anyone_sees_x():
    x = torch.ones(3, 2)
    bound = Noised().given(sigma=torch.tensor(2.0))
    torch.testing.assert_close(bound(x), torch.full((3,), 0.25))
    torch.testing.assert_close(score(bound, x), -x / 4)


def test_a_condition_may_be_one_an_event(generator):
    # Three groups of chains, each at its own noise level, in one batch: x' = (1 - h/σ²) x + √(2h) z.
    sigma = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64).repeat_interleave(4000)
    bound = Noised().given(sigma=sigma)
    x = torch.ones(12000, 2, dtype=torch.float64)
    torch.testing.assert_close(bound(x), 1 / sigma**2)
    variances = run_chains(Langevin(0.1), bound, x, 60, generator).x.view(3, -1).var(1, correction=0)
    # σ² / (1 - h / 2σ²), less what 60 steps leave; 8000 draws: 4 standard errors are 4 √(2/8000) = 6 %
    decay = (1 - 0.1 / sigma[::4000] ** 2) ** 120
    expected = sigma[::4000] ** 2 / (1 - 0.05 / sigma[::4000] ** 2) * (1 - decay)
    torch.testing.assert_close(variances, expected, rtol=0.06, atol=0)


def test_a_condition_of_another_length_is_refused():
    bound = Noised().given(sigma=torch.ones(3))
    with pytest.raises(ValueError, match="sigma is bound for 3 events, one each, and 1 were given"):
        bound(torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"one number for all .* got the shape \(3, 1\)"):
        Noised().given(sigma=torch.ones(3, 1))


def test_a_score_network_is_its_own_score():
    class Linear(ScoreNetwork):
        shape = (2,)

        def forward(self, x):
            return -3 * x

    x = torch.ones(3, 2)
    torch.testing.assert_close(score(Linear(), x), -3 * x)


def test_frozen_leaves_everything_as_it_was():
    energy = MLP((2,), width=4, depth=1)
    energy.network[1].weight.requires_grad_(False)
    energy.network[2].eval()
    modes = [m.training for m in energy.modules()]
    learning = [p.requires_grad for p in energy.parameters()]
    with pytest.raises(RuntimeError, match="inside"), frozen(energy):
        assert not any(m.training for m in energy.modules())
        assert not any(p.requires_grad for p in energy.parameters())
        raise RuntimeError("inside")
    assert [m.training for m in energy.modules()] == modes
    assert [p.requires_grad for p in energy.parameters()] == learning


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: ConvNet((2,)), "convnet needs images .* energy=mlp"),
        (lambda: MLP((2,), width=0), "width and depth must be at least 1"),
        (lambda: MLP((2,), activation="swich"), "activation must be one of"),
        (lambda: GaussianBase((2,), scale=-1.0), "scale must be positive"),
        (lambda: Tempered(Quadratic((2,)), 0.0), "temperature must be positive"),
        (lambda: GaussianMixtureEnergy((2,), num_components=0), "num_components must be at least 1"),
    ],
)
def test_mistakes_are_told_in_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()

"""Gaussians on the line, E_β = λ_β x²/2: every expectation of a climb is known."""

import math

import pytest
import torch

from ebm_lab.energies import AnnealingPath, Energy, GeometricPath, Quadratic, path_between
from ebm_lab.evaluation import annealed_importance
from ebm_lab.evaluation.annealed_importance import (
    climb,
    climb_back,
    forward_estimate,
    reverse_estimate,
    reverse_log_prob,
    thermodynamic_integral,
)
from ebm_lab.evaluation.bridge import bennett
from ebm_lab.evaluation.ladder import Ladder, linear, sigmoid
from ebm_lab.noise import StandardGaussian
from ebm_lab.samplers import HMC, MALA, Constant, ExactKernel, Independence, Info, Langevin, State

WIDE, NARROW = 0.25, 1.0  # precisions: E₀ = x²/8, E₁ = x²/2, so log Z₁/Z₀ = -log 2
LOG_Z_WIDE = 0.5 * math.log(2 * math.pi / WIDE)


class Parabola(Energy):
    """E(x) = λ x²/2."""

    shape = (1,)

    def __init__(self, precision):
        super().__init__()
        self.precision = precision

    def forward(self, x):
        return 0.5 * self.precision * x[:, 0].square()


class Precisions(AnnealingPath):
    """λ_β = (1 - β) λ_0 + β λ_1, from draws that may be handed in."""

    def __init__(self, start=WIDE, end=NARROW, draws=None):
        self.start, self.end, self.draws = start, end, draws
        self.log_z_start = 0.5 * math.log(2 * math.pi / start)

    def __call__(self, beta):
        return Parabola((1 - beta) * self.start + beta * self.end)

    def sample(self, num, generator):
        if self.draws is not None:
            return self.draws
        return torch.randn(num, 1, generator=generator, dtype=torch.float64) / math.sqrt(self.start)


class Autoregression(ExactKernel):
    """x' = ρ x + √(1 - ρ²) z / √λ, which leaves N(0, 1/λ) invariant; ρ = 0 is a perfect transition."""

    evaluations_per_step = 0

    def __init__(self, rho=0.0, draws=None):
        super().__init__()
        self.rho, self.draws, self.levels = rho, draws, []
        self.step_size = Constant(1.0)

    def init(self, energy, x):
        return State(x, None, None, 0)

    def step(self, energy, state, generator, draw=None):
        self.levels.append((state.step, energy.precision, self.step_size(state.step)))
        z = self.draws
        if z is None:
            z = torch.randn(state.x.shape, generator=generator, dtype=state.x.dtype)
        x = self.rho * state.x + math.sqrt((1 - self.rho**2) / energy.precision) * z
        return State(x, None, None, state.step + 1), Info(state.x[:, 0], None, None, None)


class Keeping(Autoregression):
    """The same kernel, which keeps E of its state as MALA does."""

    def init(self, energy, x):
        return State(x, energy(x), None, 0)

    def step(self, energy, state, generator, draw=None):
        after, info = super().step(energy, state, generator)
        return after._replace(energy=energy(after.x)), info


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def mean_and_error(values):
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("kernel", [Autoregression, Keeping])
@pytest.mark.parametrize(("start", "end", "ratio"), [(1.0, 0.25, 2.0), (0.25, 1.0, 0.5)])
def test_the_mean_weight_is_exact_for_every_invariant_kernel(rho, kernel, start, end, ratio):
    """Two stages, by quadrature over the start and the kernel's draw, which are laid out on a grid.

    exp(-z²/2) on [-40, 40] by steps of 1/8 integrates the two polynomials' exponential to the last digit; a
    weight taken after the move, or at the wrong β, gives 2 for ρ = 1 only.
    """
    nodes = torch.linspace(-40, 40, 641, dtype=torch.float64)
    first, second = (axis.reshape(-1, 1) for axis in torch.meshgrid(nodes, nodes, indexing="ij"))
    path = Precisions(start, end, draws=first / math.sqrt(start))
    climbed = climb(path, kernel(rho, second), Ladder(linear(2)), len(first), None)
    log_p = -0.5 * (first.square() + second.square()).squeeze(1) - math.log(2 * math.pi)
    mean = (log_p + climbed.log_weights - path.log_z_start).exp().sum() / 64
    assert mean.item() == pytest.approx(ratio, abs=1e-9)


def test_perfect_transitions_in_ten_levels():
    """E log w = Σ_k (λ_k - λ_{k+1}) / (2 λ_k) up, and over λ_{k+1} for the way down: the Riemann sums."""
    num, ladder = 100_000, Ladder(linear(10))
    for start, end, low, high in (
        (1.0, 0.25, 0.640380515, 0.752880515),
        (0.25, 1.0, -0.752880515, -0.640380515),
    ):
        path = Precisions(start, end)
        up = climb(path, Autoregression(), ladder, num, generator())
        x = torch.randn(num, 1, generator=generator(1), dtype=torch.float64) / math.sqrt(end)
        down = climb_back(path, Autoregression(), ladder, x, generator(2))
        for climbed, expected in ((up, low), (down, high)):
            mean, error = mean_and_error(climbed.log_weights - path.log_z_start)
            assert abs(mean - expected) < 4 * error
            assert error < 2e-3
        truth = 0.5 * math.log(2 * math.pi / end)
        for found in (
            forward_estimate(up, ""),
            reverse_estimate(down, ""),
            bennett(up.log_weights, down.log_weights),
        ):
            assert abs(found.value - truth) < 4 * found.error
            assert found.error < 2e-3
        # its own error is of second order in the gaps: (1/12) Σ Δ³ |U''| < 3e-3 here
        integral = thermodynamic_integral(up)
        assert abs(integral.value - truth) < 4 * integral.error + 3e-3


@pytest.mark.parametrize(("sizes", "seen"), [(None, (1.0, 1.0)), ((9.0, 0.5, 0.25), (0.5, 0.25))])
def test_moves_see_their_level_its_energy_and_its_step_size(sizes, seen):
    climbed = [(1, 0.625, seen[0])] * 2 + [(2, 1.0, seen[1])] * 2
    kernel, ladder = Autoregression(), Ladder(linear(2), sizes)
    climb(Precisions(), kernel, ladder, 3, generator(), num_steps=2)
    assert kernel.levels == climbed
    kernel = Autoregression()
    climb_back(Precisions(), kernel, ladder, torch.ones(3, 1).double(), generator(), num_steps=2)
    assert kernel.levels == climbed[::-1]


@pytest.mark.parametrize("population", [1, 20])
@pytest.mark.parametrize(
    "kernel",
    [MALA(0.5), HMC(0.5, num_leapfrog=3), Independence(StandardGaussian((1,), 1.3).double())],
    ids=lambda kernel: type(kernel).__name__,
)
def test_the_mean_weight_is_unbiased_with_the_kernels_of_the_lab(kernel, population):
    """Few levels and steps: log Ẑ of many, in standard errors; both w and 1/w have a variance."""
    path = GeometricPath(StandardGaussian((1,), scale=1.3).double(), Parabola(NARROW))
    climbed = climb(path, kernel, Ladder(linear(4)), 40_000, generator(), population=population)
    found = forward_estimate(climbed, "")
    assert abs(found.value - 0.5 * math.log(2 * math.pi)) < 4 * found.error
    assert found.error < 0.01
    back = torch.randn(20_000, 1, generator=generator(1), dtype=torch.float64)
    found = reverse_estimate(climb_back(path, kernel, Ladder(linear(4)), back, generator(2)), "")
    assert abs(found.value - 0.5 * math.log(2 * math.pi)) < 4 * found.error
    assert found.error < 0.01


def test_a_kernel_at_the_model_alone_would_be_biased():
    """What the test above sees: moves that leave another law invariant than the level's."""

    class Wrong(Precisions):
        def __call__(self, beta):
            return Parabola((1 - beta**3) * self.start + beta**3 * self.end)

        def weigh(self, x, beta):
            return lambda after: 0.5 * (beta - after) * (self.end - self.start) * x[:, 0].square()

    climbed = climb(Wrong(), Autoregression(), Ladder(linear(4)), 40_000, generator())
    found = forward_estimate(climbed, "")
    assert abs(found.value - 0.5 * math.log(2 * math.pi)) > 10 * found.error


def test_a_population_without_moves_is_importance_sampling(monkeypatch):
    """ρ = 1 never moves: without resampling w telescopes to exp(E₀ - E₁), and populations to its means."""
    x = torch.randn(60, 1, generator=generator(), dtype=torch.float64) * 2
    whole = (Parabola(WIDE)(x) - Parabola(NARROW)(x)).view(-1, 6)
    monkeypatch.setattr(annealed_importance, "RESAMPLE_BELOW", 0.0)
    for population in (1, 6):
        climbed = climb(
            Precisions(draws=x), Autoregression(1.0), Ladder(sigmoid(7)), 60, None, population=population
        )
        expected = whole.flatten() if population == 1 else whole.logsumexp(1) - math.log(6)
        torch.testing.assert_close(climbed.log_weights - LOG_Z_WIDE, expected)


def test_resampling_keeps_the_mean_and_lowers_the_spread():
    """In 20 dimensions of slow moves: 2000 populations of 8; AIS spreads by e^±3, and both are unbiased."""
    energy = Quadratic((20,)).double()
    energy.set_precision(torch.eye(20).double() * 4)
    path = GeometricPath(StandardGaussian((20,)).double(), energy)
    truth = energy.log_partition().item()
    errors = []
    for population in (1, 8):
        climbed = climb(path, MALA(0.05), Ladder(linear(8)), 16_000, generator(), population=population)
        found = forward_estimate(climbed, "")
        assert abs(found.value - truth) < 4 * found.error
        errors.append(found.error)
    assert errors[1] < 0.7 * errors[0]


def test_reverse_annealing_of_events_is_a_density_and_lies_below_the_model():
    """∫ E p̂(x) dx = 1 over a grid of x, and E log p̂ ≤ log p_ann; perfect transitions give log p itself."""
    nodes = torch.linspace(-6, 6, 481, dtype=torch.float64)[:, None]
    path, ladder = Precisions(), Ladder(linear(8))  # with 3 levels 1/w has no variance
    log_p = -0.5 * nodes[:, 0].square() - 0.5 * math.log(2 * math.pi)
    many = {"chains_per_event": 400}
    for rho in (0.0, 0.8):
        found = reverse_log_prob(path, Autoregression(rho), ladder, nodes, generator(), **many)
        # 100 000 weights where p is, of relative spread below 1
        assert (found.exp().sum() / 40).item() == pytest.approx(1, abs=4 / math.sqrt(100_000))
    exact = reverse_log_prob(path, Autoregression(0.0), ladder, nodes, generator(), **many)
    assert (exact - log_p).abs().max() < 6 * 0.5 / math.sqrt(400)  # weights of relative spread .5
    # of one chain: E log p̂ - log p = log Z₁/Z₀ - E log w, with E log w the Riemann sum of the way down
    single = reverse_log_prob(path, Autoregression(0.0), ladder, nodes.repeat(20, 1), generator())
    mean, error = mean_and_error(single - log_p.repeat(20))
    gap = (NARROW - WIDE) / 8
    expected = -math.log(2) + sum(gap / (2 * (WIDE + k * gap)) for k in range(1, 9))
    assert abs(mean - expected) < 4 * error
    assert expected < -10 * error


def test_bennett_from_wide_to_narrow():
    num = 50_000
    log_w = lambda x: -0.375 * x.square()  # noqa: E731
    start, end = 2 * torch.randn(num, generator=generator()), torch.randn(3 * num, generator=generator(1))
    for first, second in ((start, end[:num]), (start, end), (start[: num // 3], end)):
        found = bennett(log_w(first), log_w(second))
        assert abs(found.value + math.log(2)) < 4 * found.error
        assert found.error < 0.01
    both = [bennett(log_w(2 * a), log_w(b)) for a, b in torch.randn(300, 2, 50, generator=generator(2))]
    spread = float(torch.tensor([f.value for f in both]).std())
    # the spread of 300 has an error of 4 %; the delta method's is of order 1/50
    assert spread == pytest.approx(sum(f.error for f in both) / 300, rel=0.12)


def test_bennett_by_quadrature_is_the_root_of_its_equation():
    """Weighted nodes in the place of draws would need weights: equal quantiles of each law instead."""
    quantiles = torch.special.ndtri((torch.arange(200_000).double() + 0.5) / 200_000)
    found = bennett(0.375 * quantiles.square(), 0.375 * (2 * quantiles).square())
    assert found.value == pytest.approx(math.log(2), abs=1e-5)


def test_an_energy_brings_its_own_path():
    class Own(Parabola):
        def annealing_path(self, noise):
            return Precisions(WIDE, self.precision)

    noise = StandardGaussian((1,))
    assert isinstance(path_between(noise, Own(3.0)), Precisions)
    assert isinstance(path_between(noise, Parabola(3.0)), GeometricPath)


def test_the_ends_of_the_geometric_path_are_the_noise_and_the_energy():
    noise, energy = StandardGaussian((2,), scale=3.0).double(), Quadratic((2,)).double()
    path, x = GeometricPath(noise, energy), torch.randn(5, 2, generator=generator()).double()
    assert path(1.0) is energy
    torch.testing.assert_close(path(0.0)(x), -noise.log_prob(x))
    torch.testing.assert_close(path(0.25)(x), -0.75 * noise.log_prob(x) + 0.25 * energy(x))
    torch.testing.assert_close(path.weigh(x, 0.25)(0.75), path(0.25)(x) - path(0.75)(x))
    torch.testing.assert_close(AnnealingPath.weigh(path, x, 0.25)(0.75), path(0.25)(x) - path(0.75)(x))


def test_the_energy_is_left_as_it_was():
    energy = Quadratic((2,))
    path = GeometricPath(StandardGaussian((2,)), energy)
    climb(path, MALA(0.1), Ladder(linear(3)), 4, generator())
    assert energy.training and all(p.requires_grad and p.grad is None for p in energy.parameters())


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (Langevin(0.1), "exactly invariant, and Langevin does not.*choose mala or hmc"),
        (MALA(0.1, temperature=2.0), "MALA must have temperature 1"),
    ],
)
def test_a_kernel_that_is_not_exact_is_refused(kernel, message):
    with pytest.raises(ValueError, match=message):
        climb(Precisions(), kernel, Ladder(linear(3)), 4, generator())
    with pytest.raises(ValueError, match=message):
        climb_back(Precisions(), kernel, Ladder(linear(3)), torch.zeros(4, 1), generator())


@pytest.mark.parametrize("numbers", [{"population": 3}, {"num_steps": 0}])
def test_numbers_out_of_range_are_refused(numbers):
    with pytest.raises(ValueError, match="num_chains divisible by population"):
        climb(Precisions(), Autoregression(), Ladder(linear(3)), 4, generator(), **numbers)

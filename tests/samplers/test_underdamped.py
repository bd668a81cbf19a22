"""The linear recursion of (x, p) in closed form, the overdamped limit, and where the bias is what it is."""

import math

import pytest
import torch

from ebm_lab.samplers import Geometric, Langevin, UnderdampedLangevin, run_chains
from ebm_lab.samplers.kernel import State

F64 = torch.float64


def quadratic(precision):
    return lambda x: 0.5 * (precision * x.square()).flatten(1).sum(1)


def moved(kernel, precision, x, p, z):
    """(x, p) after one step with z, on E = λx²/2."""
    x, p, z = (torch.tensor([[v]], dtype=F64) for v in (x, p, z))
    state = State(x, quadratic(precision)(x), precision * x, 0, p)
    after, _ = kernel.step(quadratic(precision), state, None, draw=z)
    return torch.stack([after.x[0, 0], after.memory[0, 0]])


def recursion(kernel, precision):
    """A, b of (x, p) -> A (x, p) + b z: the step is linear, so unit vectors give them."""
    units = [moved(kernel, precision, *unit) for unit in ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0))]
    return torch.stack(units[:2], 1), units[2]


def stationary(kernel, precision):
    """Σ = A Σ Aᵀ + b bᵀ, solved as a linear system."""
    A, b = recursion(kernel, precision)
    system = torch.eye(4, dtype=F64) - torch.kron(A, A)
    return torch.linalg.solve(system, torch.outer(b, b).flatten()).view(2, 2)


def test_one_step_by_hand():
    # λ = 2, h = 1/2, γ = 2 log 2 (so e^{-γh} = 1/2), T = 4; x = 1, p = 2, z = 1:
    # O: p = 1 + 2√(3/4) = 1 + √3;  B: p = √3 + 1/2;  A: x = (5 + 2√3)/4;  B: p = (6√3 - 1)/8
    kernel = UnderdampedLangevin(0.5, 2 * math.log(2), 4.0)
    x, p = moved(kernel, 2.0, 1.0, 2.0, 1.0).tolist()
    assert x == pytest.approx((5 + 2 * math.sqrt(3)) / 4, abs=1e-14)
    assert p == pytest.approx((6 * math.sqrt(3) - 1) / 8, abs=1e-14)


def test_the_first_step_draws_the_whole_momentum():
    kernel, x = UnderdampedLangevin(0.5, 1.0, 4.0), torch.ones(1, 1, dtype=F64)
    state = kernel.init(quadratic(2.0), x)
    assert state.memory is None
    after, info = kernel.step(quadratic(2.0), state, None, draw=torch.ones(1, 1, dtype=F64))
    assert after.x.item() == 1 + 0.5 * (2 - 0.5)  # p = √T z = 2, less (h/2) λ x
    assert (info.energy.item(), info.gradient.item()) == (1.0, 2.0)
    assert (after.energy.item(), after.gradient.item()) == (after.x.item() ** 2, 2 * after.x.item())


@pytest.mark.parametrize("friction", [0.3, 5.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_stationary_law_by_linear_recursion(friction, temperature):
    # h = 1, λ = 1: the variance of x is 4/3 T whatever the friction, and p is independent with variance T.
    kernel = UnderdampedLangevin(1.0, friction, temperature)
    covariance = stationary(kernel, 1.0)
    assert covariance[0, 0].item() == pytest.approx(4 / 3 * temperature, rel=1e-12)
    assert covariance[1, 1].item() == pytest.approx(temperature, rel=1e-12)
    assert covariance[0, 1].item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_gaussian_precision_inverts_the_recursion(temperature):
    kernel = UnderdampedLangevin(0.7, 1.5, temperature)
    for variance in (1.1, 3.0):
        precision = kernel.gaussian_precision(torch.tensor(variance, dtype=F64)).item()
        assert stationary(kernel, precision)[0, 0].item() == pytest.approx(variance, rel=1e-12)


def test_a_restart_leaves_the_stationary_variance():
    # With p drawn anew as N(0, T), Var x' = A₀₀² v + h² T must be v: no transient between short runs.
    h, precision = 1.0, 1.0
    kernel = UnderdampedLangevin(h)
    v = stationary(kernel, precision)[0, 0].item()
    A, _ = recursion(kernel, precision)
    assert A[0, 0].item() ** 2 * v + h**2 == pytest.approx(v, rel=1e-12)


def test_large_friction_is_overdamped_langevin():
    h, x = 0.3, torch.tensor([[1.0, -2.0]], dtype=F64)
    kernel, limit = UnderdampedLangevin(h, 1e9, 2.0), Langevin(h**2 / 2, 2.0)
    a, b = kernel.init(quadratic(4.0), x), limit.init(quadratic(4.0), x)
    for z in torch.randn(5, 1, 2, generator=torch.Generator().manual_seed(0), dtype=F64):
        (a, _), (b, _) = (
            kernel.step(quadratic(4.0), a, None, draw=z),
            limit.step(quadratic(4.0), b, None, draw=z),
        )
        torch.testing.assert_close(a.x, b.x, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(2,), (1, 2, 3)])
def test_a_long_run_has_the_known_variance(shape, generator):
    precision = torch.linspace(0.5, 2.0, math.prod(shape), dtype=F64).view(shape)
    kernel, n = UnderdampedLangevin(0.8, 2.0), 20_000
    x = run_chains(kernel, quadratic(precision), torch.zeros(n, *shape, dtype=F64), 60, generator).x
    expected = 1 / (precision * (1 - 0.64 * precision / 4))
    # Events are independent and Gaussian: a variance has a relative standard error of √(2/n).
    z = (x.square().mean(0) / expected - 1) / math.sqrt(2 / n)
    assert z.abs().max() < 4


def test_the_bias_is_of_second_order():
    bias = [stationary(UnderdampedLangevin(h), 1.0)[0, 0].item() - 1 for h in (0.02, 0.01)]
    assert bias[0] / bias[1] == pytest.approx(4.0, rel=1e-3)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: UnderdampedLangevin(0.0), "step_size must be positive, got 0"),
        (lambda: UnderdampedLangevin(0.1, 0.0), "friction must be positive, got 0"),
        (lambda: UnderdampedLangevin(0.1, 1.0, 0.0), "temperature must be a finite number, positive"),
        (
            lambda: UnderdampedLangevin(2.0).gaussian_precision(torch.tensor(1.0)),
            "no precision gives the variance 1 with step_size=2",
        ),
        (
            lambda: UnderdampedLangevin(Geometric(1.0, 0.1, 5)).gaussian_precision(torch.tensor(1.0)),
            "known for a constant step only",
        ),
    ],
)
def test_numbers_are_checked(build, words):
    with pytest.raises(ValueError, match=words):
        build()

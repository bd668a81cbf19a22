"""Steps by hand, the fixed preconditioner as a change of coordinates, the law without the drift Γ."""

import math

import pytest
import torch

from ebm_lab.samplers import Langevin, PreconditionedLangevin, run_chains

F64 = torch.float64


def quadratic(precision):
    return lambda x: 0.5 * (precision * x.square()).flatten(1).sum(1)


def test_steps_by_hand():
    # E = x², x = 1: g = 2, V = 4, G = 1/(½ + 2) = 2/5; h = ½, T = 2, z = 1: x' = 1 - 0.4 + √0.8
    kernel = PreconditionedLangevin(0.5, decay=0.75, damping=0.5, temperature=2.0)
    z = torch.ones(1, 1, dtype=F64)
    first, info = kernel.step(quadratic(2.0), kernel.init(quadratic(2.0), z), None, draw=z)
    x = 0.6 + math.sqrt(0.8)
    assert first.x.item() == pytest.approx(x, abs=1e-14)
    assert (info.energy.item(), info.gradient.item(), info.acceptance) == (1.0, 2.0, None)
    # then V = ¾ 4 + ¼ (2x)² = 3 + x²
    second, _ = kernel.step(quadratic(2.0), first, None, draw=0 * z)
    assert second.x.item() == pytest.approx(x - 0.5 * 2 * x / (0.5 + math.sqrt(3 + x**2)), abs=1e-14)
    assert second.memory.item() == pytest.approx(3 + x**2, abs=1e-14)


def test_every_event_has_its_own_preconditioner():
    x = torch.tensor([[1.0], [100.0]], dtype=F64)
    kernel = PreconditionedLangevin(0.1, damping=1e-12, temperature=1e-30)
    after, _ = kernel.step(quadratic(2.0), kernel.init(quadratic(2.0), x), None, draw=torch.zeros_like(x))
    torch.testing.assert_close(after.x, x - 0.1, rtol=1e-12, atol=0)  # h g/|g|, whatever the slope


def test_a_fixed_preconditioner_is_a_change_of_coordinates():
    G = torch.tensor([0.01, 4.0], dtype=F64)
    kernel, plain = PreconditionedLangevin(0.3, G, temperature=2.0), Langevin(0.3, 2.0)
    precision, x = torch.tensor([50.0, 0.2], dtype=F64), torch.tensor([[1.0, -2.0]], dtype=F64)
    a = kernel.init(quadratic(precision), x)
    b = plain.init(quadratic(precision * G), x / G.sqrt())
    for z in torch.randn(5, 1, 2, generator=torch.Generator().manual_seed(0), dtype=F64):
        a, _ = kernel.step(quadratic(precision), a, None, draw=z)
        b, _ = plain.step(quadratic(precision * G), b, None, draw=z)
        torch.testing.assert_close(a.x / G.sqrt(), b.x, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_gaussian_precision_inverts_the_stationary_variance(temperature):
    # x' = a x + √(2hTG) z with a = 1 - hGλ, read off the kernel itself: v = 2hTG / (1 - a²).
    kernel, variance = PreconditionedLangevin(0.3, 2.0, temperature=temperature), torch.tensor(3.0, dtype=F64)
    energy, one = quadratic(kernel.gaussian_precision(variance)), torch.ones(1, 1, dtype=F64)
    a, b = (
        kernel.step(energy, kernel.init(energy, x), None, draw=z)[0].x.item()
        for x, z in ((one, 0 * one), (0 * one, one))
    )
    assert b**2 / (1 - a**2) == pytest.approx(3.0, rel=1e-12)


def test_narrow_and_wide_coordinates_take_one_step_size(generator):
    # Variances 1e-4 and 1: plain Langevin is unstable above h = 2e-4, this one forgets its start in 40 steps.
    variance, n = torch.tensor([1e-4, 1.0], dtype=F64), 20_000
    kernel = PreconditionedLangevin(0.5, variance)
    x = run_chains(kernel, quadratic(1 / variance), torch.zeros(n, 2, dtype=F64), 40, generator).x
    z = (x.square().mean(0) / (variance / 0.75) - 1) / math.sqrt(2 / n)
    assert z.abs().max() < 4


def test_without_its_drift_the_law_is_the_one_that_the_docstring_names(generator):
    """β = 0, δ = 1, E = x²/2: exp(-x²/2) (1 + |x|), of variance (1 + 2m) / (1 + m) with m = √(2/π).

    That is 1.4438, not 1. An energy of 2 coordinates is sampled as each alone. Errors: 1.2 % of Monte Carlo
    (20 000 coordinates, kurtosis 2.7) and 1 % of the step h = 0.02, so 4 % is a tolerance that 1 is far from.
    """
    kernel = PreconditionedLangevin(0.02, decay=0.0, damping=1.0)
    x = run_chains(
        kernel, quadratic(1.0), torch.randn(10_000, 2, generator=generator, dtype=F64), 600, generator
    ).x
    m = math.sqrt(2 / math.pi)
    assert x.var().item() == pytest.approx((1 + 2 * m) / (1 + m), rel=0.04)


def test_the_temperature_is_undefined_where_the_law_is():
    running, fixed = (
        PreconditionedLangevin(0.1, temperature=2.0),
        PreconditionedLangevin(0.1, 1.0, temperature=2.0),
    )
    assert (running.temperature, fixed.temperature) == (None, 2.0)
    assert "RMSprop" in running.describe() and fixed.describe() == ""
    for kernel in (running, PreconditionedLangevin(0.1, [1.0, 2.0])):
        with pytest.raises(ValueError, match="a fixed preconditioner of one number only"):
            kernel.gaussian_precision(torch.tensor(1.0))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"decay": 1.0}, "decay must lie in \\[0, 1\\), got 1"),
        ({"damping": 0.0}, "damping must be positive, got 0"),
        ({"preconditioner": [1.0, 0.0]}, "preconditioner must be positive and finite, got \\[1.0, 0.0\\]"),
        ({"temperature": 0.0}, "temperature must be a finite number, positive"),
    ],
)
def test_numbers_are_checked(arguments, words):
    with pytest.raises(ValueError, match=words):
        PreconditionedLangevin(0.1, **arguments)

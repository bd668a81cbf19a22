import math

import pytest
import torch

from ebm_lab.samplers import Geometric, Langevin, run_chains

F64 = torch.float64


def quadratic(precision):
    return lambda x: 0.5 * (precision * x.square()).flatten(1).sum(1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def assert_variance(samples, expected, what):
    """Samples are independent and exactly Gaussian, so the variance has relative SE √(2/n)."""
    n = samples.numel()
    z = (samples.square().mean().item() / expected - 1) / math.sqrt(2 / n)
    assert abs(z) < 4, f"{what}: {z:.1f} standard errors off"
    assert abs(samples.mean().item()) < 4 * math.sqrt(expected / n)


def test_one_step_with_a_given_draw_is_the_formula():
    kernel = Langevin(step_size=0.3, temperature=2.0)
    x, z = torch.tensor([[1.0, -2.0]], dtype=F64), torch.tensor([[0.5, 1.5]], dtype=F64)
    state, info = kernel.step(quadratic(4.0), kernel.init(quadratic(1.0), x), None, draw=z)
    torch.testing.assert_close(state.x, x - 0.3 * 4 * x + math.sqrt(2 * 0.3 * 2) * z, rtol=0, atol=1e-14)
    assert info.energy.tolist() == [10.0]
    assert info.gradient.tolist() == [[4.0, -8.0]]
    assert (info.acceptance, info.clipped, state.energy, state.gradient) == (None, None, None, None)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_variance_after_three_steps_from_zero(temperature):
    # Linear in the draws: feeding unit vectors gives the exact variance, 1.3125 at h = 1/2, λ = 1.
    kernel, variance = Langevin(0.5, temperature), 0.0
    for which in range(3):
        state = kernel.init(quadratic(1.0), torch.zeros(1, 1, dtype=F64))
        for step in range(3):
            draw = torch.full((1, 1), float(step == which), dtype=F64)
            state, _ = kernel.step(quadratic(1.0), state, None, draw=draw)
        variance += state.x.item() ** 2
    assert variance == pytest.approx(1.3125 * temperature, abs=1e-12)


@pytest.mark.parametrize("shape", [(2,), (1, 2, 5)])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_stationary_variance_is_the_known_biased_one(shape, temperature):
    step_size, precision = 0.5, torch.linspace(0.5, 2.0, math.prod(shape), dtype=F64).view(shape)
    x = torch.zeros(20_000, *shape, dtype=F64)  # (1 - hλ)^80 < 1e-9: stationary
    x = run_chains(Langevin(step_size, temperature), quadratic(precision), x, 80, seeded()).x
    expected = temperature / (precision * (1 - step_size * precision / 2))
    assert_variance(x / expected.sqrt(), 1.0, "ULA")


def test_correlated_gaussian_has_covariance_of_the_recursion():
    # Σ = P⁻¹ (I - hP/2)⁻¹; the entry (0, 1) of n products has SE √((Σ00 Σ11 + Σ01²)/n).
    P, h, n = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=F64), 0.4, 40_000
    x = run_chains(
        Langevin(h), lambda x: 0.5 * ((x @ P) * x).sum(1), torch.zeros(n, 2, dtype=F64), 80, seeded(1)
    ).x
    S = torch.linalg.inv(P @ (torch.eye(2, dtype=F64) - h * P / 2))
    error = (S.diagonal()[:, None] * S.diagonal() + S.square()).div(n).sqrt()
    assert ((x.T @ x / n - S).abs() < 4 * error).all()


def test_decoupled_step_and_noise():
    # α = 0.1, σ = 0.01 on λ = 1: h = α, T = σ²/(2α), variance σ²/(1 - (1 - α)²) = 5.26316e-4.
    kernel = Langevin(0.1, temperature=0.01**2 / 0.2)
    x = run_chains(kernel, quadratic(1.0), torch.zeros(50_000, 1, dtype=F64), 150, seeded(2)).x
    assert_variance(x, 5.26316e-4, "decoupled")


def test_schedule_is_read_at_the_step_index():
    kernel = Langevin(Geometric(0.1, 0.4, 2), temperature=0.0)
    x = run_chains(kernel, quadratic(1.0), torch.ones(1, 1, dtype=F64), 3, None).x
    assert x.item() == pytest.approx(0.9 * 0.6 * 0.6, abs=1e-14)


def test_temperature_zero_is_gradient_descent_without_a_law():
    kernel = Langevin(0.25, temperature=0.0)
    x = run_chains(kernel, quadratic(1.0), torch.full((2, 3), 2.0, dtype=F64), 2, None).x
    assert x.tolist() == [[2 * 0.75**2] * 3] * 2
    assert kernel.temperature is None and "gradient descent" in kernel.describe()


def test_clip_is_per_element_and_clamp_comes_after_the_noise():
    kernel = Langevin(1.0, temperature=0.5, gradient_clip=0.5, clamp=[-1.0, 1.0])
    x = torch.tensor([[0.25, 3.0], [0.1, -0.1]], dtype=F64)
    z = torch.tensor([[2.0, 0.0], [0.3, 0.2]], dtype=F64)
    state, info = kernel.step(quadratic(1.0), kernel.init(quadratic(1.0), x), None, draw=z)
    # Gradients (.25, 3) -> (.25, .5), then + z: (2, 2.5) -> clamp (1, 1); second row untouched: z itself.
    torch.testing.assert_close(state.x, torch.tensor([[1.0, 1.0], [0.3, 0.2]], dtype=F64))
    assert info.clipped.tolist() == [1.0, 0.0]
    assert info.gradient.tolist() == x.tolist()
    assert kernel.clamp == (-1.0, 1.0)


def test_temperature_is_undefined_with_clip_or_clamp():
    assert Langevin(0.1, 2.0).temperature == 2.0 and Langevin(0.1, 2.0).describe() == ""
    assert Langevin(0.1, gradient_clip=0.01).temperature is None
    assert Langevin(0.1, clamp=(-1.0, 1.0)).temperature is None
    words = Langevin(0.1, gradient_clip=0.01, clamp=(-1.0, 1.0)).describe()
    assert words == "gradient clipped to ±0.01 per element; state clamped to [-1, 1] after each step"


def test_one_evaluation_per_step_and_none_at_the_start():
    calls = []

    def counted(x):
        calls.append(len(x))
        return quadratic(1.0)(x)

    run_chains(Langevin(0.1), counted, torch.zeros(4, 2), 7, seeded())
    assert len(calls) == 7 * Langevin(0.1).evaluations_per_step


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"temperature": -1.0}, "temperature must be a finite number, at least 0, got -1.0"),
        ({"temperature": True}, "temperature must be a finite number, at least 0, got True"),
        ({"gradient_clip": 0.0}, "gradient_clip must be positive, got 0"),
        ({"clamp": (1.0, -1.0)}, "clamp must be two finite numbers, low < high"),
        ({"clamp": (1.0,)}, "clamp must be two finite numbers, low < high"),
        ({"clamp": 1.0}, "clamp must be two finite numbers, low < high"),
    ],
)
def test_numbers_are_checked(arguments, words):
    with pytest.raises(ValueError, match=words):
        Langevin(0.1, **arguments)

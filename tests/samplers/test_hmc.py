import math

import pytest
import torch

from ebm_lab.energies.energy import energy_and_gradient
from ebm_lab.samplers import HMC, leapfrog, run_chains

F64 = torch.float64


def quadratic(precision):
    return lambda x: 0.5 * (precision * x.square()).flatten(1).sum(1)


def double_well(x):
    return (x.square() - 1).square().flatten(1).sum(1)


def flow(energy, x, p, step_size, num_leapfrog):
    return leapfrog(energy, x, p, energy_and_gradient(energy, x)[1], step_size, num_leapfrog)


def column(*values):
    return torch.tensor(values, dtype=F64).view(-1, 1)


def test_one_leapfrog_step_closed_form():
    x, p, energy, gradient = flow(quadratic(1.0), column(1.0), column(0.0), 0.5, 1)
    assert (x.item(), p.item()) == (0.875, -0.46875)
    assert energy.item() + p.item() ** 2 / 2 - 0.5 == -0.00732421875
    assert gradient.item() == 0.875


@pytest.mark.parametrize("num_leapfrog", [1, 2, 7, 50])
def test_shadow_energy_is_conserved(num_leapfrog):
    x, p, _, _ = flow(quadratic(1.0), column(1.0), column(0.0), 0.5, num_leapfrog)
    assert (p**2 / 2 + (1 - 0.25 / 4) * x**2 / 2).item() == pytest.approx(0.46875, abs=1e-13)


def test_leapfrog_is_reversible():
    generator = torch.Generator().manual_seed(0)
    x, p = (torch.randn(32, 1, 2, 5, generator=generator, dtype=F64) for _ in range(2))
    y, q, _, _ = flow(double_well, x, p, 0.05, 20)
    back, flipped, _, _ = flow(double_well, y, -q, 0.05, 20)
    torch.testing.assert_close((back, -flipped), (x, p), rtol=0, atol=1e-12)


def test_leapfrog_preserves_volume():
    # Jacobian of (x, p) by central differences, error O(δ²) = 1e-8.
    def end(xp):
        x, p, _, _ = flow(double_well, xp[:2].view(1, 2), xp[2:].view(1, 2), 0.1, 5)
        return torch.cat([x, p], 1)[0]

    start, delta = torch.tensor([0.3, -0.8, 1.1, 0.4], dtype=F64), 1e-4
    J = torch.stack(
        [(end(start + e) - end(start - e)) / (2 * delta) for e in delta * torch.eye(4, dtype=F64)]
    )
    assert torch.linalg.det(J).item() == pytest.approx(1.0, abs=1e-6)


def step_with(kernel, energy, x, momentum, u):
    uniform = torch.full((len(x),), u, dtype=F64)
    return kernel.step(energy, kernel.init(energy, x), None, draw=(momentum, uniform))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_acceptance_is_the_change_of_the_hamiltonian(temperature):
    # ΔH = (ε²λ²/8)(x_L² - x_0²); from (x, p) = (0, 1), ε = 1/2, λ = 1: x = 1/2, ΔH = 1/128.
    kernel = HMC(0.5, num_leapfrog=1, temperature=temperature)
    state, info = step_with(kernel, quadratic(1.0), column(0.0), column(1.0), 0.5)
    assert state.x.item() == 0.5
    assert info.acceptance.log().item() == pytest.approx(-1 / 128 / temperature, abs=1e-14)


def test_each_event_is_accepted_by_itself():
    # At ε = 1.9 from (0, p): x = 1.9 p, ΔH = (1.9²/8) (1.9 p)²; α = e^-1.63 at p = 1, e^-.004 at p = .05.
    kernel, p = HMC(1.9, num_leapfrog=1), column(1.0, 0.05)
    state, info = step_with(kernel, quadratic(1.0), column(0.0, 0.0), p, 0.5)
    expected = -(1.9**2 / 8) * (1.9 * p[:, 0]).square()
    torch.testing.assert_close(info.acceptance.log(), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(state.x, column(0.0, 0.095))
    fresh = kernel.init(quadratic(1.0), state.x)
    torch.testing.assert_close((state.energy, state.gradient), (fresh.energy, fresh.gradient))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("shape", [(2,), (1, 2, 5)])
def test_gaussian_is_left_invariant(shape, temperature):
    # Started at the truth; means of independent chains: SE of x² is √2, of x⁴ √96 (unit variance).
    n, precision = 20_000, torch.linspace(0.5, 2.0, math.prod(shape), dtype=F64).view(shape)
    generator = torch.Generator().manual_seed(3)
    scale = (temperature / precision).sqrt()
    x = scale * torch.randn(n, *shape, generator=generator, dtype=F64)
    chains = run_chains(HMC(0.9, 3, temperature), quadratic(precision), x, 6, generator)
    unit, count = chains.x / scale, chains.x.numel()
    assert 0.3 < chains.acceptance < 0.97  # rejections took part
    assert abs(unit.mean()) < 4 / math.sqrt(count)
    assert abs(unit.square().mean() - 1) < 4 * math.sqrt(2 / count)
    assert abs(unit.pow(4).mean() - 3) < 4 * math.sqrt(96 / count)


def test_converges_from_a_wrong_start():
    P, n = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=F64), 20_000
    x = run_chains(
        HMC(0.4, 4),
        lambda x: 0.5 * ((x @ P) * x).sum(1),
        torch.full((n, 2), 2.0, dtype=F64),
        25,
        torch.Generator().manual_seed(4),
    ).x
    S = torch.linalg.inv(P)
    error = (S.diagonal()[:, None] * S.diagonal() + S.square()).div(n).sqrt()
    assert ((x.T @ x / n - S).abs() < 4 * error).all()


def test_cost_is_stated_and_true():
    calls = []

    def counted(x):
        calls.append(len(x))
        return quadratic(1.0)(x)

    kernel = HMC(0.1, num_leapfrog=6)
    run_chains(kernel, counted, torch.zeros(4, 2), 3, torch.Generator().manual_seed(0))
    assert kernel.evaluations_per_step == 6 and len(calls) == 1 + 3 * 6


def test_infinite_energy_is_rejected_and_nan_stops():
    def walled(x):
        return torch.where(x[:, 0] > 1, torch.inf, x[:, 0])

    def broken(x):
        return torch.where(x[:, 0] > 1, torch.nan, x[:, 0])

    state, info = step_with(HMC(1.0, 1), walled, column(0.0), column(3.0), 1e-9)
    assert state.x.item() == 0 and info.acceptance.item() == 0
    with pytest.raises(FloatingPointError, match="HMC met .* for 1 of 1 events"):
        step_with(HMC(1.0, 1), broken, column(0.0), column(3.0), 1e-9)


@pytest.mark.parametrize("num_leapfrog", [0, 2.5, True])
def test_num_leapfrog_is_checked(num_leapfrog):
    with pytest.raises(ValueError, match="num_leapfrog must be an integer, at least 1"):
        HMC(0.1, num_leapfrog)


def test_a_step_that_is_far_too_long_is_rejected_and_a_broken_energy_is_an_error():
    # x⁴ with ε = 10 leaves the largest float within a few leapfrogs, where inf - inf would be NaN.
    quartic, x = (lambda x: x.pow(4).flatten(1).sum(1)), column(0.5, -1.0)
    chains = run_chains(HMC(10.0, 20), quartic, x, 5, torch.Generator().manual_seed(0))
    assert torch.equal(chains.x, x) and chains.acceptance == 0

    def broken(x):
        return torch.where(x.abs() > 3, torch.nan, x.pow(4)).flatten(1).sum(1)

    with pytest.raises(FloatingPointError, match="not a number for 2 of 2"):
        run_chains(HMC(10.0, 20), broken, x, 1, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("height", [1e20, 1e3])
def test_a_gradient_that_leaves_the_floats_is_passed_where_no_float_resolves_a_nat(height):
    """Beyond 3 the energy is a plateau whose gradient is NaN, inf · 0 as of a flow far from its data."""

    def plateau(x):
        far = x.abs() > 3
        overflowing = height + 0.0 * (torch.where(far, x - x.detach(), 1.0)).sqrt()
        return torch.where(far, overflowing, x.square() / 2).flatten(1).sum(1)

    x = column(0.5, -1.0)
    if height < 1 / torch.finfo(x.dtype).eps:
        with pytest.raises(FloatingPointError, match="not a number for 2 of 2"):
            run_chains(HMC(10.0, 5), plateau, x, 1, torch.Generator().manual_seed(0))
    else:
        chains = run_chains(HMC(10.0, 5), plateau, x, 5, torch.Generator().manual_seed(0))
        assert torch.equal(chains.x, x) and chains.acceptance == 0

import math

import pytest
import torch
from torch.distributions import Normal

from ebm_lab.samplers import MALA, run_chains
from ebm_lab.samplers.mala import normal_and_uniform

F64 = torch.float64


def quadratic(precision):
    return lambda x: 0.5 * (precision * x.square()).flatten(1).sum(1)


def double_well(x):
    return (x.square() - 1).square().flatten(1).sum(1)


def propose(kernel, energy, x, y, u=1e-9):
    """One step whose proposal is y: the draw is solved for."""
    h, T = kernel.step_size(0), kernel.temperature
    state = kernel.init(energy, x)
    z = (y - x + h * state.gradient) / math.sqrt(2 * h * T)
    return kernel.step(energy, state, None, draw=(z, torch.full((len(x),), u, dtype=F64)))


def column(*values):
    return torch.tensor(values, dtype=F64).view(-1, 1)


@pytest.mark.parametrize(
    ("precision", "step_size", "x", "y", "log_alpha"),
    [(1.0, 0.5, 0.0, 2.0, -0.5), (2.0, 0.3, 0.7, -1.1, -0.216)],
)
def test_acceptance_closed_form(precision, step_size, x, y, log_alpha):
    _, info = propose(MALA(step_size), quadratic(precision), column(x), column(y))
    assert info.acceptance.log().item() == pytest.approx(log_alpha, abs=1e-12)


def test_mean_acceptance_on_a_standard_normal():
    # Both normals on a stratified grid: 0.920833 at h = 1/2 to about 1e-5.
    q = Normal(0.0, 1.0).icdf((torch.arange(1000, dtype=F64) + 0.5) / 1000)
    x, z = (grid.reshape(-1, 1) for grid in torch.meshgrid(q, q, indexing="ij"))
    kernel = MALA(0.5)
    state = kernel.init(quadratic(1.0), x)
    _, info = kernel.step(quadratic(1.0), state, None, draw=(z, torch.full((len(x),), 0.5, dtype=F64)))
    assert info.acceptance.mean().item() == pytest.approx(0.920833, abs=5e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_detailed_balance(temperature):
    # π(x) q(y|x) α(x,y) = π(y) q(x|y) α(y,x) with q written by torch.distributions.
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(64, 1, 2, generator=generator, dtype=F64) for _ in range(2))
    h, kernel = 0.2, MALA(0.2, temperature)

    def log_flow(a, b):
        state, (_, info) = kernel.init(double_well, a), propose(kernel, double_well, a, b)
        q = Normal(a - h * state.gradient, math.sqrt(2 * h * temperature)).log_prob(b).flatten(1).sum(1)
        return -state.energy / temperature + q + info.acceptance.log()

    torch.testing.assert_close(log_flow(x, y), log_flow(y, x), rtol=1e-11, atol=1e-11)


def test_each_event_is_accepted_by_itself():
    # The first proposal has α = 1, the second e^(-1/2), the third about 0: nothing mixes along the batch.
    x, y = column(2.0, 0.0, 0.0), column(0.0, 2.0, 50.0)
    state, info = propose(MALA(0.5), quadratic(1.0), x, y, u=0.7)
    torch.testing.assert_close(state.x, column(0.0, 0.0, 0.0), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        info.acceptance[:2], torch.tensor([1.0, math.exp(-0.5)], dtype=F64), rtol=1e-12, atol=0
    )
    assert info.acceptance[2] < 1e-100
    state, _ = propose(MALA(0.5), quadratic(1.0), x, y, u=0.6)
    torch.testing.assert_close(state.x, column(0.0, 2.0, 0.0), rtol=0, atol=1e-12)


def test_every_event_has_its_own_uniform():
    # 400 identical chains and proposals: the uniforms alone decide, so a fraction α moves.
    x = torch.full((400, 1), 2.0, dtype=F64)
    kernel = MALA(1.5)
    state = kernel.init(quadratic(1.0), x)
    z = torch.full_like(x, (2.5 - 2 + 1.5 * 2) / math.sqrt(3))
    u = torch.rand(400, generator=torch.Generator().manual_seed(0), dtype=F64)
    state, info = kernel.step(quadratic(1.0), state, None, draw=(z, u))
    moved = (state.x[:, 0] != 2).double().mean().item()
    p = info.acceptance[0].item()
    assert 0.2 < p < 0.8 and abs(moved - p) < 4 * math.sqrt(p * (1 - p) / 400)


def test_step_draws_a_normal_per_coordinate_and_a_uniform_per_event():
    kernel, x = MALA(1.5), torch.zeros(400, 2, dtype=F64)
    z, u = normal_and_uniform(x, torch.Generator().manual_seed(1))
    assert z.unique().numel() == 800 and u.shape == (400,) and u.unique().numel() == 400
    state = kernel.init(quadratic(1.0), x)
    drawn, _ = kernel.step(quadratic(1.0), state, torch.Generator().manual_seed(1))
    handed, _ = kernel.step(quadratic(1.0), state, None, draw=(z, u))
    assert torch.equal(drawn.x, handed.x)


@pytest.mark.parametrize(("u", "expected"), [(1e-9, -0.8), (1 - 1e-9, 0.1)])
def test_cached_energy_and_gradient_belong_to_the_state(u, expected):
    # log α = -(h/4)(0.64 - 0.01) < 0: u decides.
    state, info = propose(MALA(0.3), quadratic(1.0), column(0.1), column(-0.8), u)
    fresh = MALA(0.3).init(quadratic(1.0), state.x)
    assert info.acceptance < 1 and state.x.item() == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close((state.energy, state.gradient), (fresh.energy, fresh.gradient))
    assert info.energy.item() == quadratic(1.0)(column(0.1)).item() and state.step == 1


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("shape", [(2,), (1, 2, 5)])
def test_gaussian_is_left_invariant(shape, temperature):
    # Started at the truth; means of independent chains: SE of x² is √2, of x⁴ √96 (unit variance).
    n, precision = 20_000, torch.linspace(0.5, 2.0, math.prod(shape), dtype=F64).view(shape)
    generator = torch.Generator().manual_seed(3)
    scale = (temperature / precision).sqrt()
    x = scale * torch.randn(n, *shape, generator=generator, dtype=F64)
    chains = run_chains(MALA(0.4, temperature), quadratic(precision), x, 15, generator)
    unit, count = chains.x / scale, chains.x.numel()
    assert 0.3 < chains.acceptance < 0.97  # rejections took part
    assert abs(unit.mean()) < 4 / math.sqrt(count)
    assert abs(unit.square().mean() - 1) < 4 * math.sqrt(2 / count)
    assert abs(unit.pow(4).mean() - 3) < 4 * math.sqrt(96 / count)


def test_converges_from_a_wrong_start():
    # E = (x² - 1)²: E[x²] = 0.5 + ... by quadrature; independent chains give the standard error.
    grid = torch.linspace(-4, 4, 20_001, dtype=F64)
    weights = torch.softmax(-(grid.square() - 1).square(), 0)
    expected = (weights * grid.square()).sum()
    x = run_chains(
        MALA(0.15), double_well, torch.zeros(20_000, 1, dtype=F64), 60, torch.Generator().manual_seed(4)
    ).x.square()
    assert abs(x.mean() - expected) < 4 * x.std() / math.sqrt(len(x))


def test_acceptance_rises_to_one_as_the_step_shrinks():
    x = torch.randn(2000, 10, generator=torch.Generator().manual_seed(5), dtype=F64)
    rates = [
        run_chains(MALA(h), quadratic(1.0), x, 3, torch.Generator().manual_seed(6)).acceptance.item()
        for h in (1.0, 0.3, 0.001)
    ]
    assert rates[0] < rates[1] < rates[2] and rates[2] > 0.9999


def test_a_proposal_outside_of_the_support_is_rejected():
    def gamma(x):  # E = x - log x on x > 0; outside E = +inf and its gradient is NaN
        return (x - (x * (x > 0)).log()).sum(1)

    state, info = propose(MALA(0.5), gamma, column(0.5, 1.0), column(-1.0, 0.8))
    assert info.acceptance[0] == 0 and info.acceptance[1] > 0
    torch.testing.assert_close(state.x, column(0.5, 0.8))
    assert state.gradient.isfinite().all()


def test_nan_stops_with_the_kernel_named():
    def broken(x):
        return torch.where(x[:, 0] > 1, torch.nan, x[:, 0])

    with pytest.raises(FloatingPointError, match="MALA met .* for 1 of 2 events"):
        propose(MALA(0.5), broken, column(0.0, 0.0), column(2.0, 0.5))
    with pytest.raises(FloatingPointError, match=r"MALA cannot start .* \(1 of 2\)"):
        MALA(0.5).init(broken, column(2.0, 0.0))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), "1"])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="temperature must be a finite number, positive"):
        MALA(0.1, temperature)

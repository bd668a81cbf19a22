"""Exchanges by hand, moves at each temperature, the product law, and a barrier that only replicas cross."""

import math

import pytest
import torch

from ebm_lab.samplers import (
    HMC,
    MALA,
    DualAveraging,
    ExactKernel,
    Info,
    Langevin,
    ParallelTempering,
    run_chains,
)
from ebm_lab.samplers.kernel import evaluated
from ebm_lab.samplers.schedules import Constant

F64 = torch.float64


def gaussian(x):
    return 0.5 * x.flatten(1).square().sum(1)


class Still(ExactKernel):
    """Moves nothing, so that exchanges are seen alone."""

    evaluations_per_step, step_size = 0, Constant(1.0)

    def init(self, energy, x):
        return evaluated(self, energy, x)

    def step(self, energy, state, generator, draw=None):
        ones = torch.ones_like(state.energy)
        return state._replace(step=state.step + 1), Info(state.energy, state.gradient, ones, None)


def placed(kernel, energy, *replicas):
    """A state with the given events, one tensor a temperature."""
    state = kernel.init(energy, replicas[0])
    root = torch.tensor(kernel.temperatures, dtype=F64).sqrt()
    y = torch.cat([x / r for x, r in zip(replicas, root, strict=True)])
    tau = kernel._tau(replicas[0]).flatten()
    x = torch.cat(replicas)
    gradient = torch.func.grad(lambda x: energy(x).sum())(x)
    shape = (-1, *[1] * (x.dim() - 1))
    inner = state.memory._replace(x=y, energy=energy(x) / tau, gradient=gradient / tau.sqrt().view(shape))
    batch = len(replicas[0])
    return state._replace(x=x[:batch], energy=energy(x)[:batch], gradient=gradient[:batch], memory=inner)


def ranks(kernel, state):
    """The replicas of every temperature, in the coordinates of events."""
    tau = kernel._tau(state.x)
    return (tau.sqrt() * state.memory.x).unflatten(0, (-1, len(state.x)))


def column(*values):
    return torch.tensor(values, dtype=F64).view(-1, 1)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_exchange_by_hand(temperature):
    # τ = 1, 4 and E = x²/2: from (2, 1) log α = ¾ · 3/2 / T > 0; from (1, 2) log α = -9/8 / T.
    kernel = ParallelTempering(Still(temperature), [1.0, 4.0])
    state = placed(kernel, gaussian, column(2.0, 1.0, 1.0), column(1.0, 2.0, 2.0))
    alpha = math.exp(-9 / 8 / temperature)
    u = torch.tensor([[0.999, alpha - 1e-6, alpha + 1e-6]], dtype=F64)
    after, info = kernel.step(gaussian, state, None, draw=(None, u))
    assert info.swap_acceptance.tolist() == pytest.approx([1.0, alpha, alpha], abs=1e-14)
    torch.testing.assert_close(after.x, column(1.0, 2.0, 1.0), rtol=1e-14, atol=0)
    hot = ranks(kernel, after)[1]
    torch.testing.assert_close(hot, column(2.0, 1.0, 2.0), rtol=1e-14, atol=0)
    # what is known of the events moves with them
    torch.testing.assert_close(after.energy, gaussian(after.x), rtol=1e-14, atol=0)
    torch.testing.assert_close(after.gradient, after.x, rtol=1e-14, atol=0)
    torch.testing.assert_close(after.memory.energy[3:], gaussian(hot) / 4, rtol=1e-14, atol=0)
    torch.testing.assert_close(after.memory.gradient[3:], hot / 2, rtol=1e-14, atol=0)


def test_even_and_odd_pairs_take_turns():
    # Coldest first and with E falling toward the hot side every exchange is accepted: 4321 -> 3412 -> 3142
    kernel = ParallelTempering(Still(), [1.0, 2.0, 3.0, 4.0])
    state, energy = placed(kernel, gaussian, *(column(v) for v in (4.0, 3.0, 2.0, 1.0))), gaussian
    for u, expected in ((2, [3, 4, 1, 2]), (1, [3, 1, 4, 2])):
        state, _ = kernel.step(energy, state, None, draw=(None, torch.full((u, 1), 0.5, dtype=F64)))
        assert ranks(kernel, state).flatten().tolist() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("kernel", [MALA, lambda step, T: HMC(step, 3, T)], ids=["mala", "hmc"])
def test_every_replica_moves_as_the_kernel_at_its_temperature(kernel, generator):
    def energy(x):
        return (x.square() - 1).square().flatten(1).sum(1)

    tempering = ParallelTempering(kernel(0.05, 2.0), [1.0, 3.0])
    cold, hot = (torch.randn(5, 1, 2, generator=generator, dtype=F64) for _ in range(2))
    z = torch.randn(10, 1, 2, generator=generator, dtype=F64)
    u = torch.rand(10, generator=generator, dtype=F64)
    refused = torch.full((1, 5), torch.inf, dtype=F64)  # of the exchange
    after, _ = tempering.step(energy, placed(tempering, energy, cold, hot), None, draw=((z, u), refused))
    for rank, (x, T) in enumerate(((cold, 2.0), (hot, 6.0))):
        plain, part = kernel(0.05, T), slice(5 * rank, 5 * rank + 5)
        scale = 1.0 if kernel is MALA else math.sqrt(T / 2.0)  # the draw of HMC is the momentum
        alone, _ = plain.step(energy, plain.init(energy, x), None, (scale * z[part], u[part]))
        torch.testing.assert_close(ranks(tempering, after)[rank], alone.x, rtol=1e-12, atol=1e-12)


def test_the_product_law_is_invariant(generator):
    """Each rank keeps its variance T τ_r, 4 standard errors √(2/n), though exchanges are frequent."""
    kernel, n, energy = ParallelTempering(MALA(0.4, 2.0), [1.0, 1.7, 3.0]), 20_000, gaussian
    start = [
        math.sqrt(2 * t) * torch.randn(n, 2, generator=generator, dtype=F64) for t in kernel.temperatures
    ]
    state, swaps = placed(kernel, energy, *start), []
    for _ in range(6):
        state, info = kernel.step(energy, state, generator)
        swaps.append(info.swap_acceptance.mean().item())
    variances = ranks(kernel, state).square().mean((1, 2)) / (
        2 * torch.tensor(kernel.temperatures, dtype=F64)
    )
    assert ((variances - 1).abs() < 4 * math.sqrt(2 / (2 * n))).all()
    # In 2 dimensions E/T is exponential: α = 2 / (1 + τ_s/τ_r) on average; two pairs of ratio r₁, r₂ in turn.
    expected = [2 / (1 + 1.7), 2 / (1 + 3 / 1.7)] * 3
    assert swaps == pytest.approx(expected, abs=4 * 0.35 / math.sqrt(n))


def two_wells(x):
    """-log(0.9 N(-5, 1) + 0.1 N(5, 1)): a barrier of some 12 nats."""
    logits = [math.log(w) - 0.5 * (x[:, 0] - m) ** 2 for w, m in ((0.9, -5.0), (0.1, 5.0))]
    return -torch.logsumexp(torch.stack(logits), 0)


def test_it_crosses_a_barrier_that_a_plain_kernel_does_not(generator):
    n, start = 2000, torch.full((2000, 1), 5.0, dtype=F64)
    plain = run_chains(MALA(0.5), two_wells, start, 300, generator).x
    assert (plain < 0).double().mean() < 0.01
    kernel = ParallelTempering(MALA(0.5), [1.0, 2.5, 6.0, 15.0])
    chains = run_chains(kernel, two_wells, start, 300, generator)
    heavy = (chains.x < 0).double().mean().item()
    assert abs(heavy - 0.9) < 4 * math.sqrt(0.09 / n)  # a binomial's standard error
    assert 0.3 < chains.swap_acceptance < 0.9


def test_its_step_can_be_adapted(generator):
    kernel = DualAveraging(ParallelTempering(MALA(0.01), [1.0, 2.0]), 0.574, num_adapt=300)
    x = torch.randn(200, 10, generator=generator, dtype=F64)
    chains = run_chains(kernel, gaussian, x, 50, generator)
    assert chains.acceptance.item() == pytest.approx(0.574, abs=0.03)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: ParallelTempering(Langevin(0.1), [1, 2]),
            "Langevin has no acceptance test and step to temper",
        ),
        (lambda: ParallelTempering(DualAveraging(MALA(0.1), 0.5), [1, 2]), "DualAveraging has no acceptance"),
        (lambda: ParallelTempering(MALA(0.1), [1.0]), "temperatures must rise from 1, such as \\[1, 2, 4\\]"),
        (lambda: ParallelTempering(MALA(0.1), [2.0, 4.0]), "temperatures must rise from 1"),
        (lambda: ParallelTempering(MALA(0.1), [1.0, 4.0, 2.0]), "temperatures must rise from 1"),
    ],
)
def test_arguments_are_checked(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_replicas_are_not_tempered_again():
    with pytest.raises(ValueError, match="ParallelTempering has no .* or a memory of its own"):
        ParallelTempering(ParallelTempering(MALA(0.1), [1.0, 2.0]), [1.0, 2.0])

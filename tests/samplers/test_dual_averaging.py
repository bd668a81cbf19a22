"""The recursion by hand, the target that is reached, and that nothing is measured with a step that moves."""

import math

import pytest
import torch

from ebm_lab.errors import UserError
from ebm_lab.noise import StandardGaussian
from ebm_lab.samplers import (
    HMC,
    MALA,
    DualAveraging,
    ExactKernel,
    Independence,
    Info,
    Langevin,
    State,
    run_chains,
)
from ebm_lab.samplers.schedules import Constant, scaled

F64 = torch.float64


def quadratic(precision):
    return lambda x: 0.5 * (precision * x.square()).flatten(1).sum(1)


class Given(ExactKernel):
    """Stays where it is and reports the acceptances that it was given; scaled copies share them."""

    evaluations_per_step = 0

    def __init__(self, acceptances, step_size=1.0):
        super().__init__()
        self.acceptances, self.step_size = acceptances, Constant(step_size)

    def at_scale(self, factor):
        return Given(self.acceptances, scaled(self.step_size, factor)(0))

    def init(self, energy, x):
        return State(x, None, None, 0)

    def step(self, energy, state, generator, draw=None):
        given = torch.full((len(state.x),), self.acceptances.pop(0), dtype=F64)
        return state, Info(given, None, given, None)


def test_the_recursion_by_hand():
    # δ = .6; α = 1, 0: H = -.4/11, then (-.4 + .6)/12; s = log 10 - √m H / .05; s̄ = s, then a 2^{-.75} mix
    kernel, x = DualAveraging(Given([1.0, 0.0]), 0.6), torch.zeros(3, 1, dtype=F64)
    state, steps = kernel.init(None, x), []
    with kernel.adapting():
        for _ in range(2):
            steps.append(kernel.step_size(0))
            state, _ = kernel.step(None, state, None)
    first = math.log(10) + 0.4 / 11 / 0.05
    second = math.log(10) - math.sqrt(2) * 0.2 / 12 / 0.05
    mean = first + 2**-0.75 * (second - first)
    assert steps == pytest.approx([1.0, math.exp(first)], rel=1e-14)  # the first is the kernel's own
    assert kernel.step_size(0) == pytest.approx(math.exp(second), rel=1e-14)
    assert kernel.freeze().step_size(0) == pytest.approx(math.exp(mean), rel=1e-14)


def test_what_is_scaled_is_the_length_of_a_step():
    kernels = DualAveraging(MALA(0.3), 0.574), DualAveraging(HMC(0.3), 0.65)
    for kernel, power in zip(kernels, (2, 1), strict=True):
        state = kernel.state_dict() | {"mean_log_scale": math.log(3.0), "num_steps": 5}
        kernel.load_state_dict(state)
        assert kernel.freeze().step_size(0) == pytest.approx(0.3 * 3**power, rel=1e-14)


def HMC3(step_size):
    return HMC(step_size, num_leapfrog=3)


SPREAD = torch.linspace(0.5, 2.0, 50, dtype=F64)  # frequencies of several kinds: no resonance of all with L ε


@pytest.mark.parametrize("first", [0.01, 10.0])
@pytest.mark.parametrize(("kernel", "target", "num_adapt"), [(MALA, 0.574, 300), (HMC3, 0.65, 1500)])
def test_the_target_is_reached_from_both_sides_and_kept(kernel, target, num_adapt, first, generator):
    """Within 0.03, by which the mean of m steps lags; Monte Carlo is 0.007 (5000 proposals of 100 chains).

    The acceptance of HMC falls steeply near its limit of stability, where the steps settle slowly.
    """
    x = torch.randn(100, 50, generator=generator, dtype=F64) / SPREAD.sqrt()
    adaptive = DualAveraging(kernel(first), target, num_adapt)
    frozen, x = adaptive.warmed_up(quadratic(SPREAD), x, generator)
    chains = run_chains(frozen, quadratic(SPREAD), x, 50, generator)
    assert chains.acceptance.item() == pytest.approx(target, abs=0.03)
    assert type(frozen) is type(kernel(first)) and chains.step_size == frozen.step_size(0)


def test_a_run_of_chains_is_a_warm_up_and_then_the_frozen_kernel(generator):
    adaptive, x = (
        DualAveraging(MALA(0.01), 0.574, num_adapt=20),
        torch.randn(8, 3, generator=generator, dtype=F64),
    )
    chains = run_chains(adaptive, quadratic(1.0), x, 5, torch.Generator().manual_seed(1), record_every=1)
    again = torch.Generator().manual_seed(1)
    frozen, warm = adaptive.warmed_up(quadratic(1.0), x, again)
    expected = run_chains(frozen, quadratic(1.0), warm, 5, again, record_every=1)
    assert torch.equal(chains.samples, expected.samples) and chains.acceptance == expected.acceptance
    assert chains.step_size == frozen.step_size(0) != 0.01
    assert adaptive.state_dict()["num_steps"] == 0  # nothing is kept: the next run begins anew


def test_measuring_with_a_step_that_moves_is_refused():
    adaptive, x = DualAveraging(MALA(0.01), 0.574), torch.zeros(2, 1, dtype=F64)
    with pytest.raises(UserError, match="freeze it first, kernel.freeze\\(\\), or run it through run_chains"):
        adaptive.step(quadratic(1.0), adaptive.init(quadratic(1.0), x), None)
    with pytest.raises(RuntimeError, match="an error inside"), adaptive.adapting():
        raise RuntimeError("an error inside")
    with pytest.raises(UserError, match="freeze it first"):
        adaptive.step(quadratic(1.0), adaptive.init(quadratic(1.0), x), None)


def test_in_training_it_goes_on_from_run_to_run_and_from_a_checkpoint(generator):
    adaptive, energy = DualAveraging(MALA(0.01), 0.574), quadratic(1.0)
    x = torch.randn(16, 3, generator=generator, dtype=F64)
    with adaptive.adapting():
        half = run_chains(adaptive, energy, x, 7, generator)
        state, random_state = adaptive.state_dict(), generator.get_state()
        whole = run_chains(adaptive, energy, half.x, 7, generator)
    assert adaptive.state_dict()["num_steps"] == 14
    resumed = DualAveraging(MALA(0.01), 0.574)
    resumed.load_state_dict(state)
    generator.set_state(random_state)
    with resumed.adapting():
        assert torch.equal(run_chains(resumed, energy, half.x, 7, generator).x, whole.x)
    assert resumed.state_dict() == adaptive.state_dict()


def test_a_scaled_adaptation_goes_on_where_it_was():
    adaptive = DualAveraging(MALA(0.01), 0.574)
    adaptive.load_state_dict(adaptive.state_dict() | {"log_scale": 1.0, "mean_log_scale": 0.5})
    scaled_up = adaptive.at_scale(3.0)
    assert scaled_up.step_size(0) == pytest.approx(0.09 * math.exp(2.0))
    assert scaled_up.freeze().step_size(0) == pytest.approx(0.09 * math.exp(1.0))


def test_temperature_and_precision_are_those_of_the_kernel():
    adaptive = DualAveraging(MALA(0.01, 2.0), 0.574)
    assert (adaptive.temperature, adaptive.freeze().temperature, adaptive.at_scale(2.0).temperature) == (
        2,
        2,
        2,
    )
    assert adaptive.gaussian_precision(torch.tensor(4.0)) == 0.5


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: DualAveraging(Langevin(0.1), 0.5),
            "Langevin has no acceptance that a step could be adapted to",
        ),
        (lambda: DualAveraging(Independence(StandardGaussian((1,))), 0.5), "Independence has no acceptance"),
        (lambda: DualAveraging(DualAveraging(MALA(0.1), 0.5), 0.5), "DualAveraging has no acceptance"),
        (lambda: DualAveraging(MALA(0.1), 1.0), "target_acceptance must lie in \\(0, 1\\), got 1.0"),
        (lambda: DualAveraging(MALA(0.1), 0.5, 0), "num_adapt must be an integer, at least 1, got 0"),
    ],
)
def test_arguments_are_checked(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_a_plain_kernel_refuses_the_state_of_an_adapting_one():
    with pytest.raises(UserError, match="MALA keeps no state, and the checkpoint holds \\['log_scale'"):
        MALA(0.1).load_state_dict(DualAveraging(MALA(0.1), 0.5).state_dict())

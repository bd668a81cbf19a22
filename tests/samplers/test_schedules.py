import pytest

from ebm_lab.samplers import HMC, MALA, Constant, Geometric, Langevin, Listed, Polynomial
from ebm_lab.samplers.schedules import scaled

KERNELS = [Langevin, MALA, HMC]


def test_polynomial_matches_welling_and_teh():
    schedule = Polynomial(a=0.5, b=4.0, gamma=0.5)
    assert schedule(0) == pytest.approx(0.25, abs=1e-15)
    assert schedule(12) == pytest.approx(0.125, abs=1e-15)


def test_geometric_hits_both_ends_and_holds_the_last():
    schedule = Geometric(start=1.0, end=0.01, num_steps=3)
    assert [schedule(t) for t in (0, 1, 2, 50)] == pytest.approx([1.0, 0.1, 0.01, 0.01], rel=1e-14)


def test_constant_ignores_the_step():
    assert Constant(0.3)(0) == Constant(0.3)(99) == 0.3


def test_a_scaled_schedule_is_a_multiple_and_a_scaled_constant_a_constant():
    assert scaled(Constant(0.3), 4.0) == Constant(1.2)
    decreasing = scaled(Geometric(start=1.0, end=0.01, num_steps=3), 2.0)
    assert [decreasing(t) for t in (0, 1, 2)] == pytest.approx([2.0, 0.2, 0.02], rel=1e-14)


def test_listed_gives_each_in_turn_and_holds_the_last():
    assert [Listed((0.3, 0.1, 0.2))(t) for t in (0, 1, 2, 9)] == [0.3, 0.1, 0.2, 0.2]
    with pytest.raises(ValueError, match="at least one"):
        Listed(())
    with pytest.raises(ValueError, match="step_size must be positive, got 0"):
        Listed((0.1, 0))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_step_size_must_be_positive(kernel, value):
    with pytest.raises(ValueError, match=f"step_size must be positive, got {value}"):
        kernel(value)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("value", [True, "1e-3", None])
def test_step_size_must_be_a_number(kernel, value):
    with pytest.raises(ValueError, match=f"step_size must be a positive number, got {value!r}"):
        kernel(value)


def test_a_schedule_that_starts_below_zero_is_refused():
    with pytest.raises(ValueError, match="step_size at step 0 must be positive, got -1"):
        Langevin(lambda step: -1.0)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Polynomial(1.0, 0.0, 0.5), "b must be positive, got 0"),
        (lambda: Polynomial(-1.0, 1.0, 0.5), "a must be positive, got -1"),
        (lambda: Geometric(1.0, 0.0, 5), "end must be positive, got 0"),
        (lambda: Geometric(1.0, 0.1, 1), "num_steps must be an integer, at least 2, got 1"),
    ],
)
def test_numbers_of_schedules_are_checked(build, words):
    with pytest.raises(ValueError, match=words):
        build()

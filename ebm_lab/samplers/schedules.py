"""Step sizes as functions of the step index within a run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[int], float]


def check_positive(name: str, value: float) -> float:
    """The value as a float, or a ValueError with one sentence."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive, got {value}")
    return float(value)


def as_schedule(step_size: float | Schedule) -> Schedule:
    """The schedule itself, or the constant one of a number; its first value must be positive."""
    if callable(step_size):
        check_positive("step_size at step 0", step_size(0))
        return step_size
    return Constant(step_size)


@dataclass(frozen=True)
class Constant:
    """h_t = value.

    Args:
        value: the step size h, positive.
    """

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", check_positive("step_size", self.value))

    def __call__(self, step: int) -> float:
        """h, whatever the step."""
        return self.value


@dataclass(frozen=True)
class Scaled:
    """h_t = factor · schedule(t).

    Args:
        schedule: the schedule that is scaled.
        factor: positive.
    """

    schedule: Schedule
    factor: float

    def __post_init__(self) -> None:
        check_positive("factor", self.factor)

    def __call__(self, step: int) -> float:
        """h_t at t = step."""
        return self.factor * self.schedule(step)


def scaled(schedule: Schedule, factor: float) -> Schedule:
    """The schedule times a factor; a constant stays one."""
    if isinstance(schedule, Constant):
        return Constant(factor * schedule.value)
    return Scaled(schedule, factor)


@dataclass(frozen=True)
class Listed:
    """h_t = values[t], and the last of them from then on.

    Args:
        values: step sizes, positive, at least one.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a list of step sizes needs at least one")
        for value in self.values:
            check_positive("step_size", value)

    def __call__(self, step: int) -> float:
        """values[step]."""
        return self.values[min(step, len(self.values) - 1)]


@dataclass(frozen=True)
class Polynomial:
    """h_t = a (b + t)^(-gamma), t = 0, 1, ...

    With gamma in (1/2, 1] the sum of h_t diverges and that of h_t² converges: the bias of unadjusted
    Langevin vanishes. In the h-form of this library (noise √(2 h T)), h is half of the paper's ε.

    Args:
        a: scale, positive.
        b: offset in steps, positive.
        gamma: exponent, positive.

    Reference: Welling & Teh, Bayesian learning via stochastic gradient Langevin dynamics, ICML 2011, §4.
    """

    a: float
    b: float
    gamma: float

    def __post_init__(self) -> None:
        for name in ("a", "b", "gamma"):
            check_positive(name, getattr(self, name))

    def __call__(self, step: int) -> float:
        """h_t at t = step."""
        return self.a * (self.b + step) ** -self.gamma


@dataclass(frozen=True)
class Geometric:
    """h_t = start (end / start)^(t / (num_steps - 1)), and `end` from then on.

    Args:
        start: the first step size, positive.
        end: the last step size, positive.
        num_steps: steps from start to end, at least 2.
    """

    start: float
    end: float
    num_steps: int

    def __post_init__(self) -> None:
        check_positive("start", self.start)
        check_positive("end", self.end)
        if isinstance(self.num_steps, bool) or not isinstance(self.num_steps, int) or self.num_steps < 2:
            raise ValueError(f"num_steps must be an integer, at least 2, got {self.num_steps!r}")

    def __call__(self, step: int) -> float:
        """h_t at t = step."""
        progress = min(step / (self.num_steps - 1), 1.0)
        return self.start * (self.end / self.start) ** progress

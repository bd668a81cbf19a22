"""Underdamped (kinetic) Langevin: a momentum that is carried along and slowly refreshed, always accepted."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.draws import normal_like
from ebm_lab.samplers.hmc import leapfrog
from ebm_lab.samplers.kernel import Info, Kernel, State, check_temperature, evaluated
from ebm_lab.samplers.schedules import Constant, Schedule, as_schedule, check_positive, scaled


class UnderdampedLangevin(Kernel):
    """Underdamped (kinetic) Langevin dynamics, dx = p dt, dp = -∇E dt - γ p dt + √(2γT) dW, by OBABO.

        p ← e^{-γh} p + √(T (1 - e^{-2γh})) z,   z ~ N(0, I)                        (O: friction and noise)
        p ← p - (h/2) ∇E(x);  x ← x + h p;  p ← p - (h/2) ∇E(x)                     (BAB: one leapfrog step)

    It aims at exp(-E/T) and samples a law that is off by O(h²): on E = λx²/2 the stationary variance is
    T / (λ (1 - h²λ/4)), and the chain diverges from h²λ = 4 on. A momentum that persists over 1/γ crosses
    flat and narrow directions faster than the random walk of `Langevin`, which is the limit of large
    friction, with the step h²/2.

    Args:
        step_size: h, in units of time (data units, where the momentum has a variance of T = 1), positive,
            or a schedule of it.
        friction: γ, positive; fastest on E = λx²/2 near 2√λ.
        temperature: T, positive.

    Raises:
        ValueError: a number outside of its range.
        FloatingPointError: a start where E is not finite.
    Cost: one energy and one input gradient per step, and one of each at the start.
    Notes: (1) the half refreshments O at the end of a step and at the start of the next are done as one,
    which leaves the law of x as it is. (2) A run starts with a complete refreshment, p ~ N(0, T I): on
    E = λx²/2 that is the stationary law beside x, so that runs of any length keep the variance above. BAOAB
    has no bias in x there, but only while its momentum goes on, which it does not between short runs.
    Reference: Bussi & Parrinello, Accurate sampling using Langevin dynamics, Phys. Rev. E 2007; Leimkuhler &
    Matthews, Rational construction of stochastic numerical methods for molecular sampling, 2013,
    arXiv:1203.5428 (OBABO, BAOAB and their errors).
    """

    evaluations_per_step = 1
    keeps_memory = True

    def __init__(self, step_size: float | Schedule, friction: float = 1.0, temperature: float = 1.0) -> None:
        self.step_size = as_schedule(step_size)
        self.friction = check_positive("friction", friction)
        self._temperature = check_temperature(temperature)

    @property
    def temperature(self) -> float:
        """T, as given."""
        return self._temperature

    def gaussian_precision(self, variance: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """λ = 2 (1 - √(1 - h²T/v)) / h², from the stationary variance v = T / (λ (1 - h²λ/4)).

        Raises:
            ValueError: with a changing step, or where h² > v / T: no λ is stable.
        """
        if not isinstance(self.step_size, Constant):
            raise ValueError("the stationary variance is known for a constant step only")
        h = self.step_size(0)
        root = 1 - h**2 * self._temperature / variance
        if root < 0:
            raise ValueError(f"no precision gives the variance {variance:g} with step_size={h:g}")
        return 2 * (1 - root.sqrt()) / h**2

    def at_scale(self, factor: float) -> "UnderdampedLangevin":
        """Steps h · factor and a friction γ / factor, which both are measured in time."""
        step_size, friction = scaled(self.step_size, factor), self.friction / factor
        return UnderdampedLangevin(step_size, friction, self._temperature)

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """Chains at x with their energies and gradients; the first step draws their momenta."""
        return evaluated(self, energy, x)

    def step(
        self,
        energy: Callable[[Tensor], Tensor],
        state: State,
        generator: torch.Generator | None,
        draw: Float[Tensor, "batch *shape"] | None = None,
    ) -> tuple[State, Info]:
        """One transition; `draw` is z."""
        h = self.step_size(state.step)
        z = draw if draw is not None else normal_like(state.x, generator)
        momentum = self._refreshed(state.memory, z, h)
        y, momentum, energies, gradient = leapfrog(energy, state.x, momentum, state.gradient, h, 1)
        after = State(y, energies, gradient, state.step + 1, momentum)
        return after, Info(state.energy, state.gradient, None, None)

    def _refreshed(self, momentum: Any, z: Tensor, h: float) -> Tensor:
        if momentum is None:
            return math.sqrt(self._temperature) * z
        kept = math.exp(-self.friction * h)
        return kept * momentum + math.sqrt(self._temperature * (1 - kept**2)) * z

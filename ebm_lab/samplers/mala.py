"""Metropolis-adjusted Langevin: a Langevin proposal, accepted or rejected event by event."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.draws import normal_like, uniform
from ebm_lab.energies.energy import energy_and_gradient
from ebm_lab.samplers.kernel import ExactKernel, Info, State, after_proposal, checked_log_ratio, evaluated
from ebm_lab.samplers.schedules import Schedule, as_schedule, scaled


def log_proposal(
    y: Float[Tensor, "batch *shape"],
    x: Float[Tensor, "batch *shape"],
    gradient: Float[Tensor, "batch *shape"],
    step_size: float,
    temperature: float = 1.0,
) -> Float[Tensor, " batch"]:
    """log q(y | x) of N(x - h ∇E(x), 2 h T I) without its constant: -‖y - x + h ∇E(x)‖² / (4 h T)."""
    residual = (y - x + step_size * gradient).flatten(1)
    return -residual.square().sum(1) / (4 * step_size * temperature)


class MALA(ExactKernel):
    """Metropolis-adjusted Langevin algorithm: leaves exp(-E/T) exactly invariant.

        y = x - h ∇E(x) + √(2 h T) z
        log α = (E(x) - E(y)) / T + log q(x | y) - log q(y | x),    q(y | x) = N(y; x - h ∇E(x), 2 h T I)

    Each event has its own ratio and its own uniform u, and moves where log u < log α.

    Args:
        step_size: h, positive, or a schedule of it. The best acceptance in high dimension is 0.574, with h
            of order d^(-1/3).
        temperature: T, positive.

    Raises:
        ValueError: a number outside of its range.
        FloatingPointError: a start where E is not finite, or a ratio that is NaN. A proposal with
            E = +inf is outside of the support and is rejected.
    Cost: one energy and one input gradient per step, and one at the start.
    Notes: (1) E and ∇E of the current events are kept between steps. (2) The check for NaN waits for the
    device in every step.
    Reference: Besag, discussion of Grenander & Miller, JRSS B 1994; Roberts & Tweedie, Bernoulli 1996;
    Roberts & Rosenthal, Optimal scaling of discrete approximations to Langevin diffusions, JRSS B 1998.
    """

    evaluations_per_step = 1

    def __init__(self, step_size: float | Schedule, temperature: float = 1.0) -> None:
        super().__init__(temperature)
        self.step_size = as_schedule(step_size)

    def at_scale(self, factor: float) -> "MALA":
        """Steps h · factor²."""
        return MALA(scaled(self.step_size, factor**2), self._temperature)

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """Chains at x with their energies and gradients."""
        return evaluated(self, energy, x)

    def step(
        self,
        energy: Callable[[Tensor], Tensor],
        state: State,
        generator: torch.Generator | None,
        draw: tuple[Float[Tensor, "batch *shape"], Float[Tensor, " batch"]] | None = None,
    ) -> tuple[State, Info]:
        """One transition; `draw` is (z, u)."""
        z, u = draw if draw is not None else normal_and_uniform(state.x, generator)
        h, T = self.step_size(state.step), self._temperature
        y = state.x - h * state.gradient + math.sqrt(2 * h * T) * z
        return self.judge(energy, state, y, u)

    def judge(
        self,
        energy: Callable[[Tensor], Tensor],
        state: State,
        y: Float[Tensor, "batch *shape"],
        u: Float[Tensor, " batch"],
    ) -> tuple[State, Info]:
        """The state after proposals y, each taken where log u < log α."""
        x, h, T = state.x, self.step_size(state.step), self._temperature
        energy_y, gradient_y = energy_and_gradient(energy, y)
        backward, forward = log_proposal(x, y, gradient_y, h, T), log_proposal(y, x, state.gradient, h, T)
        log_ratio = checked_log_ratio(self, (state.energy - energy_y) / T + backward - forward, energy_y)
        accepted = u.log() < log_ratio
        after = after_proposal(accepted, state, y, energy_y, gradient_y)
        return after, Info(state.energy, state.gradient, log_ratio.clamp(max=0).exp(), None)


def normal_and_uniform(
    x: Float[Tensor, "batch *shape"], generator: torch.Generator | None
) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, " batch"]]:
    """A standard normal for every coordinate and a uniform for every event."""
    z = normal_like(x, generator)
    u = uniform(x.shape[:1], x, generator)
    return z, u

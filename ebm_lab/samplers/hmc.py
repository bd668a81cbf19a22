"""Hamiltonian Monte Carlo: a leapfrog trajectory with a fresh momentum, accepted event by event."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies.energy import energy_and_gradient
from ebm_lab.samplers.kernel import ExactKernel, Info, State, after_proposal, checked_log_ratio, evaluated
from ebm_lab.samplers.mala import normal_and_uniform
from ebm_lab.samplers.schedules import Schedule, as_schedule, scaled


def leapfrog(
    energy: Callable[[Tensor], Tensor],
    x: Float[Tensor, "batch *shape"],
    momentum: Float[Tensor, "batch *shape"],
    gradient: Float[Tensor, "batch *shape"],
    step_size: float,
    num_leapfrog: int,
) -> tuple[
    Float[Tensor, "batch *shape"],
    Float[Tensor, "batch *shape"],
    Float[Tensor, " batch"],
    Float[Tensor, "batch *shape"],
]:
    """(x, p, E, ∇E) after L steps of H(x, p) = E(x) + ‖p‖²/2, from x with its gradient ∇E(x).

    Each step: p ← p - (ε/2) ∇E(x);  x ← x + ε p;  p ← p - (ε/2) ∇E(x). Volume preserving and, with p
    flipped, its own inverse. On E = λx²/2 it conserves p²/2 + λ (1 - ε²λ/4) x²/2 exactly.

    Where E = +inf, outside of the support or beyond the largest float, the force is 0: a trajectory with too
    long a step then flies on and is rejected, in place of an inf - inf that looks like a broken energy. So it
    is where ∇E leaves the floats at an E above 1/eps, whose float no longer resolves a nat. Both depend on
    x alone, which keeps the map its own inverse.
    """
    for _ in range(num_leapfrog):
        momentum = momentum - step_size / 2 * gradient
        x = x + step_size * momentum
        energies, gradient = energy_and_gradient(energy, x)
        gradient = gradient.masked_fill(_per_event(_is_beyond(energies, gradient), x), 0.0)
        momentum = momentum - step_size / 2 * gradient
    return x, momentum, energies, gradient


class HMC(ExactKernel):
    """Hamiltonian (hybrid) Monte Carlo with unit mass: leaves exp(-E/T) exactly invariant.

        p ~ N(0, T I);  (y, p') = leapfrog(x, p);  log α = (H(x, p) - H(y, p')) / T,  H = E(x) + ‖p‖²/2

    Each event has its own momentum, ratio and uniform u, and moves where log u < log α.

    Args:
        step_size: ε of the leapfrog, positive, or a schedule of it; stable below 2/√λ_max of the Hessian.
        num_leapfrog: L, leapfrog steps per transition, at least 1.
        temperature: T, positive.

    Raises:
        ValueError: a number outside of its range.
        FloatingPointError: a start where E is not finite, or a ratio that is NaN. A proposal with
            E = +inf is outside of the support and is rejected.
    Cost: L energies and L input gradients per step, and one of each at the start.
    Notes: the check for NaN waits for the device in every step.
    Reference: Duane et al., Hybrid Monte Carlo, Phys. Lett. B 1987; Neal, MCMC using Hamiltonian dynamics,
    2011, arXiv:1206.1901, §3.2 and §5.
    """

    def __init__(self, step_size: float | Schedule, num_leapfrog: int = 10, temperature: float = 1.0) -> None:
        super().__init__(temperature)
        if isinstance(num_leapfrog, bool) or not isinstance(num_leapfrog, int) or num_leapfrog < 1:
            raise ValueError(f"num_leapfrog must be an integer, at least 1, got {num_leapfrog!r}")
        self.step_size = as_schedule(step_size)
        self.num_leapfrog = num_leapfrog
        self.evaluations_per_step = num_leapfrog

    def at_scale(self, factor: float) -> "HMC":
        """Steps ε · factor, as many as before."""
        return HMC(scaled(self.step_size, factor), self.num_leapfrog, self._temperature)

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
        """One transition; `draw` is (momentum, u)."""
        x, T = state.x, self._temperature
        momentum, u = draw if draw is not None else self._draw(x, generator)
        y, momentum_y, energy_y, gradient_y = leapfrog(
            energy, x, momentum, state.gradient, self.step_size(state.step), self.num_leapfrog
        )
        change = energy_y + _kinetic(momentum_y) - state.energy - _kinetic(momentum)
        log_ratio = checked_log_ratio(self, -change / T, energy_y)
        accepted = u.log() < log_ratio
        after = after_proposal(accepted, state, y, energy_y, gradient_y)
        return after, Info(state.energy, state.gradient, log_ratio.clamp(max=0).exp(), None)

    def _draw(self, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        z, u = normal_and_uniform(x, generator)
        return math.sqrt(self._temperature) * z, u


def _is_beyond(energies: Tensor, gradient: Tensor) -> Tensor:
    overflows = ~gradient.flatten(1).isfinite().all(1)
    return (energies == torch.inf) | (overflows & (energies > 1 / torch.finfo(energies.dtype).eps))


def _per_event(mask: Tensor, x: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (x.dim() - 1))


def _kinetic(momentum: Tensor) -> Tensor:
    return momentum.flatten(1).square().sum(1) / 2

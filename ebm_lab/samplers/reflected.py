"""Metropolis steps that are reflected at the edges of a bounded domain."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.domains import BOUNDED
from ebm_lab.samplers.kernel import (
    ExactKernel,
    Info,
    State,
    after_proposal,
    checked_energies,
    checked_log_ratio,
)
from ebm_lab.samplers.mala import normal_and_uniform
from ebm_lab.samplers.schedules import Schedule, as_schedule, scaled


class Reflected(ExactKernel):
    """Random-walk Metropolis on x ≥ 0 or on [0, 1]^d: leaves exp(-E/T) on it exactly invariant.

        y = fold(x + √(2hT) z),    log α = (E(x) - E(y)) / T

    `fold` reflects every coordinate at the edges until it lies inside. The proposal is as likely as its
    reverse, since a reflected Gaussian is a sum over the images of x or, as well, of y; and it never leaves
    the domain, whose edges so need no care of the energy's.

    Args:
        step_size: h, positive, or a schedule of it.
        domain: nonnegative or unit.
        temperature: T, positive.

    Raises:
        ValueError: a number outside of its range, or another domain.
        FloatingPointError: an energy that is not finite where a chain starts.
    Cost: one energy per step and one at the start; no gradient.
    Reference: Metropolis et al. 1953, J. Chem. Phys. 21; the reflection is folklore.
    """

    evaluations_per_step = 1

    def __init__(
        self, step_size: float | Schedule, domain: str = "nonnegative", temperature: float = 1.0
    ) -> None:
        super().__init__(temperature)
        if domain not in BOUNDED:
            raise ValueError(f"domain must be nonnegative or unit, got {domain!r}")
        self.step_size = as_schedule(step_size)
        self.domain = domain
        self.domains = frozenset({domain})

    def at_scale(self, factor: float) -> "Reflected":
        """Steps h · factor²."""
        return Reflected(scaled(self.step_size, factor**2), self.domain, self._temperature)

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """Chains at x with their energies."""
        with torch.no_grad():
            return State(x.detach(), checked_energies(self, energy(x)), None, 0)

    @torch.no_grad()
    def step(
        self,
        energy: Callable[[Tensor], Tensor],
        state: State,
        generator: torch.Generator | None,
        draw: tuple[Float[Tensor, "batch *shape"], Float[Tensor, " batch"]] | None = None,
    ) -> tuple[State, Info]:
        """One transition; `draw` is (z, u)."""
        z, u = draw if draw is not None else normal_and_uniform(state.x, generator)
        y = fold(state.x + math.sqrt(2 * self.step_size(state.step) * self._temperature) * z, self.domain)
        energy_y = energy(y)
        log_ratio = checked_log_ratio(self, (state.energy - energy_y) / self._temperature, energy_y)
        after = after_proposal(u.log() < log_ratio, state, y, energy_y)
        return after, Info(state.energy, None, log_ratio.clamp(max=0).exp(), None)


def fold(x: Float[Tensor, "batch *shape"], domain: str) -> Float[Tensor, "batch *shape"]:
    """Every coordinate reflected at the edges of its domain: |x|; on [0, 1] the triangle wave of period 2."""
    return x.abs() if domain == "nonnegative" else 1 - (x.remainder(2) - 1).abs()

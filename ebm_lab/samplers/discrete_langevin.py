"""Discrete Langevin proposals: all sites move at once, each by itself."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.draws import uniform
from ebm_lab.energies.energy import energy_and_gradient
from ebm_lab.samplers.kernel import (
    Info,
    Kernel,
    State,
    after_proposal,
    check_temperature,
    checked_log_ratio,
    evaluated,
)
from ebm_lab.samplers.moves import moves_of
from ebm_lab.samplers.schedules import Schedule, as_schedule


class DiscreteLangevin(Kernel):
    """DMALA (adjusted) and DULA: Langevin's proposal restricted to discrete events, which factorises.

        q(y | x) = Π_i q_i(y_i | x),  q_i(y_i | x) ∝ exp(-∂_i E (y_i - x_i) / (2T) - (y_i - x_i)² / (2α))
        log α(x, y) = (E(x) - E(y)) / T + log q(x | y) - log q(y | x)

    For categorical sites products and squares are those of one-hot vectors. Adjusted, it leaves exp(-E/T)
    exactly invariant; unadjusted, every proposal is taken, and the stationary law is off by O(α).

    Args:
        step_size: α, positive, or a schedule of it. On images of some hundred pixels .1 to .2.
        adjusted: whether proposals are accepted by Metropolis and Hastings, event by event.
        domain: binary or categorical.
        temperature: T, positive.

    Raises:
        ValueError: a number outside of its range, or an unknown domain.
        FloatingPointError: (adjusted) a start where E is not finite, or a ratio that is NaN.
    Cost: one energy and one input gradient per step; adjusted one of each at the start besides.
    Reference: Zhang, Liu & Liu, A Langevin-like sampler for discrete distributions, ICML 2022,
        arXiv:2206.09914, equations 4 and 5 and algorithm 1.
    """

    evaluations_per_step = 1

    def __init__(
        self,
        step_size: float | Schedule,
        adjusted: bool = True,
        domain: str = "binary",
        temperature: float = 1.0,
    ) -> None:
        self.step_size = as_schedule(step_size)
        self.adjusted = adjusted
        self.moves = moves_of(domain)
        self.domains = frozenset({domain})
        self._temperature = check_temperature(temperature)

    @property
    def temperature(self) -> float:
        """T, as given."""
        return self._temperature

    def gaussian_precision(self, variance: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """There is none.

        Raises:
            ValueError: always.
        """
        raise ValueError("discrete Langevin moves discrete events: it has no Gaussian stationary law")

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """Chains at x, adjusted with their energies and gradients."""
        return evaluated(self, energy, x) if self.adjusted else State(x.detach(), None, None, 0)

    def log_factors(
        self, x: Float[Tensor, "batch *shape"], gradient: Float[Tensor, "batch *shape"], step: int = 0
    ) -> Float[Tensor, "batch sites values"]:
        """log q_i of every value of every site, from x with its gradient."""
        return self.moves.log_factors(x, gradient, self.step_size(step), self._temperature)

    def step(
        self,
        energy: Callable[[Tensor], Tensor],
        state: State,
        generator: torch.Generator | None,
        draw: tuple[Float[Tensor, "batch sites"], Float[Tensor, " batch"]] | None = None,
    ) -> tuple[State, Info]:
        """One transition; `draw` is a uniform for every site and one for the acceptance."""
        x = state.x
        energies, gradient = state.energy, state.gradient
        if not self.adjusted:
            energies, gradient = energy_and_gradient(energy, x)
        forward = self.log_factors(x, gradient, state.step)
        u_sites, u = draw if draw is not None else self._draw(x, generator)
        y = self.moves.drawn(forward, x, u_sites)
        if not self.adjusted:
            return State(y, None, None, state.step + 1), Info(energies, gradient, None, None)
        energy_y, gradient_y = energy_and_gradient(energy, y)
        backward = self.log_factors(y, gradient_y, state.step)
        log_ratio = (
            (energies - energy_y) / self._temperature
            + self.moves.log_prob(backward, x)
            - self.moves.log_prob(forward, y)
        )
        log_ratio = checked_log_ratio(self, log_ratio, energy_y)
        after = after_proposal(u.log() < log_ratio, state, y, energy_y, gradient_y)
        return after, Info(energies, gradient, log_ratio.clamp(max=0).exp(), None)

    def _draw(self, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor | None]:
        u_sites = uniform((len(x), self.moves.num_sites(x)), x, generator)
        return u_sites, uniform(x.shape[:1], x, generator) if self.adjusted else None

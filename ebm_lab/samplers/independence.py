"""Independence Metropolis-Hastings: proposals that do not look at where the chain is."""

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.domains import ANY
from ebm_lab.draws import uniform
from ebm_lab.samplers.kernel import ExactKernel, Info, State, after_proposal, checked_log_ratio


class Proposal(Protocol):
    """A normalised density to propose from; any `ebm_lab.noise` is one."""

    def sample(self, num: int, generator: torch.Generator | None) -> Tensor:
        """Independent draws."""

    def log_prob(self, x: Tensor) -> Tensor:
        """log q(x), (batch,)."""


class Independence(ExactKernel):
    """Jumps: y ~ q whatever x is, accepted so that exp(-E/T) stays exactly invariant.

        log α = (E(x) - E(y)) / T + log q(x) - log q(y)

    It carries chains between modes that no local kernel bridges, wherever q covers the model; in high
    dimension hardly a proposal is accepted, and nothing is lost but one energy a step.

    Args:
        proposal: q.
        temperature: T, positive.

    Cost: one energy per step and one at the start, no gradient.
    Reference: Tierney 1994, Markov chains for exploring posterior distributions, section 2.3.
    """

    domains = ANY  # those of its proposal
    evaluations_per_step = 1

    def __init__(self, proposal: Proposal, temperature: float = 1.0) -> None:
        super().__init__(temperature)
        self.proposal = proposal

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """Chains at x with their energies."""
        return State(x.detach(), _energies(energy, x), None, 0)

    def step(
        self,
        energy: Callable[[Tensor], Tensor],
        state: State,
        generator: torch.Generator | None,
        draw: tuple[Float[Tensor, "batch *shape"], Float[Tensor, " batch"]] | None = None,
    ) -> tuple[State, Info]:
        """One transition; `draw` is (y, u)."""
        x, log_q = state.x, self.proposal.log_prob
        y, u = draw if draw is not None else self.draw(x, generator)
        energy_y = _energies(energy, y)
        with torch.no_grad():
            log_ratio = (state.energy - energy_y) / self._temperature + log_q(x) - log_q(y)
        log_ratio = checked_log_ratio(self, log_ratio, energy_y)
        accepted = u.log() < log_ratio
        after = after_proposal(accepted, state, y, energy_y)
        return after, Info(state.energy, None, log_ratio.clamp(max=0).exp(), None)

    def draw(
        self, x: Float[Tensor, "batch *shape"], generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, " batch"]]:
        """A proposal and a uniform for each of the chains at x."""
        y = self.proposal.sample(len(x), generator)
        return y, uniform(x.shape[:1], x, generator)


@torch.no_grad()
def _energies(energy: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return energy(x)

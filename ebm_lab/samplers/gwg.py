"""Gibbs with gradients: the gradient says which site is worth a move."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ebm_lab.draws import uniform
from ebm_lab.energies.energy import energy_and_gradient
from ebm_lab.samplers.kernel import ExactKernel, Info, State, after_proposal, checked_log_ratio, evaluated
from ebm_lab.samplers.moves import moves_of


class GibbsWithGradients(ExactKernel):
    """Gibbs with gradients: one site is moved, chosen by a first-order guess of what the move gains.

        q(move | x) ∝ exp(-Δ(move) / (2T)),  Δ the first-order E(y) - E(x)
        log α = (E(x) - E(y)) / T + log q(back | y) - log q(move | x)

    It leaves exp(-E/T) exactly invariant. Each event has its own move, ratio and uniform.

    Args:
        domain: binary or categorical.
        temperature: T, positive.

    Raises:
        ValueError: a temperature or a domain outside of its range.
        FloatingPointError: a start where E is not finite, or a ratio that is NaN.
    Cost: one energy and one input gradient per step, and one of each at the start.
    Notes: 1. A categorical site is never proposed the class that it has. 2. One site moves a step: events of
        hundreds of sites need as many steps for what discrete Langevin does in one.
    Reference: Grathwohl, Swersky, Hashemi, Duvenaud & Maddison, Oops I took a gradient, ICML 2021,
        arXiv:2102.04509, algorithm 1.
    """

    evaluations_per_step = 1

    def __init__(self, domain: str = "binary", temperature: float = 1.0) -> None:
        super().__init__(temperature)
        self.moves = moves_of(domain)
        self.domains = frozenset({domain})

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """Chains at x with their energies and gradients."""
        return evaluated(self, energy, x)

    def log_proposal(
        self, x: Float[Tensor, "batch *shape"], gradient: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch moves"]:
        """log q of every move from x."""
        return (-self.moves.changes(x, gradient) / (2 * self._temperature)).log_softmax(1)

    def step(
        self,
        energy: Callable[[Tensor], Tensor],
        state: State,
        generator: torch.Generator | None,
        draw: tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]] | None = None,
    ) -> tuple[State, Info]:
        """One transition; `draw` is (move, u)."""
        x = state.x
        forward = self.log_proposal(x, state.gradient)
        move, u = draw if draw is not None else self._draw(forward, generator)
        y = self.moves.moved(x, move)
        energy_y, gradient_y = energy_and_gradient(energy, y)
        backward = self.log_proposal(y, gradient_y)
        log_ratio = (
            (state.energy - energy_y) / self._temperature
            + _at(backward, self.moves.reverse(x, move))
            - _at(forward, move)
        )
        log_ratio = checked_log_ratio(self, log_ratio, energy_y)
        after = after_proposal(u.log() < log_ratio, state, y, energy_y, gradient_y)
        return after, Info(state.energy, state.gradient, log_ratio.clamp(max=0).exp(), None)

    def _draw(self, forward: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        move = torch.multinomial(forward.exp(), 1, generator=generator).squeeze(1)
        return move, uniform(forward.shape[:1], forward, generator)


def _at(log_q: Float[Tensor, "batch moves"], move: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    return log_q.gather(1, move[:, None]).squeeze(1)

"""Block Gibbs sampling of energies whose hidden units were summed out."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.domains import BINARY
from ebm_lab.draws import uniform
from ebm_lab.errors import UserError
from ebm_lab.samplers.coupling import Bernoulli
from ebm_lab.samplers.kernel import ExactKernel, Info, State


@runtime_checkable
class TwoLayers(Protocol):
    """What an energy must offer: its binary hidden units, and the conditionals of either layer."""

    def hidden_logits(self, x: Tensor) -> Tensor:
        """log odds of every hidden unit given the event, (batch, hidden)."""

    def visible_logits(self, hidden: Tensor) -> Tensor:
        """log odds of every site given the hidden units, (batch, *shape)."""

    def free_energy(self, x: Tensor, hidden_logits: Tensor) -> Tensor:
        """E(x), (batch,), where the logits of the hidden units are known."""


class BlockGibbs(ExactKernel):
    """Block Gibbs: all hidden units given the event, then all sites given the hidden units.

        h ~ p(h | v),  v' ~ p(v' | h)

    It leaves exp(-E) = Σ_h exp(-E(v, h)) exactly invariant, satisfies detailed balance and moves all sites at
    once. There is no temperature other than 1: of exp(-E/T) the two layers have no such conditionals.

    Raises:
        UserError: an energy that has no two layers.
    Cost: both conditionals per step, nothing at the start; the energies of `Info` come with them.
    Reference: Hinton 2002, Training products of experts by minimizing contrastive divergence.
    """

    domains = BINARY
    evaluations_per_step = 1

    def __init__(self) -> None:
        super().__init__(1.0)

    def check(self, energy: Any) -> None:
        """Refuse an energy without two layers."""
        if not isinstance(energy, TwoLayers):
            raise UserError(
                f"block Gibbs needs the conditionals of two layers, which {type(energy).__name__} does not "
                "have: choose energy=rbm, or a kernel for any energy (sampler=gwg, evaluation=binary_images)"
            )

    def init(self, energy: TwoLayers, x: Float[Tensor, "batch *shape"]) -> State:
        """Chains at x; nothing is evaluated."""
        self.check(energy)
        return State(x.detach(), None, None, 0)

    @torch.no_grad()
    def step(
        self,
        energy: Callable[[Tensor], Tensor],
        state: State,
        generator: torch.Generator | None,
        draw: tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch *shape"]] | None = None,
    ) -> tuple[State, Info]:
        """One transition; `draw` is a uniform for every hidden unit and one for every site."""
        x = state.x
        hidden_logits = energy.hidden_logits(x)
        u_hidden = uniform(hidden_logits.shape, x, generator) if draw is None else draw[0]
        hidden = Bernoulli(hidden_logits.sigmoid()).drawn(u_hidden)
        u = uniform(x.shape, x, generator) if draw is None else draw[1]
        y = Bernoulli(energy.visible_logits(hidden).sigmoid()).drawn(u)
        return State(y, None, None, state.step + 1), Info(
            energy.free_energy(x, hidden_logits), None, None, None
        )

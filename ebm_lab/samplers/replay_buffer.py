"""A pool of persistent chains from which training draws and to which it writes back."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ebm_lab.errors import UserError


class ReplayBuffer:
    """Persistent chains in slots; each drawn chain restarts from `start` with a fixed probability.

    With restart_fraction = 0 and size = n, `draw(n)` gives all chains every time: persistent contrastive
    divergence. It is filled from `start` at the first draw, lives on the device of the generator, and is not
    a module, so that no average over weights ever averages chains: save its `state_dict` beside the model's.

    Args:
        size: number of slots, positive.
        start: draws n fresh events, on the device of the generator. Where it is random, give it the same
            generator: a resumed run then continues as an uninterrupted one.
        restart_fraction: probability that a drawn chain restarts, in [0, 1].
        generator: picks slots and restarts.
        augment: (x, generator) -> x, what drawn chains pass through unless they have just been started; None
            for nothing. The slots keep what `write` gives.

    Attributes:
        states: the chains (size, *shape), or None before the first draw.
        ages: MCMC steps that each chain has taken since its last start; None before the first draw.
        restarts: how many chains have been restarted in all (the first filling does not count).

    Raises:
        ValueError: a size or a fraction outside of its range.
        UserError: a draw of more chains than there are slots.
    Notes: a drawn chain goes back to the slot it came from, as in JEM; IGEBM appends to a bounded queue.
    Reference: Du & Mordatch, arXiv:1903.08689, §3.2; Grathwohl et al. (JEM), arXiv:1912.03263; Tieleman,
    Training restricted Boltzmann machines using approximations to the likelihood gradient, ICML 2008 (PCD).
    """

    def __init__(
        self,
        size: int,
        start: Callable[[int], Tensor],
        restart_fraction: float,
        generator: torch.Generator,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    ) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"size must be an integer, at least 1, got {size!r}")
        if isinstance(restart_fraction, bool | str) or not 0 <= restart_fraction <= 1:
            raise ValueError(f"restart_fraction must be in [0, 1], got {restart_fraction!r}")
        self.size = size
        self.start = start
        self.restart_fraction = restart_fraction
        self.generator = generator
        self.augment = augment
        self.states: Tensor | None = None
        self.ages: Tensor | None = None
        self.restarts = 0

    def draw(self, n: int) -> tuple[Float[Tensor, "n *shape"], Int[Tensor, " n"]]:
        """A copy of n distinct chains, some of them just restarted, and their slots."""
        if n > self.size:
            raise UserError(
                f"a replay buffer of size {self.size} cannot give {n} distinct chains; "
                f"set its size to at least {n}, the number of chains drawn per iteration"
            )
        if self.states is None:
            self._fill()
        device = self.generator.device
        slots = torch.randperm(self.size, generator=self.generator, device=device)[:n]
        lots = torch.rand(n, generator=self.generator, device=device)
        self._restart(slots[lots < self.restart_fraction])
        x = self.states[slots]
        if self.augment is not None:
            walked = self.ages[slots] > 0
            x[walked] = self.augment(x[walked], self.generator)
        return x, slots

    def write(self, slots: Int[Tensor, " n"], x: Float[Tensor, "n *shape"], num_steps: int) -> None:
        """Put chains back into the slots they came from, `num_steps` steps older."""
        self.states[slots] = x.detach()
        self.ages[slots] += num_steps

    def state_dict(self) -> dict[str, Any]:
        """Chains, ages, restarts and the generator: tensors and plain numbers only."""
        return {
            "states": self.states,
            "ages": self.ages,
            "restarts": self.restarts,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`; draws and chains go on as they would have."""
        states, ages = state["states"], state["ages"]
        if states is not None and len(states) != self.size:
            raise UserError(
                f"the saved replay buffer has {len(states)} chains and this one {self.size}; "
                f"set its size to {len(states)} to continue from it"
            )
        device = self.generator.device
        self.states = None if states is None else states.detach().clone().to(device)
        self.ages = None if ages is None else ages.detach().clone().to(device)
        self.restarts = state["restarts"]
        if "generator" in state:
            self.generator.set_state(state["generator"].cpu())

    def _fill(self) -> None:
        states = self.start(self.size).detach().clone()
        if len(states) != self.size or states.device.type != self.generator.device.type:
            raise ValueError(
                f"start({self.size}) must give {self.size} events on {self.generator.device}, the device of "
                f"the generator, got {len(states)} on {states.device}"
            )
        self.states = states
        self.ages = torch.zeros(self.size, dtype=torch.long, device=states.device)

    def _restart(self, slots: Tensor) -> None:
        if len(slots) > 0:
            self.states[slots] = self.start(len(slots)).detach()
            self.ages[slots] = 0
            self.restarts += len(slots)

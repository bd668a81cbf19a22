"""What a transition kernel is: one step of a Markov chain on events, with its diagnostics returned."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ebm_lab.domains import CONTINUOUS
from ebm_lab.energies.energy import energy_and_gradient
from ebm_lab.errors import UserError
from ebm_lab.noise.noise import Noise
from ebm_lab.samplers.schedules import Schedule


class State(NamedTuple):
    """Where a batch of chains stands, and what is already known there.

    Attributes:
        x: the chains' events.
        energy: E(x) of each event, or None where the kernel does not keep it.
        gradient: ∇E(x), or None where the kernel does not keep it.
        step: steps taken in this run; step-size schedules read it.
        memory: what else the kernel takes from step to step, such as a momentum; None where that is nothing.
    """

    x: Float[Tensor, "batch *shape"]
    energy: Float[Tensor, " batch"] | None
    gradient: Float[Tensor, "batch *shape"] | None
    step: int
    memory: Any = None

    def rows(self, index: Tensor | slice) -> "State":
        """Some of the chains."""
        kept = (None if part is None else part[index] for part in (self.x, self.energy, self.gradient))
        return State(*kept, self.step)


class Info(NamedTuple):
    """What one step tells about itself; every entry is of the state that the step left from.

    Attributes:
        energy: E(x) of each event before the step; None of a score network.
        gradient: ∇E(x) before the step, as the energy gave it (unclipped).
        acceptance: acceptance probability of each event's proposal; None for kernels that accept always.
        clipped: fraction of each event's coordinates whose gradient was clipped or whose value was clamped;
            None where neither is on.
        swap_acceptance: mean acceptance probability of the exchanges between each chain's replicas; None
            without replicas, and in a step without an exchange.
    """

    energy: Float[Tensor, " batch"] | None
    gradient: Float[Tensor, "batch *shape"] | None
    acceptance: Float[Tensor, " batch"] | None
    clipped: Float[Tensor, " batch"] | None
    swap_acceptance: Float[Tensor, " batch"] | None = None


class Kernel(ABC):
    """A Markov transition kernel for p(x) = exp(-E(x) / T) / Z, with independent chains along the batch axis.

    A kernel differentiates in x only and never in an energy's parameters; run it through `run_chains`,
    which also freezes the energy. Random numbers come from `generator` (on the device of x) unless a
    `draw` is handed in.

    Attributes:
        domains: kinds of data in which it moves, of real, image, nonnegative, unit, binary and categorical.
        evaluations_per_step: of the energy, each at every event.
        step_size: the kernel's step by the index of the step; None for a kernel without one.
        keeps_memory: whether a step reads `State.memory`, so that events cannot be exchanged without it.
    """

    domains: frozenset[str] = CONTINUOUS
    evaluations_per_step: int
    step_size: Schedule | None = None
    keeps_memory: ClassVar[bool] = False

    @property
    @abstractmethod
    def temperature(self) -> float | None:
        """Temperature T of the law exp(-E/T) that the kernel aims at; None where there is no such law."""

    def check(self, energy: Any) -> None:
        """Refuse, with a UserError, an energy that lacks what the kernel asks for: most ask for nothing."""
        return

    def on(self, noise: Noise) -> "Kernel":
        """The kernel of a run with this noise; most do not look at it.

        Raises:
            UserError: where the kernel needs a noise of another kind.
        """
        return self

    @abstractmethod
    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """The state of chains that start at x."""

    @abstractmethod
    def step(
        self,
        energy: Callable[[Tensor], Tensor],
        state: State,
        generator: torch.Generator | None,
        draw: Tensor | tuple[Tensor, Tensor] | None = None,
    ) -> tuple[State, Info]:
        """One transition of every chain; `draw` replaces the kernel's random numbers."""

    @abstractmethod
    def gaussian_precision(self, variance: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """λ at which the stationary variance on E = λx²/2 is `variance`: T / variance for an exact kernel.

        The closed form against which objectives that sample are verified.
        """

    def describe(self) -> str:
        """What is on that keeps the kernel from its textbook law, or an empty string."""
        return ""

    def at_scale(self, factor: float) -> "Kernel":
        """The kernel for laws that are `factor` times as wide.

        From c x on the energy x -> E(x / c) and with the same draws it walks c times the path of this
        kernel from x on E.

        Raises:
            UserError: for a kernel without a step.
        """
        raise UserError(f"{type(self).__name__} has no step that could be scaled")

    # A kernel that adapts itself answers these; every other one is as it is measured with.

    def freeze(self) -> "Kernel":
        """The kernel to measure with, which adapts no more."""
        return self

    def warmed_up(
        self,
        energy: Callable[[Tensor], Tensor],
        x: Float[Tensor, "batch *shape"],
        generator: torch.Generator | None,
    ) -> tuple["Kernel", Float[Tensor, "batch *shape"]]:
        """The kernel frozen after a warm-up on chains from x, and where that left them."""
        return self, x

    @contextmanager
    def adapting(self) -> Iterator[None]:
        """Inside, every step adapts the kernel, from one run of chains to the next: training."""
        yield

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must find again: tensors and plain numbers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        if state:
            raise UserError(f"{type(self).__name__} keeps no state, and the checkpoint holds {sorted(state)}")


class ExactKernel(Kernel):
    """A kernel whose acceptance test leaves exp(-E/T) exactly invariant.

    Args:
        temperature: T, positive.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self._temperature = check_temperature(temperature)

    @property
    def temperature(self) -> float:
        """T, as given."""
        return self._temperature

    def gaussian_precision(self, variance: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """T / variance: no bias."""
        return self.temperature / variance


def evaluated(kernel: Kernel, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
    """The start of a kernel that keeps E and ∇E; refuses a start where the energy is not finite.

    Raises:
        UserError: of a score network, which has no energy to keep.
    """
    energies, gradient = energy_and_gradient(energy, x)
    if energies is None:
        raise UserError(
            f"{type(kernel).__name__} compares energies, and a score network has none: choose langevin or "
            "preconditioned, which only follow the score"
        )
    return State(x.detach(), checked_energies(kernel, energies), gradient, 0)


def checked_energies(
    kernel: Kernel, energies: Float[Tensor, " batch"], act: str = "start at"
) -> Float[Tensor, " batch"]:
    """The energies at which chains stand, or a FloatingPointError where one is not finite."""
    if not energies.isfinite().all():
        raise FloatingPointError(
            f"{type(kernel).__name__} cannot {act} events whose energy is not finite "
            f"({int((~energies.isfinite()).sum())} of {len(energies)})"
        )
    return energies


def checked_log_ratio(
    kernel: Kernel, log_ratio: Float[Tensor, " batch"], proposed_energy: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """The log acceptance ratio, -inf where the proposal has no density (E = +inf).

    Raises:
        FloatingPointError: when a ratio is NaN or +inf: the energy or its gradient is NaN, or E = -inf.
    """
    log_ratio = log_ratio.masked_fill(proposed_energy == torch.inf, -torch.inf)
    broken = log_ratio.isnan() | (log_ratio == torch.inf)
    if broken.any():
        raise FloatingPointError(
            f"{type(kernel).__name__} met an acceptance ratio that is not a number for "
            f"{int(broken.sum())} of {len(broken)} events: E or ∇E is NaN, or E is -inf, at the proposal"
        )
    return log_ratio


def after_proposal(
    accepted: Bool[Tensor, " batch"],
    state: State,
    y: Float[Tensor, "batch *shape"],
    energy: Float[Tensor, " batch"],
    gradient: Float[Tensor, "batch *shape"] | None = None,
) -> State:
    """The next state: the proposal with its E and ∇E where an event is accepted, the old one elsewhere."""
    return State(
        select(accepted, y, state.x),
        select(accepted, energy, state.energy),
        None if gradient is None else select(accepted, gradient, state.gradient),
        state.step + 1,
    )


def select(
    accepted: Bool[Tensor, " batch"],
    proposal: Float[Tensor, "batch *shape"],
    x: Float[Tensor, "batch *shape"],
) -> Float[Tensor, "batch *shape"]:
    """The proposal where an event is accepted, x elsewhere: one decision per event."""
    return torch.where(accepted.view(-1, *[1] * (x.dim() - 1)), proposal, x)


def check_temperature(temperature: float, zero_allowed: bool = False) -> float:
    """The temperature as a float, or a ValueError with one sentence."""
    smallest = "at least 0" if zero_allowed else "positive"
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not number or not 0 <= temperature < torch.inf or (temperature == 0 and not zero_allowed):
        raise ValueError(f"temperature must be a finite number, {smallest}, got {temperature!r}")
    return float(temperature)

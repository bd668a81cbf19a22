"""Kernels that move two chains at once, each by its own law, so that they meet and then stay together."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import singledispatch
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.draws import uniform
from ebm_lab.energies.energy import energy_and_gradient
from ebm_lab.samplers.block_gibbs import BlockGibbs, TwoLayers
from ebm_lab.samplers.coupling import (
    Bernoulli,
    Categorical,
    Normal,
    layer_coupling,
    maximal_coupling,
    reflection_coupling,
)
from ebm_lab.samplers.gibbs import Gibbs
from ebm_lab.samplers.independence import Independence
from ebm_lab.samplers.kernel import Info, Kernel, State
from ebm_lab.samplers.langevin import Langevin
from ebm_lab.samplers.mala import MALA
from ebm_lab.samplers.schedules import Constant

Coupling = Literal["reflection", "maximal"]

_COUPLINGS = {"reflection": reflection_coupling, "maximal": maximal_coupling}


class CoupledKernel(ABC):
    """A kernel K and a joint step of two chains of it, either of which moves by K alone.

    Two chains that stand at one event move alike; `run_coupled_chains` therefore moves pairs that have met
    as one chain, and asks `step_pair` about pairs that are apart only.
    """

    @abstractmethod
    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """The state of chains that start at x."""

    @abstractmethod
    def step(
        self, energy: Callable[[Tensor], Tensor], state: State, generator: torch.Generator | None
    ) -> tuple[State, Info | None]:
        """One transition of chains by themselves."""

    @abstractmethod
    def step_pair(
        self, energy: Callable[[Tensor], Tensor], x: State, y: State, generator: torch.Generator | None
    ) -> tuple[State, State, Info | None]:
        """One transition of both chains of every pair; x and y are equal to the last bit where they meet."""


@singledispatch
def coupled(kernel: Kernel, coupling: Coupling | None = None) -> CoupledKernel:
    """The coupled form of a kernel; a kernel of one's own joins by `coupled.register`.

    Args:
        kernel: Langevin, MALA, BlockGibbs or Gibbs.
        coupling: of two Gaussian proposals: reflection (None) or maximal. The others have one of their own.

    Raises:
        ValueError: for a kernel that has none, or a chain whose law changes in time or is not known.
    """
    raise ValueError(
        f"{type(kernel).__name__} has no coupled form: choose sampler=mala or sampler=langevin, on discrete "
        "data sampler=block_gibbs (an RBM) or sampler=gibbs"
    )


class CoupledLangevin(CoupledKernel):
    """Two Langevin chains whose proposals N(x - h ∇E(x), 2hT I) are coupled.

    Args:
        kernel: the kernel of either chain; of constant step, without clip or clamp, T > 0.
        coupling: reflection (None) or maximal.

    Raises:
        ValueError: for another kernel or an unknown coupling.
    Cost: one energy and one input gradient a chain and step.
    Reference: Jacob, O'Leary & Atchadé 2020, arXiv 1708.03625, section 4.
    """

    def __init__(self, kernel: Langevin, coupling: Coupling | None = None) -> None:
        self.kernel = kernel
        self.couple = _checked_coupling(kernel, coupling)

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """Chains at x; nothing is evaluated."""
        return self.kernel.init(energy, x)

    def step(
        self, energy: Callable[[Tensor], Tensor], state: State, generator: torch.Generator | None
    ) -> tuple[State, Info]:
        """One transition of the kernel."""
        return self.kernel.step(energy, state, generator)

    def step_pair(
        self, energy: Callable[[Tensor], Tensor], x: State, y: State, generator: torch.Generator | None
    ) -> tuple[State, State, Info]:
        """Both proposals, coupled."""
        energies, gradient = energy_and_gradient(energy, torch.cat([x.x, y.x]))
        at_x, at_y = gradient.split(len(x.x))
        moved = self.couple(proposal(self.kernel, x.x, at_x), proposal(self.kernel, y.x, at_y), generator)
        after = (State(place, None, None, x.step + 1) for place in moved)
        return *after, Info(energies, gradient, None, None)


class CoupledMALA(CoupledKernel):
    """Two MALA chains: coupled proposals, accepted with one uniform for both.

    Chains meet where the proposals are equal and both are taken. Each chain by itself is exact.

    Args:
        kernel: the kernel of either chain; of constant step.
        coupling: reflection (None) or maximal.

    Raises:
        ValueError: for another kernel or an unknown coupling.
    Cost: one energy and one input gradient a chain and step, and one each at the start.
    Reference: Jacob, O'Leary & Atchadé 2020, arXiv 1708.03625, section 4.
    """

    def __init__(self, kernel: MALA, coupling: Coupling | None = None) -> None:
        self.kernel = kernel
        self.couple = _checked_coupling(kernel, coupling)

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """Chains at x with their energies and gradients."""
        return self.kernel.init(energy, x)

    def step(
        self, energy: Callable[[Tensor], Tensor], state: State, generator: torch.Generator | None
    ) -> tuple[State, Info]:
        """One transition of the kernel."""
        return self.kernel.step(energy, state, generator)

    def step_pair(
        self, energy: Callable[[Tensor], Tensor], x: State, y: State, generator: torch.Generator | None
    ) -> tuple[State, State, Info]:
        """Both proposals, coupled, and one uniform a pair."""
        laws = (proposal(self.kernel, state.x, state.gradient) for state in (x, y))
        proposed = torch.cat(self.couple(*laws, generator))
        u = uniform(x.x.shape[:1], x.x, generator)
        after, info = self.kernel.judge(energy, joined(x, y), proposed, u.repeat(2))
        return after.rows(slice(None, len(u))), after.rows(slice(len(u), None)), info


class CoupledBlockGibbs(CoupledKernel):
    """Two block Gibbs chains: the hidden layers from uniforms in common, the events coupled maximally.

        h = 1{U < σ(b + Wᵀx)},  h' = 1{U < σ(b + Wᵀy)};  (x⁺, y⁺) ~ layer_coupling(p(· | h), p(· | h'))

    A pair meets in its events as often as the drawn hidden layers allow. With uniforms in common for both
    layers every coordinate would have to agree by itself; with `maximal_coupling` pairs that do not meet
    would be thrown apart again. On an RBM of 64 x 64 units trained on digits these take 90 and 33 steps to
    meet in the mean, and this one 14.

    Args:
        kernel: the kernel of either chain.
        coupling: None; there is one.

    Raises:
        ValueError: for a named coupling.
    Cost: both conditionals a chain and step, and two draws of each event in the mean.
    Reference: Qiu, Zhang & Wang 2020, Unbiased Contrastive Divergence Algorithm for Training Energy-Based
        Latent Variable Models, ICLR, algorithm 2; there a chain is one of (v, h), which meets a step later.
    """

    def __init__(self, kernel: BlockGibbs, coupling: Coupling | None = None) -> None:
        _refuse_choice(kernel, coupling)
        self.kernel = kernel

    def init(self, energy: TwoLayers, x: Float[Tensor, "batch *shape"]) -> State:
        """Chains at x; nothing is evaluated."""
        return self.kernel.init(energy, x)

    def step(self, energy: TwoLayers, state: State, generator: torch.Generator | None) -> tuple[State, Info]:
        """One transition of the kernel."""
        return self.kernel.step(energy, state, generator)

    @torch.no_grad()
    def step_pair(
        self, energy: TwoLayers, x: State, y: State, generator: torch.Generator | None
    ) -> tuple[State, State, Info]:
        """Both hidden layers from one draw, then both events."""
        places = torch.cat([x.x, y.x])
        logits = energy.hidden_logits(places)
        num = len(x.x)
        u = uniform(logits[:num].shape, places, generator)
        hidden = Bernoulli(logits.sigmoid()).drawn(torch.cat([u, u]))
        laws = (Bernoulli(p) for p in energy.visible_logits(hidden).sigmoid().split(num))
        after = (State(place, None, None, x.step + 1) for place in layer_coupling(*laws, generator))
        return *after, Info(energy.free_energy(places, logits), None, None, None)


class CoupledGibbs(CoupledKernel):
    """Two Gibbs chains that visit the same sites and draw them by inversion of the same uniforms.

    Of one binary site that coupling is maximal. Where it agrees, sites that the others bind weakly have
    equal conditionals soon, and the pair meets once no site differs; where coupling between sites is
    strong it may take very long.

    Args:
        kernel: the kernel of either chain.
        coupling: None; there is one.

    Raises:
        ValueError: for a named coupling.
    Cost: that of the kernel, for both chains.
    Reference: Propp & Wilson 1996, Exact sampling with coupled Markov chains, section 4, whose chains share
        their random numbers so.
    """

    def __init__(self, kernel: Gibbs, coupling: Coupling | None = None) -> None:
        _refuse_choice(kernel, coupling)
        self.kernel = kernel

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """Chains at x with their energies."""
        return self.kernel.init(energy, x)

    def step(
        self, energy: Callable[[Tensor], Tensor], state: State, generator: torch.Generator | None
    ) -> tuple[State, Info]:
        """One transition of the kernel."""
        return self.kernel.step(energy, state, generator)

    def step_pair(
        self, energy: Callable[[Tensor], Tensor], x: State, y: State, generator: torch.Generator | None
    ) -> tuple[State, State, Info]:
        """The updates of both chains, out of one draw of sites and uniforms."""
        sites, u = self.kernel.draw(x.x, generator)
        after, info = self.kernel.step(energy, joined(x, y), None, (sites.repeat(1, 2), u.repeat(1, 2)))
        num = len(x.x)
        return after.rows(slice(None, num)), after.rows(slice(num, None)), info


class CoupledJumps(CoupledKernel):
    """Steps of another coupled kernel, each followed by jumps to events that both chains are offered.

    Both chains judge one proposal y ~ q by one uniform; a pair meets where both take it, however far apart it
    stood. So chains in modes that no local kernel bridges meet as soon as q covers the modes.

    Args:
        local: the kernel that moves before the jumps.
        jump: the proposals, at the temperature of that kernel.
        num_jumps: proposals a step.

    Cost: that of a step and of a start of `local`, and num_jumps + 1 energies a chain and step.
    """

    def __init__(self, local: CoupledKernel, jump: Independence, num_jumps: int) -> None:
        self.local = local
        self.jump = jump
        self.num_jumps = num_jumps

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """The other kernel's."""
        return self.local.init(energy, x)

    def step(
        self, energy: Callable[[Tensor], Tensor], state: State, generator: torch.Generator | None
    ) -> tuple[State, Info | None]:
        """One transition: a step and the jumps."""
        moved, info = self.local.step(energy, state, generator)
        return self._jumped(energy, moved, 1, generator), info

    def step_pair(
        self, energy: Callable[[Tensor], Tensor], x: State, y: State, generator: torch.Generator | None
    ) -> tuple[State, State, Info | None]:
        """A step of both chains, and jumps to the same events."""
        x, y, info = self.local.step_pair(energy, x, y, generator)
        num = len(x.x)
        after = self._jumped(energy, joined(x, y), 2, generator)
        return after.rows(slice(None, num)), after.rows(slice(num, None)), info

    def _jumped(
        self, energy: Callable[[Tensor], Tensor], state: State, chains: int, generator: torch.Generator | None
    ) -> State:
        """After jumps that the `chains` chains of a pair judge out of one draw."""
        place = self.jump.init(energy, state.x)
        for _ in range(self.num_jumps):
            draw = self.jump.draw(state.x[: len(state.x) // chains], generator)
            place, _ = self.jump.step(energy, place, None, tuple(torch.cat([part] * chains) for part in draw))
        return self.local.init(energy, place.x)._replace(step=state.step)


class CoupledFiniteChain(CoupledKernel):
    """Two chains on a finite set of states, moved by the rows of one transition matrix, maximally coupled.

    Events are one-hot, (batch, states); the energy is not looked at. On it every expectation of
    `run_coupled_chains` is known by linear algebra.

    Args:
        transition: P(i -> j), rows summing to 1, (states, states).

    Raises:
        ValueError: when that is not a matrix of transition probabilities.
    """

    def __init__(self, transition: Float[Tensor, "states states"]) -> None:
        square = transition.dim() == 2 and transition.shape[0] == transition.shape[1]
        if not square or (transition < 0).any() or not torch.allclose(
            transition.sum(1), transition.new_ones(len(transition))
        ):  # fmt: skip
            raise ValueError("transition must be a square matrix of probabilities whose rows sum to 1")
        self.transition = transition

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch states"]) -> State:
        """Chains at x."""
        return State(x.detach(), None, None, 0)

    def step(
        self, energy: Callable[[Tensor], Tensor], state: State, generator: torch.Generator | None
    ) -> tuple[State, None]:
        """A draw from the row of the state."""
        return State(self._law(state).sample(generator), None, None, state.step + 1), None

    def step_pair(
        self, energy: Callable[[Tensor], Tensor], x: State, y: State, generator: torch.Generator | None
    ) -> tuple[State, State, None]:
        """Two draws, maximally coupled."""
        after = maximal_coupling(self._law(x), self._law(y), generator)
        return *(State(place, None, None, x.step + 1) for place in after), None

    def _law(self, state: State) -> Categorical:
        return Categorical(state.x @ self.transition)


coupled.register(Langevin, CoupledLangevin)
coupled.register(MALA, CoupledMALA)
coupled.register(BlockGibbs, CoupledBlockGibbs)
coupled.register(Gibbs, CoupledGibbs)


def proposal(
    kernel: Langevin | MALA, x: Float[Tensor, "batch *shape"], gradient: Float[Tensor, "batch *shape"]
) -> Normal:
    """N(x - h ∇E(x), 2hT I), from which either kernel draws."""
    h = kernel.step_size(0)
    return Normal(x - h * gradient, math.sqrt(2 * h * kernel.temperature))


def joined(x: State, y: State) -> State:
    """The chains of both states, one after the other; both kept the same things."""
    parts = (None if a is None else torch.cat([a, b]) for a, b in zip(x[:3], y[:3], strict=True))
    return State(*parts, x.step)


def _refuse_choice(kernel: Kernel, coupling: Coupling | None) -> None:
    if coupling is not None:
        raise ValueError(
            f"{type(kernel).__name__} has one coupling, and Gaussian proposals have a choice: set "
            f"objective.coupling=null, got {coupling!r}"
        )


def _checked_coupling(
    kernel: Langevin | MALA, coupling: Coupling | None
) -> Callable[..., tuple[Tensor, Tensor]]:
    coupling = coupling or "reflection"
    if coupling not in _COUPLINGS:
        raise ValueError(f"coupling must be one of {', '.join(_COUPLINGS)}, got {coupling!r}")
    if kernel.temperature is None or not isinstance(kernel.step_size, Constant):
        raise ValueError(
            "coupled chains need one law for all steps: a sampler of constant step_size, without "
            "gradient_clip or clamp, and with temperature > 0"
        )
    return _COUPLINGS[coupling]

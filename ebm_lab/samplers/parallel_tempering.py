"""Parallel tempering: replicas at higher temperatures, whose exchanges carry chains between modes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.draws import uniform
from ebm_lab.samplers.kernel import ExactKernel, Info, State, checked_log_ratio
from ebm_lab.samplers.schedules import Schedule


class ParallelTempering(ExactKernel):
    """Replica exchange: every chain has R replicas x_r of laws exp(-E / (T τ_r)), 1 = τ_1 < ... < τ_R.

    One step moves every replica by `kernel` at the temperature T τ_r, and then proposes to exchange
    neighbours, of ranks (1, 2), (3, 4), ... in even steps and (2, 3), (4, 5), ... in odd ones:

        log α = (1/τ_r - 1/τ_s) (E(x_r) - E(x_s)) / T,    s = r + 1

    Both leave the product of the R laws invariant. The chain that is seen, and that `run_chains` returns,
    is x_1, of law exp(-E/T): what the hot replicas find beyond a barrier comes down to it.

    Args:
        kernel: an exact kernel with a step, made for x_1.
        temperatures: τ_r, rising from 1; neighbours that are far apart are hardly ever exchanged: with a
            ratio of 1 + √(2/d) about half are accepted on a Gaussian of d dimensions.

    Raises:
        ValueError: a kernel without an acceptance test or a step, or temperatures that do not rise from 1.
    Cost: R times the kernel's, all replicas of all chains in one batch.
    Notes: (1) a run starts with all replicas at the chain's own event: only after the hot ones have forgotten
    it are samples those of exp(-E/T), and short runs lean toward the hotter laws. It is a kernel for long
    runs, not for the few steps of an iteration. (2) All replicas move in one call of the energy E(√τ y)/τ in
    the coordinates y = x/√τ, in which one step suits them all. (3) `Info.acceptance` is the mean over a
    chain's replicas. To adapt the step wrap the whole: DualAveraging(ParallelTempering(MALA(...), ...), ...).
    Reference: Swendsen & Wang 1986; Geyer 1991; Okabe et al. 2001 (the alternation of even and odd pairs).
    """

    keeps_memory = True

    def __init__(self, kernel: ExactKernel, temperatures: Sequence[float]) -> None:
        if not isinstance(kernel, ExactKernel) or kernel.step_size is None or kernel.keeps_memory:
            raise ValueError(
                f"{type(kernel).__name__} has no acceptance test and step to temper, or a memory of its own: "
                "take MALA or HMC"
            )
        super().__init__(kernel.temperature)
        self.kernel = kernel
        self.temperatures = _rising(temperatures)
        self.evaluations_per_step = len(self.temperatures) * kernel.evaluations_per_step

    @property
    def step_size(self) -> Schedule:
        """Of the chain that is seen."""
        return self.kernel.step_size

    def describe(self) -> str:
        """Says what a short run leaves."""
        return f"hot replicas start anew at the chain in every run, which leans toward T = {self._hottest:g}"

    @property
    def _hottest(self) -> float:
        return self.temperatures[-1] * self.temperature

    def at_scale(self, factor: float) -> "ParallelTempering":
        """The same temperatures over the scaled kernel."""
        return ParallelTempering(self.kernel.at_scale(factor), self.temperatures)

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """All replicas at x; `State.memory` is the kernel's state of all of them, the seen ones first."""
        tau = self._tau(x)
        replicas = x.detach().repeat(len(self.temperatures), *[1] * (x.dim() - 1))
        inner = self.kernel.init(_tempered(energy, tau), replicas / tau.sqrt())
        return self._seen(inner, tau, len(x))

    def step(
        self,
        energy: Callable[[Tensor], Tensor],
        state: State,
        generator: torch.Generator | None,
        draw: tuple[Any, Float[Tensor, "pairs batch"]] | None = None,
    ) -> tuple[State, Info]:
        """One move of all replicas and one exchange; `draw` is the kernel's own for all of them, and u."""
        tau, batch = self._tau(state.x), len(state.x)
        move, u = (None, None) if draw is None else draw
        inner, moved = self.kernel.step(_tempered(energy, tau), state.memory, generator, move)
        inner, swap = self._exchange(inner, tau, batch, state.step % 2, u, generator)
        acceptance = moved.acceptance.view(-1, batch).mean(0)
        info = Info(state.energy, state.gradient, acceptance, None, swap)
        return self._seen(inner, tau, batch), info

    def _exchange(
        self,
        inner: State,
        tau: Tensor,
        batch: int,
        first: int,
        u: Tensor | None,
        generator: torch.Generator | None,
    ) -> tuple[State, Tensor | None]:
        """Swap neighbours of ranks (first, first + 1), (first + 2, ...), ...; the mean α of each chain."""
        x, energy, gradient = _untempered(inner, tau, batch)
        lower = torch.arange(first, len(self.temperatures) - 1, 2, device=x.device)
        if not len(lower):
            return inner, None
        beta = 1 / tau.view(len(self.temperatures), -1)[:, :1]
        change = (beta[lower] - beta[lower + 1]) * (energy[lower] - energy[lower + 1]) / self.temperature
        log_ratio = checked_log_ratio(self, change.flatten(), energy[lower].flatten()).view_as(change)
        if u is None:
            u = uniform(change.shape, x, generator)
        order = torch.arange(len(self.temperatures), device=x.device)[:, None].repeat(1, batch)
        swapped = (u.log() < log_ratio).long()
        order[lower] += swapped
        order[lower + 1] -= swapped
        columns = torch.arange(batch, device=x.device)
        x, energy, gradient = (part[order, columns].flatten(0, 1) for part in (x, energy, gradient))
        root = tau.sqrt()
        inner = State(x / root, energy / tau.flatten(), gradient / root, inner.step, inner.memory)
        return inner, log_ratio.clamp(max=0).exp().mean(0)

    def _seen(self, inner: State, tau: Tensor, batch: int) -> State:
        """The state whose chains are the replicas at τ = 1."""
        return State(inner.x[:batch], inner.energy[:batch], inner.gradient[:batch], inner.step, inner)

    def _tau(self, x: Tensor) -> Tensor:
        """τ of every replica of every chain, (R · batch, 1, ...), the seen ones first."""
        tau = torch.tensor(self.temperatures, dtype=x.dtype, device=x.device)
        return tau.repeat_interleave(len(x)).view(-1, *[1] * (x.dim() - 1))


def _tempered(energy: Callable[[Tensor], Tensor], tau: Tensor) -> Callable[[Tensor], Tensor]:
    """y -> E(√τ y) / τ, of which y is at the temperature 1 where x = √τ y is at τ."""
    root = tau.sqrt()
    return lambda y: energy(root * y) / tau.flatten()


def _untempered(inner: State, tau: Tensor, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """x, E(x), ∇E(x) by rank and chain: (R, batch, ...)."""
    root = tau.sqrt()
    parts = (root * inner.x, tau.flatten() * inner.energy, root * inner.gradient)
    return tuple(part.unflatten(0, (-1, batch)) for part in parts)


def _rising(temperatures: Sequence[float]) -> tuple[float, ...]:
    values = tuple(float(t) for t in temperatures)
    if len(values) < 2 or values[0] != 1 or any(b <= a for a, b in zip(values, values[1:], strict=False)):
        raise ValueError(f"temperatures must rise from 1, such as [1, 2, 4], got {list(temperatures)}")
    return values

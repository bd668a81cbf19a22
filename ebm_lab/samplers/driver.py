"""The one loop that runs any kernel."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies.energy import ScoreNetwork, frozen
from ebm_lab.samplers.kernel import Kernel


class Chains(NamedTuple):
    """What a run of chains leaves, detached.

    Attributes:
        x: the final events.
        samples: the events after every `record_every` steps, or None where none were asked for.
        energies: mean energy of the batch before each step; empty for a score network.
        acceptance: mean acceptance probability over steps and events; None without an accept step.
        gradient_norm: mean over events of ‖∇E‖ before the last step; None without a step.
        clipped: mean fraction of clipped or clamped coordinates; None where neither is on.
        step_size: of the kernel at the last step; None for a kernel without one, and without a step.
        swap_acceptance: mean acceptance probability of exchanges between replicas; None without any.
    """

    x: Float[Tensor, "batch *shape"]
    samples: Float[Tensor, "records batch *shape"] | None
    energies: Float[Tensor, " steps"]
    acceptance: Float[Tensor, ""] | None
    gradient_norm: Float[Tensor, ""] | None
    clipped: Float[Tensor, ""] | None
    step_size: float | None = None
    swap_acceptance: Float[Tensor, ""] | None = None


def run_chains(
    kernel: Kernel,
    energy: Callable[[Tensor], Tensor] | ScoreNetwork,
    x: Float[Tensor, "batch *shape"],
    num_steps: int,
    generator: torch.Generator | None,
    *,
    record_every: int | None = None,
) -> Chains:
    """Run a batch of chains from x for `num_steps` steps of the kernel.

    A kernel that adapts its step does so first, on these very chains, and is frozen before the first of the
    `num_steps`; only within `kernel.adapting()`, which is training, it adapts in every step.

    The energy is in evaluation mode and its parameters take no gradient meanwhile; mode, buffers,
    requires_grad and gradients are afterwards as they were. Nothing waits for the device in between.

    Args:
        kernel: the transition.
        energy: x -> E(x), shape (batch,); a score network for kernels that only follow the score.
        x: where the chains start; left unchanged.
        num_steps: steps of each chain, at least 0.
        generator: source of all randomness, on the device of x.
        record_every: keep the events after every so many steps (thinning); None keeps none.

    Raises:
        ValueError: num_steps or record_every outside of its range.
    """
    _check_lengths(num_steps, record_every)
    energies, acceptances, clipped, swaps, samples = _Trace(), _Trace(), _Trace(), _Trace(), []
    info = None
    with frozen(energy):
        if num_steps:
            kernel, x = kernel.warmed_up(energy, x.detach(), generator)
        state = kernel.init(energy, x.detach())
        for step in range(1, num_steps + 1):
            state, info = kernel.step(energy, state, generator)
            if info.energy is not None:
                energies.append(info.energy)
            if info.acceptance is not None:
                acceptances.append(info.acceptance)
            if info.clipped is not None:
                clipped.append(info.clipped)
            if info.swap_acceptance is not None:
                swaps.append(info.swap_acceptance)
            if record_every is not None and step % record_every == 0:
                samples.append(state.x)
    return Chains(
        x=state.x,
        samples=None if record_every is None else _stack(samples, x),
        energies=_concatenate(energies.means(), x),
        acceptance=_mean(acceptances.means()),
        gradient_norm=None if info is None or info.gradient is None else _mean_norm(info.gradient),
        clipped=_mean(clipped.means()),
        step_size=None if info is None or kernel.step_size is None else kernel.step_size(state.step - 1),
        swap_acceptance=_mean(swaps.means()),
    )


class _Trace:
    """Means over the batch, step by step, taken a chunk at a time.

    Values are copied into one buffer: keeping each step's own small tensor pins the heap between the
    network's activations, so that with every step the allocator gives pages back and faults them in again
    (some 7 % of an MLP's step on the CPU). A mean in every step would cost more than the copy.
    """

    CHUNK = 64

    def __init__(self) -> None:
        self.rows: Tensor | None = None
        self.views: tuple[Tensor, ...] = ()
        self.filled = 0
        self.done: list[Tensor] = []

    def append(self, values: Float[Tensor, " batch"]) -> None:
        if self.rows is None:
            self.rows = values.new_empty(self.CHUNK, len(values))
            self.views = self.rows.unbind()
        self.views[self.filled].copy_(values)
        self.filled += 1
        if self.filled == self.CHUNK:
            self._flush()

    def means(self) -> list[Float[Tensor, " chunk"]]:
        if self.filled:
            self._flush()
        return self.done

    def _flush(self) -> None:
        self.done.append(self.rows[: self.filled].mean(1))
        self.filled = 0


def _concatenate(chunks: list[Tensor], like: Tensor) -> Tensor:
    return torch.cat(chunks) if chunks else like.new_empty(0)


def _stack(samples: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(samples) if samples else like.new_empty(0, *like.shape)


def _mean(chunks: list[Tensor]) -> Tensor | None:
    return torch.cat(chunks).mean() if chunks else None


def _mean_norm(gradient: Tensor) -> Tensor:
    return gradient.flatten(1).norm(dim=1).mean()


def _check_lengths(num_steps: int, record_every: int | None) -> None:
    if num_steps < 0:
        raise ValueError(f"num_steps must be at least 0, got {num_steps}")
    if record_every is not None and record_every < 1:
        raise ValueError(f"record_every must be at least 1, or None for no records, got {record_every}")

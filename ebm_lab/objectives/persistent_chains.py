"""Chains that survive the parameter updates: where PCD and hybrid classifiers take their negatives from."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ebm_lab.data import InMemoryData
from ebm_lab.energies import Energy
from ebm_lab.energies.energy import frozen
from ebm_lab.errors import UserError
from ebm_lab.noise import Noise
from ebm_lab.objectives.mcmc import check_jumps
from ebm_lab.samplers import (
    Augmentation,
    Chains,
    Independence,
    Kernel,
    ReplayBuffer,
    effective_draws,
    rank_normalised_rhat,
    run_chains,
)

NUM_WATCHED, NUM_DRAWS = 64, 100  # chains and steps behind R̂


class PersistentChains:
    """A replay buffer whose chains jump, move and go back to their slots, once an iteration.

    Args:
        kernel: moves them.
        noise: where chains start, and what jumps are proposed from.
        generator: the generator of the moment; asked for at every use, as it may be made anew on a device.
        num_steps: kernel steps of each drawn chain per iteration.
        num_chains: chains in the buffer.
        num_jumps: independence Metropolis proposals from the noise per iteration; 0 is off.
        restart_fraction: probability that a drawn chain starts anew from the noise.
        augment: what chains that go on pass through first; None for nothing.

    Raises:
        ValueError: for a number outside of its range, or jumps of a kernel without a temperature.
    """

    def __init__(
        self,
        kernel: Kernel,
        noise: Noise,
        generator: Callable[[], torch.Generator],
        *,
        num_steps: int,
        num_chains: int,
        num_jumps: int,
        restart_fraction: float,
        augment: Augmentation | None = None,
    ) -> None:
        if num_chains < 1:
            raise ValueError(f"num_chains must be at least 1, got {num_chains}")
        if not 0 <= restart_fraction <= 1:
            raise ValueError(f"restart_fraction must lie in [0, 1], got {restart_fraction}")
        check_jumps(num_jumps, kernel)
        self.kernel = kernel
        self.noise = noise
        self.generator = generator
        self.num_steps = num_steps
        self.num_chains = num_chains
        self.num_jumps = num_jumps
        self.restart_fraction = restart_fraction
        self.augment = augment
        self._buffer: ReplayBuffer | None = None
        self._saved: dict[str, Any] = {}

    def check(self, data: InMemoryData) -> None:
        """The buffer must hold a batch of chains, and images where they are augmented.

        Raises:
            UserError: when it does not.
        """
        if self.augment is not None and data.domain != "image":
            raise UserError(
                f"objective.augment transforms images, these data are {data.domain}: set it to null"
            )
        if self.num_chains < data.batch_size:
            raise UserError(
                f"objective.num_chains={self.num_chains} is less than data.batch_size={data.batch_size}: each"
                " iteration draws as many chains as the batch has events"
            )

    @property
    def buffer(self) -> ReplayBuffer:
        """The chains, made at the first use, when the device is known."""
        if self._buffer is None:
            self._buffer = ReplayBuffer(
                self.num_chains,
                start=lambda num: self.noise.sample(num, self.generator()),
                restart_fraction=self.restart_fraction,
                generator=self.generator(),
                augment=self.augment,
            )
            if self._saved:
                self._buffer.load_state_dict(self._saved)
                self._saved = {}
        return self._buffer

    def advance(self, energy: Energy, num: int) -> tuple[Chains, dict[str, float | Tensor]]:
        """Move `num` chains on from where they were; the chains and what to watch about them."""
        start, slots = self.buffer.draw(num)
        start, watched = self._jump(energy, start)
        chains = run_chains(self.kernel, energy, start, self.num_steps, self.generator())
        return chains, watched | self.write(slots, chains.x)

    def write(self, slots: Int[Tensor, " num"], x: Float[Tensor, "num *shape"]) -> dict[str, float | Tensor]:
        """Put chains back that someone else moved by `num_steps`; what to watch about them."""
        self.buffer.write(slots, x, self.num_steps)
        return {"chain_age": self.buffer.ages[slots].float().mean(), "restarts": self.buffer.restarts}

    def mixing(self, energy: Energy, generator: torch.Generator) -> dict[str, float | Tensor]:
        """R̂ and effective draws of the energies of chains that go on; the buffer stays as it is.

        Some of the chains take NUM_DRAWS steps of the kernel, without jumps. Modes of equal energies are one
        to these numbers, so a small R̂ is no proof of mixing; a large one is a proof of the contrary.
        """
        if self._buffer is None or self._buffer.states is None:
            return {}
        start = self._buffer.states[:NUM_WATCHED]
        samples = run_chains(self.kernel, energy, start, NUM_DRAWS, generator, record_every=1).samples
        with torch.no_grad(), frozen(energy):
            traces = torch.stack([energy(x) for x in samples], 1)
        return {"rhat": rank_normalised_rhat(traces), "effective_draws": effective_draws(traces)}

    def _jump(
        self, energy: Energy, x: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch *shape"], dict[str, float | Tensor]]:
        if not self.num_jumps:
            return x, {}
        kernel = Independence(self.noise, self.kernel.temperature)
        chains = run_chains(kernel, energy, x, self.num_jumps, self.generator())
        return chains.x, {"jump_acceptance": chains.acceptance}

    def state_dict(self) -> dict[str, Any]:
        """Chains, ages, restarts; the generator is its owner's to save."""
        if self._buffer is None:
            return self._saved
        return {k: v for k, v in self._buffer.state_dict().items() if k != "generator"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep them until the buffer is made."""
        self._buffer, self._saved = None, state

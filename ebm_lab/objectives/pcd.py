"""Persistent contrastive divergence: chains that survive the parameter updates."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from ebm_lab.data import Batch, InMemoryData
from ebm_lab.domains import ANY
from ebm_lab.errors import UserError
from ebm_lab.noise import Gaussian
from ebm_lab.objectives.known_truth import GaussianTruth, IsingTruth
from ebm_lab.objectives.maximum_likelihood import likelihood_surrogate
from ebm_lab.objectives.mcmc import chain_metrics, check_chain_length
from ebm_lab.objectives.objective import Objective, Parts
from ebm_lab.samplers import Independence, ReplayBuffer, run_chains


class PersistentContrastiveDivergence(Objective):
    """PCD (stochastic maximum likelihood): negatives continue chains that are never restarted at the data.

    Gradient ∇ E_data[E] - ∇ E_chains[E]. Chains live in a replay buffer; each iteration draws as many as
    the batch is large, restarts a fraction of them from the noise, moves them and writes them back.
    Jumps are proposals from the noise, accepted so that the model stays invariant: where the noise covers
    the model they carry chains between modes, without which the modes' weights drift unseen.

    Args:
        num_steps: kernel steps of each drawn chain per iteration.
        num_chains: chains in the buffer; equal to the batch size it is plain PCD.
        num_jumps: independence Metropolis proposals from the noise per iteration; 0 is off.
        restart_fraction: probability that a drawn chain starts anew from the noise.
        energy_penalty: α of α (mean E(x)² + mean E(x_model)²); 0 is off.

    Cost: num_steps forwards and input gradients, num_jumps + 1 forwards, and one parameter gradient on two
        batches.
    Notes: 1. Restarted chains are too young, which biases the negatives toward the noise by about
        restart_fraction. 2. When parameters move faster than chains mix, energies oscillate: lower lr.
    Reference: Younes 1989; Tieleman 2008; the buffer is Du & Mordatch 2019, arXiv 1903.08689.
    """

    domains = ANY
    trains_by_sampling = True
    further_truths = (IsingTruth,)
    truth_overrides = ("objective.num_jumps=0",)  # mixed with Langevin they leave no closed form

    def __init__(
        self,
        parts: Parts,
        *,
        num_steps: int = 10,
        num_chains: int = 1000,
        num_jumps: int = 1,
        restart_fraction: float = 0.0,
        energy_penalty: float = 0.0,
    ) -> None:
        super().__init__(parts)
        check_chain_length(num_steps, energy_penalty)
        if num_chains < 1:
            raise ValueError(f"num_chains must be at least 1, got {num_chains}")
        if not 0 <= restart_fraction <= 1:
            raise ValueError(f"restart_fraction must lie in [0, 1], got {restart_fraction}")
        self.num_steps = num_steps
        if num_jumps < 0:
            raise ValueError(f"num_jumps must not be negative, got {num_jumps}")
        if num_jumps and parts.sampler.temperature is None:
            raise ValueError(
                "jumps need a temperature, and with a clip, a clamp or T=0 the sampler has none: set "
                "objective.num_jumps=0"
            )
        self.num_chains = num_chains
        self.num_jumps = num_jumps
        self.restart_fraction = restart_fraction
        self.energy_penalty = energy_penalty
        self._buffer: ReplayBuffer | None = None
        self._saved_chains: dict[str, Any] = {}

    def check(self, data: InMemoryData) -> None:
        """The buffer must hold a batch of chains."""
        super().check(data)
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
                start=lambda num: self.noise.sample(num, self.generator),
                restart_fraction=self.restart_fraction,
                generator=self.generator,
            )
            if self._saved_chains:
                self._buffer.load_state_dict(self._saved_chains)
                self._saved_chains = {}
        return self._buffer

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The surrogate on the batch and on chains that go on where they were."""
        start, slots = self.buffer.draw(len(batch.x))
        start = self._jump(start)
        chains = run_chains(self.sampler, self.energy, start, self.num_steps, self.generator)
        self.buffer.write(slots, chains.x, self.num_steps)
        phases = likelihood_surrogate(self.energy, batch.x, chains.x, self.energy_penalty)
        self.record(
            **chain_metrics(phases, chains, self.sampler),
            chain_age=self.buffer.ages[slots].float().mean(),
            restarts=self.buffer.restarts,
        )
        return phases.loss

    def _jump(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        if not self.num_jumps:
            return x
        kernel = Independence(self.noise, self.sampler.temperature)
        chains = run_chains(kernel, self.energy, x, self.num_jumps, self.generator)
        self.record(jump_acceptance=chains.acceptance)
        return chains.x

    def true_precision(self, truth: GaussianTruth) -> Float[Tensor, "dim dim"]:
        """The precision under which the kernel's stationary variance is the data's.

        Chains restarted from a Gaussian fitted to Gaussian data start with the right variance, so restarts
        add no bias of their own.
        """
        if self.restart_fraction and not isinstance(self.noise, Gaussian):
            raise UserError("pcd with restarts has a closed form for noise=gaussian only")
        return truth.map_eigenvalues(self.sampler.gaussian_precision)

    def chain_state(self) -> dict[str, Any]:
        """Chains, ages, restarts."""
        if self._buffer is None:
            return self._saved_chains
        return {k: v for k, v in self._buffer.state_dict().items() if k != "generator"}  # saved by the base

    def load_chain_state(self, state: dict[str, Any]) -> None:
        """Keep them until the buffer is made."""
        self._buffer, self._saved_chains = None, state

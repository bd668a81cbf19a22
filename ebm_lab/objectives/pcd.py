"""Persistent contrastive divergence: chains that survive the parameter updates."""

from typing import Any

import torch
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
from ebm_lab.objectives.persistent_chains import PersistentChains
from ebm_lab.samplers import Augmentation


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
        augment: random transforms that images in the buffer pass through before they move on; None for none.

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
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(parts)
        check_chain_length(num_steps, energy_penalty)
        self.energy_penalty = energy_penalty
        self.chains = PersistentChains(
            parts.sampler,
            parts.noise,
            lambda: self.generator,
            num_steps=num_steps,
            num_chains=num_chains,
            num_jumps=num_jumps,
            restart_fraction=restart_fraction,
            augment=augment,
        )

    def check(self, data: InMemoryData) -> None:
        """The buffer must hold a batch of chains."""
        super().check(data)
        self.chains.check(data)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The surrogate on the batch and on chains that go on where they were."""
        chains, watched = self.chains.advance(self.energy, len(batch.x))
        phases = likelihood_surrogate(self.energy, batch.x, chains.x, self.energy_penalty)
        self.record(**chain_metrics(phases, chains, self.sampler), **watched)
        return phases.loss

    def true_precision(self, truth: GaussianTruth) -> Float[Tensor, "dim dim"]:
        """The precision under which the kernel's stationary variance is the data's.

        Chains restarted from a Gaussian fitted to Gaussian data start with the right variance, so restarts
        add no bias of their own.
        """
        if self.chains.restart_fraction and not isinstance(self.noise, Gaussian):
            raise UserError("pcd with restarts has a closed form for noise=gaussian only")
        return truth.map_eigenvalues(self.sampler.gaussian_precision)

    def watch_chains(self, generator: torch.Generator) -> dict[str, float | Tensor]:
        """R̂ and effective draws of the buffer's energies."""
        return self.chains.mixing(self.energy, generator)

    def chain_state(self) -> dict[str, Any]:
        """Chains, ages, restarts."""
        return self.chains.state_dict()

    def load_chain_state(self, state: dict[str, Any]) -> None:
        """Keep them until the buffer is made."""
        self.chains.load_state_dict(state)

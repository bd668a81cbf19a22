"""Unbiased contrastive divergence: short chains, whose bias a coupled second chain takes away."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.domains import ANY, BOUNDED
from ebm_lab.objectives.known_truth import GaussianTruth, IsingTruth
from ebm_lab.objectives.maximum_likelihood import likelihood_surrogate
from ebm_lab.objectives.mcmc import check_jumps
from ebm_lab.objectives.objective import Objective, Parts
from ebm_lab.samplers import CoupledJumps, Independence, coupled, run_coupled_chains

Start = Literal["data", "noise"]


class UnbiasedContrastiveDivergence(Objective):
    """CD without its bias: from each event two coupled chains, one a step ahead, run until they meet.

    Gradient ∇ E_data[E] - ∇ E[H_{k:m}], where H_{k:m} is an average over the first chain and differences
    E(X_t) - E(Y_{t-1}) until the chains meet (`run_coupled_chains`). Its mean is that over the kernel's own
    stationary law, however short the chains: with MALA the exact gradient of the likelihood, with
    unadjusted Langevin that of its discretised law. On binary and categorical data Gibbs kernels are exact.

    Args:
        burn_in: k, steps before the average.
        num_steps: m, last step of the average.
        max_steps: steps after which a pair that has not met is given up.
        coupling: of Gaussian proposals: reflection (None) or maximal; Gibbs kernels have one of their own.
        num_jumps: independence Metropolis proposals from the noise after each step, one for both chains; they
            are exact, so that modes far apart need not be crossed for a pair to meet. 0 is off.
        start: where the pairs start: data (the batch) or noise.

    Raises:
        ValueError: for numbers out of range, or a sampler that cannot be coupled.
    Cost: for each event max(m, τ) + τ - 1 forwards and input gradients, and one parameter gradient on
        1 + (m - k + 1) + 2 (τ - 1 - k) events, τ the meeting time; with jumps a step
        costs num_jumps + 2 forwards and another input gradient more.
    Notes: 1. The price is variance: it grows with τ, whose tail is heavy where modes lie far apart; then most
        batches see CD's gradient and few a large correction. 2. Pairs that hit `max_steps` bring the bias of
        CD of that many steps back (`train/capped` is their share). 3. Where MALA hardly accepts, chains that
        start together meet by not moving: H is the data's own energy then, and nothing is learned. 4. The
        paper's chain on an RBM is one of both layers, this one of the events, so that it meets earlier.
    Reference: Qiu, Zhang & Wang 2020, Unbiased Contrastive Divergence Algorithm for Training Energy-Based
        Latent Variable Models, ICLR; Jacob, O'Leary & Atchadé 2020, arXiv 1708.03625.
    """

    domains = ANY - BOUNDED  # their kernel has no coupled form
    trains_by_sampling = True
    further_truths = (IsingTruth,)

    def __init__(
        self,
        parts: Parts,
        *,
        burn_in: int = 1,
        num_steps: int = 5,
        max_steps: int = 100,
        coupling: Literal["reflection", "maximal"] | None = None,
        num_jumps: int = 0,
        start: Start = "data",
    ) -> None:
        super().__init__(parts)
        if not 0 <= burn_in <= num_steps <= max_steps or num_steps < 1:
            raise ValueError(
                "0 <= burn_in <= num_steps <= max_steps and num_steps >= 1 must hold, got "
                f"{burn_in}, {num_steps} and {max_steps}"
            )
        check_jumps(num_jumps, parts.sampler)
        self.pairs_kernel = coupled(parts.sampler, coupling)
        if num_jumps:
            jump = Independence(parts.noise, parts.sampler.temperature)
            self.pairs_kernel = CoupledJumps(self.pairs_kernel, jump, num_jumps)
        self.burn_in = burn_in
        self.num_steps = num_steps
        self.max_steps = max_steps
        self.start = start
        self.register_buffer("capped", torch.zeros(()))

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The surrogate on the batch and on the signed measure that the pairs leave."""
        start = batch.x if self.start == "data" else self.noise.sample(len(batch.x), self.generator)
        chains = run_coupled_chains(
            self.pairs_kernel,
            self.energy,
            start,
            self.generator,
            burn_in=self.burn_in,
            num_steps=self.num_steps,
            max_steps=self.max_steps,
        )
        phases = likelihood_surrogate(self.energy, batch.x, chains.x, weights=chains.weights)
        capped = chains.capped.float().mean()
        self.follow(self.capped, capped)
        model = chains.weights @ phases.energy_model
        self.record(
            energy_data=phases.energy_data.mean(),
            energy_model=model,
            energy_gap=phases.energy_data.mean() - model,
            meeting_time=chains.meeting_times.float().mean(),
            meeting_time_max=chains.meeting_times.max(),
            capped=capped,
            temperature=self.sampler.temperature,
        )
        if chains.acceptance is not None:
            self.record(acceptance=chains.acceptance)
        return phases.loss

    @property
    def notes(self) -> tuple[str, ...]:
        """The bias that capped pairs leave."""
        if not self.capped:
            return ()
        return (
            f"Of the pairs of chains {100 * float(self.capped):.3g} % (a running mean) had not met after "
            f"{self.max_steps} steps, which leaves the gradient the bias of CD of {self.max_steps} steps. "
            "What helps: objective.num_jumps=1, a larger objective.max_steps, or a larger sampler.step_size.",
        )

    def true_precision(self, truth: GaussianTruth) -> Float[Tensor, "dim dim"]:
        """The precision under which the kernel's stationary variance is the data's."""
        return truth.map_eigenvalues(self.sampler.gaussian_precision)

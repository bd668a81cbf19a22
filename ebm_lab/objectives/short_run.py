"""Short-run MCMC: a fixed number of steps from noise, in training and ever after."""

import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.domains import ANY
from ebm_lab.errors import UserError
from ebm_lab.noise import StandardGaussian
from ebm_lab.objectives.known_truth import GaussianTruth, IsingTruth
from ebm_lab.objectives.maximum_likelihood import likelihood_surrogate
from ebm_lab.objectives.mcmc import chain_metrics, check_chain_length
from ebm_lab.objectives.objective import Objective, Parts
from ebm_lab.samplers import Kernel, Langevin, run_chains


class ShortRun(Objective):
    """Non-convergent, non-persistent MCMC: negatives are K kernel steps from fresh noise.

    Gradient ∇ E_data[E] - ∇ E_{noise K^K}[E]. What learns is the K-step map from noise to samples, a moment
    matching of its law; exp(-E) is not the density of the data, and long chains leave them.

    Args:
        num_steps: K, kernel steps from the noise, the same in training and in generation.
        energy_penalty: α of α (mean E(x)² + mean E(x_model)²); 0 is off.

    Cost: K forwards and input gradients, and one parameter gradient on two batches.
    Reference: Nijkamp, Hill, Zhu & Wu 2019, arXiv 1904.09770.
    """

    domains = ANY
    trains_by_sampling = True
    further_truths = (IsingTruth,)
    # So short that the root on Gaussian data lies far from the truth; ten sweeps over some weakly coupled
    # spins forget the noise to 1e-5, so that the Ising model has the answer of maximum likelihood.
    truth_overrides = ("objective.num_steps=10",)
    notes = (
        "Short-run MCMC matches moments of its own K-step samples: judge the samples; exp(-E) is not the "
        "data's density, whatever the divergences below say.",
    )

    def __init__(self, parts: Parts, *, num_steps: int = 30, energy_penalty: float = 0.0) -> None:
        super().__init__(parts)
        check_chain_length(num_steps, energy_penalty)
        self.num_steps = num_steps
        self.energy_penalty = energy_penalty

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The surrogate on the batch and on K steps from noise."""
        start = self.noise.sample(len(batch.x), self.generator)
        chains = run_chains(self.sampler, self.energy, start, self.num_steps, self.generator)
        phases = likelihood_surrogate(self.energy, batch.x, chains.x, self.energy_penalty)
        self.record(**chain_metrics(phases, chains, self.sampler))
        return phases.loss

    def claims_likelihood(self) -> bool:
        """Never: exp(-E) is not the law that was trained."""
        return False

    def walk(self, num: int, kernel: Kernel, num_steps: int, generator: torch.Generator) -> Tensor:
        """K steps of the training kernel from noise: the map that was learned, whatever `kernel` says."""
        start = self.noise.sample(num, generator)
        return run_chains(self.sampler.freeze(), self.energy, start, self.num_steps, generator).x

    def true_precision(self, truth: GaussianTruth) -> Float[Tensor, "dim dim"]:
        """The precision λ at which K steps from N(0, s²) end with the data's variance (not 1/variance)."""
        if not isinstance(self.sampler, Langevin) or not isinstance(self.noise, StandardGaussian):
            raise UserError("short_run has a closed form for sampler=langevin and noise=standard only")
        if self.sampler.temperature != 1:
            raise UserError("the closed form of short_run is written for sampler.temperature=1")
        h, start = self.sampler.step_size(0), self.noise.scale**2
        return truth.map_eigenvalues(lambda m: short_run_precision(float(m), h, self.num_steps, start).to(m))


def short_run_precision(variance: float, step_size: float, num_steps: int, start: float) -> Tensor:
    """λ that solves v_K(λ) = m for unadjusted Langevin from variance v₀.

    v_K = a^{2K} v₀ + 2h (1 - a^{2K}) / (1 - a²) with a = 1 - hλ, decreasing in λ on (0, 1/h).
    """

    def excess(precision: float) -> float:
        decay = (1 - step_size * precision) ** 2
        steps = decay**num_steps
        return steps * start + 2 * step_size * (1 - steps) / (1 - decay) - variance

    if excess(1e-9) < 0 or excess(1 / step_size) > 0:
        raise UserError(
            f"{num_steps} steps of {step_size:g} bring N(0, {start:g}) to no variance of {variance:g}: take "
            "more or larger steps"
        )
    return torch.tensor(brentq(excess, 1e-9, 1 / step_size), dtype=torch.float64)

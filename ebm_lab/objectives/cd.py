"""Contrastive divergence: chains that start at the data."""

from jaxtyping import Float
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.domains import ANY
from ebm_lab.objectives.known_truth import GaussianTruth, IsingTruth
from ebm_lab.objectives.maximum_likelihood import likelihood_surrogate
from ebm_lab.objectives.mcmc import chain_metrics, check_chain_length
from ebm_lab.objectives.objective import Objective, Parts
from ebm_lab.samplers import run_chains


class ContrastiveDivergence(Objective):
    """CD-k: negatives are k kernel steps from the minibatch itself.

    Gradient ∇ E_data[E] - ∇ E_{p_data K^k}[E]: descent on KL(p_data ‖ p) - KL(p_data K^k ‖ p) with the
    chain's dependence on the parameters left out.

    Args:
        num_steps: k, kernel steps from the data.
        energy_penalty: α of α (mean E(x)² + mean E(x_model)²); 0 is off.

    Cost: k forwards and input gradients, and one parameter gradient on two batches.
    Notes: 1. The fixed point on Gaussian data does not depend on k and has the kernel's own bias; an exact
        kernel has none. 2. Modes far from the data are never visited, so they are never pushed up.
    Reference: Hinton 2002, Training Products of Experts by Minimizing Contrastive Divergence.
    """

    domains = ANY
    trains_by_sampling = True
    further_truths = (IsingTruth,)

    def __init__(self, parts: Parts, *, num_steps: int = 1, energy_penalty: float = 0.0) -> None:
        super().__init__(parts)
        check_chain_length(num_steps, energy_penalty)
        self.num_steps = num_steps
        self.energy_penalty = energy_penalty

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The surrogate on the batch and on its own k-step chains."""
        chains = run_chains(self.sampler, self.energy, batch.x, self.num_steps, self.generator)
        phases = likelihood_surrogate(self.energy, batch.x, chains.x, self.energy_penalty)
        self.record(**chain_metrics(phases, chains, self.sampler))
        return phases.loss

    def true_precision(self, truth: GaussianTruth) -> Float[Tensor, "dim dim"]:
        """The precision under which the kernel leaves the data's variance as it is."""
        return truth.map_eigenvalues(self.sampler.gaussian_precision)

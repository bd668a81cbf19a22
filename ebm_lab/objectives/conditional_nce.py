"""Conditional noise contrast: each event of the data against perturbed copies of itself."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from ebm_lab.data import Batch
from ebm_lab.noise.perturbation import Perturbation
from ebm_lab.objectives.objective import Objective, Parts


def conditional_loss(
    energies: Float[Tensor, " num"],
    energies_perturbed: Float[Tensor, " num"],
    log_perturbation: Float[Tensor, " num"] | None = None,
) -> Float[Tensor, ""]:
    """2 mean softplus(-G), G = E(y) - E(x) + log p_c(y | x) - log p_c(x | y), of pairs x, y ~ p_c(· | x).

    Args:
        energies: E(x).
        energies_perturbed: E(y).
        log_perturbation: log p_c(y | x) - log p_c(x | y); None for a symmetric law, where it is 0.

    Reference: Ceylan & Gutmann 2018, arXiv 1806.03664.
    """
    logits = energies_perturbed - energies
    if log_perturbation is not None:
        logits = logits + log_perturbation
    return 2 * softplus(-logits).mean()


class ConditionalNCE(Objective):
    """CNCE: of an event and its perturbed copy, which is the data? The law of the noise need not be known.

    J = 2 E softplus(-G), G = E(y) - E(x) + log p_c(y | x) - log p_c(x | y), x ~ p_data, y ~ p_c(· | x). The
    optimum is E = -log p_data + c: Z cancels and none is learned. With a symmetric Gaussian p_c of standard
    deviation ε → 0 it is score matching, J = 2 log 2 + (ε²/2) E[tr ∇s + ½‖s‖²] + O(ε⁴).

    Args:
        perturbation: p_c; one that also shrinks events toward the origin keeps y as wide as the data.
        num_perturbed: y per event (the paper's κ).
        sigma: standard deviation of Gaussian noise added to the data; 0 adds none.

    Raises:
        ValueError: a number out of its range.
    Cost: one parameter gradient on 1 + κ batches; no sampler, no second derivatives.
    Notes: 1. With ε far below the data's width nothing but the score is seen, and that through a small
        difference of noisy terms; with ε far above it y is told from x at sight. In d dimensions of width s,
        G is about dε²/(2s²): on images ε must be small for G to be a few. 2. Modes that no
        perturbation connects have weights that it sees no more than score matching does. 3. The paper picks
        ε by the loss on the data at hand; here it is an option, and `train/accuracy`, the share of copies
        that are found out, is what to pick it by.
    Reference: Ceylan & Gutmann 2018, Conditional Noise-Contrastive Estimation of Unnormalised Models, ICML,
        arXiv 1806.03664.
    """

    has_held_out_loss = True
    monitor = "val/loss"
    notes = (
        "Conditional NCE sees the weights of modes only where its perturbation leads from one to the other; "
        "between modes that lie further apart E is defined up to a constant of each.",
    )

    def __init__(
        self, parts: Parts, *, perturbation: Perturbation, num_perturbed: int = 1, sigma: float = 0.0
    ) -> None:
        super().__init__(parts, sigma=sigma)
        if num_perturbed < 1:
            raise ValueError(f"num_perturbed must be at least 1, got {num_perturbed}")
        self.perturbation = perturbation
        self.num_perturbed = num_perturbed

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The logistic loss of the batch against perturbed copies."""
        x = self.corrupted(batch.x)
        energies = self.energy(x).repeat(self.num_perturbed)
        x = x.repeat(self.num_perturbed, *[1] * (x.dim() - 1))
        y = self.perturbation.perturb(x, self.normal_like(x))
        ratio, energies_perturbed = self.perturbation.log_ratio(x, y), self.energy(y)
        self.record(accuracy=(energies_perturbed + ratio > energies).float().mean())
        return conditional_loss(energies, energies_perturbed, ratio)

"""Diffusive classification: energies of noise levels as the logits of which level an event has."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from ebm_lab.data.batch import Batch
from ebm_lab.energies import Energy, NoiseLadder
from ebm_lab.noise import NoisedGaussian
from ebm_lab.objectives.ladder_objective import noised
from ebm_lab.objectives.ncsn import conditional_denoising_loss
from ebm_lab.objectives.normalised_ladder import NormalisedLadder
from ebm_lab.objectives.objective import Parts
from ebm_lab.samplers import Kernel


def level_logits(
    energy: Energy, x: Float[Tensor, "batch *shape"], sigmas: Float[Tensor, " levels"]
) -> Float[Tensor, "batch levels"]:
    """-E(x, σ_k) of every event at every level.

    Cost: as many forwards as there are levels, in one batch.
    """
    num = len(sigmas)
    energies = energy(x.repeat_interleave(num, 0), sigma=sigmas.to(x).repeat(len(x)))
    return -energies.view(len(x), num)


def level_classification_loss(
    logits: Float[Tensor, "batch levels"], levels: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """mean -log softmax(logits)[level], in nats: which level's noise is on the event, all equally likely.

    Blind to what all logits share: E(x, σ_k) + g(x) has the same loss for every g. At the truth its slope is
        0.

    Reference: Grenioux, OuYang & Hernández-Lobato 2026, A Diffusive Classification Loss for Learning
    Energy-based Generative Models, arXiv 2601.21025.
    """
    return cross_entropy(logits, levels)


class DiffusiveClassification(NormalisedLadder):
    """DiffCLF: score matching at every level of a ladder, and a classifier of the level made of its energies.

        J = mean over levels of σ_k² E ½ ‖s(x_k, σ_k) + z/σ_k‖² - w E log softmax_k(-E(x_k, σ_1), ...)

    The classifier is right where E(x, σ_k) = -log p_{σ_k}(x) + g(x) with one g for all levels, score matching
    leaves g no slope: one constant for all levels and events, and the weights of modes that no single level
    bridges come down from the levels that do. The widest level, nearly a Gaussian, says what the constant is
    (`NormalisedLadder`): a likelihood without a sampler.

    Args:
        ladder: from the noise under which the data are learned to one where all modes have merged.
        prior: the Gaussian N(μ, Σ), fitted to the data, which the widest level is.
        sampler: kernel of the levels in sampling, its own step for a level of σ = 1.
        num_steps: at each level.
        classification_weight: w; 0 leaves `ncsn`.

    Raises:
        ValueError: a negative weight.
    Cost: about 9 forwards for the score, and 3 for each level of the ladder.
    Notes: 1. All levels of the ladder are the classes in every batch, none are drawn. 2. The levels keep the
        data's scale; the paper has diffusions and interpolants. 3. The paper was read in its abstract and in
        reports of it: its weight between both terms is not known here.
    Reference: Grenioux, OuYang & Hernández-Lobato 2026, arXiv 2601.21025.
    """

    needs_second_derivatives = True
    has_held_out_loss = True
    monitor = "val/loss"
    truth_overrides = (
        "objective.ladder.smallest=0.5",
        "objective.ladder.largest=2.0",
        "objective.ladder.num_levels=3",
    )
    notes = (
        "Diffusive classification learns the density of the data under the smallest noise of its ladder, "
        "normalised by its widest: nll_learned and log_z_learned need no integral. Samples descend the "
        "ladder.",
    )

    def __init__(
        self,
        parts: Parts,
        *,
        ladder: NoiseLadder,
        prior: NoisedGaussian,
        sampler: Kernel,
        num_steps: int = 20,
        classification_weight: float = 1.0,
    ) -> None:
        super().__init__(parts, ladder=ladder, prior=prior, sampler=sampler, num_steps=num_steps)
        if classification_weight < 0:
            raise ValueError(f"classification_weight must not be negative, got {classification_weight}")
        self.classification_weight = classification_weight

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Both losses on the same noised events, each at a random level."""
        levels, z = self.draw_levels(len(batch.x)), self.normal_like(batch.x)
        sigma = self.sigmas[levels]
        matching = conditional_denoising_loss(self.energy, batch.x, z, sigma)
        logits = level_logits(self.energy, noised(batch.x, sigma, z), self.sigmas)
        classification = level_classification_loss(logits, levels)
        right = (logits.argmax(1) == levels).to(logits.dtype).mean()
        self.record(score_matching=matching, cross_entropy=classification, accuracy=right)
        return matching + self.classification_weight * classification

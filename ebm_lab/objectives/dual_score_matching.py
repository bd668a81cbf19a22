"""Dual score matching: the gradients of one energy in the event and in the noise level."""

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.draws import uniform
from ebm_lab.energies import Energy, NoiseLadder, as_events
from ebm_lab.noise import NoisedGaussian
from ebm_lab.objectives.ladder_objective import noised
from ebm_lab.objectives.normalised_ladder import NormalisedLadder
from ebm_lab.objectives.objective import Parts
from ebm_lab.samplers import Kernel


def dual_score_loss(
    energy: Energy,
    x: Float[Tensor, "batch *shape"],
    z: Float[Tensor, "batch *shape"],
    sigma: Float[Tensor, " batch"],
    level_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """mean ½ (t/d) ‖∇_y U - (y - x)/t‖² + w ½ (t/d)² (∂_t U - d/(2t) + ‖y - x‖²/(2t²))², t = σ², y = x + σz.

    Both targets are the derivatives of -log N(y; x, tI), whose means given y are those of -log p_t(y). In
    terms of z and log σ: ½ ‖σ∇_y U - z‖²/d + w ½ ((∂U/∂log σ - d + ‖z‖²) / (2d))².

    Cost: a forward, one backward in y and σ, and the parameter gradient through it: about 9 forwards.
    Reference: Guth, Kadkhodaie & Simoncelli 2025, Learning normalized image densities via dual score
    matching, arXiv 2506.05310, section 2, with ½.
    """
    with torch.enable_grad():
        y = noised(x, sigma, z).detach().requires_grad_(True)
        sigma = sigma.detach().requires_grad_(True)
        total = energy(y, sigma=sigma).sum()
        slope, level_slope = torch.autograd.grad(total, (y, sigma), create_graph=True)
    dim = x[0].numel()
    in_space = (as_events(sigma.detach(), x) * slope - z).flatten(1).square().sum(1) / dim
    surplus = sigma.detach() * level_slope - dim + z.flatten(1).square().sum(1)
    return 0.5 * (in_space + level_weight * (surplus / (2 * dim)).square()).mean()


class DualScoreMatching(NormalisedLadder):
    """DUAL: an energy of all noise levels, matched in its slope along the event and along the level.

        J = E_σ E ½ (t/d) ‖∇_y U - (y - x)/t‖² + w ½ (t/d)² (∂_t U - d/(2t) + ‖y - x‖²/(2t²))²,  t = σ²

    The minimiser is U(y, σ) = -log p_σ(y) + c with one c for all levels: the slope along the level ties the
    constants together, and weighs modes that no single noise level bridges. The widest level, nearly a
    Gaussian, says what c is (`NormalisedLadder`): a likelihood without a sampler. log σ is uniform between
    the ladder's ends; its levels in between serve sampling only.

    Args:
        ladder: from the noise under which the data are learned to one where all modes have merged.
        prior: the Gaussian N(μ, Σ), fitted to the data, which the widest level is.
        sampler: kernel of the levels in sampling, its own step for a level of σ = 1.
        num_steps: at each level.
        level_weight: w of the slope along the level; 0 leaves score matching at all levels.

    Raises:
        ValueError: a negative weight.
    Cost: about 9 forwards.
    Notes: 1. The weights t/d and (t/d)² make both terms of one size at every level; whether the authors' code
        has a further factor between them was not seen. 2. Their network is a U-Net's inner product with its
        input; here it is any energy of noise levels.
    Reference: Guth, Kadkhodaie & Simoncelli 2025, arXiv 2506.05310.
    """

    needs_second_derivatives = True
    has_held_out_loss = True
    monitor = "val/loss"
    truth_overrides = ("objective.ladder.smallest=0.5", "objective.ladder.largest=2.0")
    notes = (
        "Dual score matching learns the density of the data under the smallest noise of its ladder, "
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
        level_weight: float = 1.0,
    ) -> None:
        super().__init__(parts, ladder=ladder, prior=prior, sampler=sampler, num_steps=num_steps)
        if level_weight < 0:
            raise ValueError(f"level_weight must not be negative, got {level_weight}")
        self.level_weight = level_weight

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss at a fresh level and with fresh noise for every event."""
        x = batch.x
        u = uniform(x.shape[:1], x, self.generator)
        low, high = self.sigmas[0], self.sigmas[-1]
        sigma = low * (high / low) ** u
        return dual_score_loss(self.energy, x, self.normal_like(x), sigma, self.level_weight)

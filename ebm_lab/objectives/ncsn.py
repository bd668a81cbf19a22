"""Noise-conditional score networks: denoising score matching at every level of a ladder."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.energies import Energy, NoiseLadder, ScoreNetwork, as_events, score
from ebm_lab.noise import NoisedGaussian
from ebm_lab.objectives.flow_ladder import FlowLadder
from ebm_lab.objectives.ladder_objective import noised
from ebm_lab.objectives.objective import Parts
from ebm_lab.samplers import Kernel


def conditional_denoising_loss(
    model: Energy | ScoreNetwork,
    x: Float[Tensor, "batch *shape"],
    z: Float[Tensor, "batch *shape"],
    sigma: Float[Tensor, " batch"],
    weights: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, ""]:
    """mean w ½ ‖σ s(x + σz, σ) + z‖²: each level's denoising loss with weight σ², and w = 1 without weights.

    With s = 0 every level's loss is d/2, at the optimum on N(0, mI) it is ½ d m / (m + σ²).

    Cost: that of `denoising_loss`.
    Reference: Song & Ermon 2019, Generative Modeling by Estimating Gradients of the Data Distribution,
    arXiv 1907.05600, eqs. 5 and 6 with λ(σ) = σ².
    """
    residual = as_events(sigma, x) * score(model, noised(x, sigma, z), create_graph=True, sigma=sigma) + z
    losses = 0.5 * residual.flatten(1).square().sum(1)
    return (losses if weights is None else weights * losses).mean()


class NoiseConditionalScoreNetwork(FlowLadder):
    """NCSN: one model learns the scores of the data at all levels of noise; samples descend them.

        J = mean over levels of σ_k² E ½ ‖s(x + σ_k z, σ_k) + z/σ_k‖²

    The model is an energy E(x, σ), s = -∇E, or a score network (energy=score_mlp, score_unet), which trains
    three times as fast and has no energy to evaluate. Wide levels join the modes that narrow ones cannot
    weigh, in sampling; the energy at one level sees weights no better than `dsm` does.

    Sampling is annealed Langevin: num_steps of x' = x + h_k s + √(2h_k) z at each level, h_k = h σ_k², and
    one jump to the clean data. h is the step of the authors' code, x' = x + α_k s + √(2α_k) z with
    α_k = ε σ_k²/σ_0²: h = ε/σ_0². The paper's x' = x + (α_k/2) s + √α_k z is h = ε/(2σ_0²). On a Gaussian
    level the variance comes out σ_k² / (1 - h/2): for ε/σ_0² = .2 larger by 1.1111, in the paper's form by
    1.0526. The likelihood is that of the probability flow through the levels (`FlowLadder`), which asks the
    model between them too; samples may come by it as well.

    Args:
        ladder: the levels σ_0 < ... < σ_T.
        prior: the Gaussian N(μ, Σ), fitted to the data; with σ_T's noise on it samples start there, and the
            likelihood ends there.
        sampler: kernel of the levels, its own step for a level of σ = 1.
        num_steps: at each level.
        samples_by: annealed_langevin, or flow: the probability flow backwards.
        num_likelihood, divergence, tolerance: of the flow's likelihood.

    Cost: about 9 forwards with an energy, 3 with a score network; num_steps (T + 1) scores for a sample.
    Notes: 1. Each event has one random level. 2. Chains start at the data's Gaussian noised to σ_T, in the
        paper at uniform noise. 3. The jump at the end is that of Song & Ermon 2020.
    Reference: Song & Ermon 2019, arXiv 1907.05600, algorithm 1; 2020, Improved Techniques for Training
    Score-Based Generative Models, arXiv 2006.09011, for ladders and the jump.
    """

    takes_scores = True
    needs_second_derivatives = True
    has_held_out_loss = True
    monitor = "val/loss"
    truth_overrides = ("iterations=2500",)  # the widest level pulls weakly
    notes = (
        "A noise-conditional score network learns the score of the data under the smallest noise of its "
        "ladder; score matching cannot see the weights of modes that this noise does not bridge. Samples "
        "descend the whole ladder and end with a jump to the clean data.",
    )

    def __init__(
        self,
        parts: Parts,
        *,
        ladder: NoiseLadder,
        prior: NoisedGaussian,
        sampler: Kernel,
        num_steps: int = 20,
        samples_by: Literal["annealed_langevin", "flow"] = "annealed_langevin",
        num_likelihood: int = 200,
        divergence: Literal["auto", "exact", "probed"] = "auto",
        tolerance: float = 1e-5,
    ) -> None:
        super().__init__(
            parts,
            ladder=ladder,
            prior=prior,
            sampler=sampler,
            num_steps=num_steps,
            num_likelihood=num_likelihood,
            divergence=divergence,
            tolerance=tolerance,
        )
        self.samples_by = samples_by

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss with a random level and fresh noise for every event."""
        sigma = self.sigmas[self.draw_levels(len(batch.x))]
        return conditional_denoising_loss(self.energy, batch.x, self.normal_like(batch.x), sigma)

    def walk(self, num: int, kernel: Kernel, num_steps: int, generator: torch.Generator) -> Tensor:
        """From the top level down with the method's own kernel, or the flow, whatever `kernel` says."""
        if self.samples_by == "flow":
            return self.flow_down(num, generator)
        return super().walk(num, kernel, num_steps, generator)

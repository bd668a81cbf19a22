"""Denoising score matching at one noise level."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.energies import Energy, ScoreNetwork, score
from ebm_lab.objectives.known_truth import GaussianTruth
from ebm_lab.objectives.objective import Objective, Parts
from ebm_lab.objectives.tweedie import denoise
from ebm_lab.samplers import Kernel


def denoising_loss(
    model: Energy | ScoreNetwork,
    x: Float[Tensor, "batch *shape"],
    z: Float[Tensor, "batch *shape"],
    sigma: float,
) -> Float[Tensor, ""]:
    """mean ½ ‖s(x + σz) + z/σ‖², z ~ N(0, I).

    Cost: one forward, one input gradient, and the parameter gradient through it.
    Reference: Vincent 2011, A Connection Between Score Matching and Denoising Autoencoders, eq. 9.
    """
    residual = score(model, x + sigma * z, create_graph=True) + z / sigma
    return 0.5 * residual.flatten(1).square().sum(1).mean()


class DenoisingScoreMatching(Objective):
    """DSM: the score at a noised point is the direction back to the data.

    J = E ½ ‖s(x + σz) + z/σ‖². The minimiser is the score of p_σ = p_data * N(0, σ²I), never of p_data
    itself; J differs from the Fisher divergence to p_σ by a constant.

    Args:
        sigma: standard deviation σ of the noise, in the data's units.

    Cost: about 9 forwards (a gradient through an input gradient).
    Notes: blind to the weights of modes that σ does not bridge.
    Reference: Vincent 2011; Song & Kingma 2021, arXiv 2101.03288, section 4.1.
    """

    needs_second_derivatives = True
    has_held_out_loss = True
    monitor = "val/loss"
    notes = (
        "Denoising score matching learns the density of the noised data, and it cannot see the weights of "
        "separated modes: the Fisher divergence to the noised density is its measure, KL is not.",
    )

    def __init__(self, parts: Parts, *, sigma: float = 0.1) -> None:
        super().__init__(parts)
        if sigma <= 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.sigma = sigma

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The denoising loss with fresh noise."""
        return denoising_loss(self.energy, batch.x, self.normal_like(batch.x), self.sigma)

    def corrupted(self, x: Float[Tensor, "num *shape"]) -> Float[Tensor, "num *shape"]:
        """x + σz."""
        return x + self.sigma * self.normal_like(x)

    def generate(self, num: int, kernel: Kernel, num_steps: int, generator: torch.Generator) -> Tensor:
        """Chains on p_σ, then one jump to the posterior mean of the clean data (walk-jump sampling)."""
        return denoise(self.model(), super().generate(num, kernel, num_steps, generator), self.sigma)

    def target(self, density: Any) -> Any:
        """p_σ."""
        return density.noised(self.sigma)

    def true_precision(self, truth: GaussianTruth) -> Float[Tensor, "dim dim"]:
        """(Σ + σ²I)⁻¹, the precision of the noised data."""
        return truth.map_eigenvalues(lambda m: 1 / (m + self.sigma**2))

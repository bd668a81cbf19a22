"""Denoising score matching at one noise level."""

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.energies import Energy, ScoreNetwork, score
from ebm_lab.objectives.objective import Objective, Parts


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


def variance_reduced_denoising_loss(
    model: Energy | ScoreNetwork,
    x: Float[Tensor, "batch *shape"],
    z: Float[Tensor, "batch *shape"],
    sigma: float,
) -> Float[Tensor, ""]:
    """mean ½ ‖s(x + σz)‖² + (s(x + σz) - s(x))ᵀz/σ + d/(2σ²), z ~ N(0, I).

    `denoising_loss` less the control variate s(x)ᵀz/σ + (‖z‖² - d)/(2σ²), whose mean over z is 0: the same
    expectation. Its variance, and that of its gradient, stay finite as σ → 0, where it becomes the sliced
    loss zᵀ(∇s)z + ½‖s‖² and the constant. On a linear score the second term is zᵀ(∇s)z at every σ.

    Cost: that of `denoising_loss` on twice as many events.
    Reference: Wang, Cheng, Li, Zhu & Zhang 2020, A Wasserstein Minimum Velocity Approach to Learning
    Unnormalized Models, arXiv 2002.07501, section 4.
    """
    noised, clean = score(model, torch.cat([x + sigma * z, x]), create_graph=True).flatten(1).chunk(2)
    along = ((noised - clean) * z.flatten(1)).sum(1) / sigma
    return (0.5 * noised.square().sum(1) + along).mean() + noised.shape[1] / (2 * sigma**2)


class DenoisingScoreMatching(Objective):
    """DSM: the score at a noised point is the direction back to the data.

    J = E ½ ‖s(x + σz) + z/σ‖². The minimiser is the score of p_σ = p_data * N(0, σ²I), never of p_data
    itself; J differs from the Fisher divergence to p_σ by a constant.

    Args:
        sigma: standard deviation σ of the noise, in the data's units.
        variance_reduced: subtract a control variate of mean 0, without which the variance grows as 1/σ²:
            for σ far below the narrowest width of the data.

    Cost: about 9 forwards (a gradient through an input gradient); twice that where variance is reduced.
    Notes: blind to the weights of modes that σ does not bridge.
    Reference: Vincent 2011; Song & Kingma 2021, arXiv 2101.03288, section 4.1; Wang et al. 2020, arXiv
    2002.07501, for the control variate.
    """

    takes_scores = True
    needs_second_derivatives = True
    has_held_out_loss = True
    monitor = "val/loss"
    notes = (
        "Denoising score matching learns the density of the noised data, and it cannot see the weights of "
        "separated modes: the Fisher divergence to the noised density is its measure, KL is not.",
    )

    def __init__(self, parts: Parts, *, sigma: float = 0.1, variance_reduced: bool = False) -> None:
        super().__init__(parts)
        if sigma <= 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.sigma = sigma
        self.variance_reduced = variance_reduced

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The denoising loss with fresh noise."""
        pure = variance_reduced_denoising_loss if self.variance_reduced else denoising_loss
        return pure(self.energy, batch.x, self.normal_like(batch.x), self.sigma)

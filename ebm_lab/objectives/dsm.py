"""Denoising score matching at one noise level."""

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

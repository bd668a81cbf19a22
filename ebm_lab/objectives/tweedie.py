"""The posterior mean of clean data under a model of noised data."""

from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies import Energy, ScoreNetwork, frozen, score


def denoise(
    model: Energy | ScoreNetwork, x: Float[Tensor, "batch *shape"], sigma: float
) -> Float[Tensor, "batch *shape"]:
    """E[x₀ | x] = x + σ² s(x), for x = x₀ + σz and s the score of the noised density.

    Reference: Robbins 1956 and Miyasawa 1961 (Tweedie's formula); as the last step of sampling, the jump of
    Saremi & Hyvärinen 2019, arXiv 1903.02334, eq. 10.
    """
    with frozen(model):
        return (x + sigma**2 * score(model, x)).detach()

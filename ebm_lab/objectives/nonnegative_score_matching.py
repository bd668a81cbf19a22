"""Score matching of non-negative data."""

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.domains import NONNEGATIVE
from ebm_lab.objectives.boundary import BoundaryWeightedScoreMatching
from ebm_lab.objectives.truncated_truth import NonnegativeTruth


class NonnegativeScoreMatching(BoundaryWeightedScoreMatching):
    """Score matching on x ≥ 0 with weights that vanish at 0.

    J = E Σ_i [g_i ∂_i s_i + g'_i s_i + ½ g_i s_i²] with g = x² (square), x (linear) or min(x, c) (clipped).
    The rate of exponential data is 2 m₁/m₂ by the first and 1/m₁, as by maximum likelihood, by the second;
    without a weight it would be 0.

    Args:
        weight: square, linear or clipped.
        clip: c of the clipped weight, in the data's units.
        chunk_size: coordinates whose graph is in memory; null keeps that of all.

    Raises:
        ValueError: for an unknown weight, a clip that is not positive or a chunk_size below 1.
        UserError: for events of more than 256 numbers.
    Cost: about 18 d forwards in d dimensions.
    Notes: 1. The square gives most weight to the largest numbers; of heavy tails the clipped weight has the
        smaller variance. 2. Blind to the weights of separated modes.
    Reference: Hyvärinen 2007, Some extensions of score matching, CSDA 51 (square); Yu, Drton & Shojaie 2019,
        Generalized score matching for non-negative data, JMLR 20 (the others).
    """

    domains = NONNEGATIVE
    truth = NonnegativeTruth

    def distance(self, x: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        """x and 1."""
        return x, torch.ones_like(x)

    def square(self, x: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        """x² and 2x."""
        return x.square(), 2 * x

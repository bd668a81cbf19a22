"""Score matching of data in the unit box."""

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.domains import UNIT
from ebm_lab.objectives.boundary import BoundaryWeightedScoreMatching
from ebm_lab.objectives.truncated_truth import UnitTruth


class UnitScoreMatching(BoundaryWeightedScoreMatching):
    """Score matching on [0, 1]^d with weights that vanish at both edges.

    J = E Σ_i [g_i ∂_i s_i + g'_i s_i + ½ g_i s_i²] with g = x² (1 - x)² (square), min(x, 1 - x) (linear, the
    distance to the edge) or min(x, 1 - x, c) (clipped).

    Args:
        weight: square, linear or clipped.
        clip: c of the clipped weight, of use below ½.
        chunk_size: coordinates whose graph is in memory; null keeps that of all.

    Raises:
        ValueError: for an unknown weight, a clip that is not positive or a chunk_size below 1.
        UserError: for events of more than 256 numbers.
    Cost: about 18 d forwards in d dimensions.
    Notes: 1. Each coordinate has its own distance, to the edges of its own interval, where Liu et al. weight
        all by the distance to the boundary of the box. 2. Blind to the weights of separated modes.
    Reference: Hyvärinen 2007, Some extensions of score matching, CSDA 51; Liu, Kanamori & Williams 2022,
        Estimating density models with truncation boundaries using score matching, JMLR 23.
    """

    domains = UNIT
    truth = UnitTruth

    def distance(self, x: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        """min(x, 1 - x) and its sign."""
        return torch.minimum(x, 1 - x), torch.where(x < 0.5, 1.0, -1.0).to(x)

    def square(self, x: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        """x² (1 - x)² and 2 x (1 - x) (1 - 2x)."""
        inside = x * (1 - x)
        return inside.square(), 2 * inside * (1 - 2 * x)

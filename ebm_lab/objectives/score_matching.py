"""Implicit score matching with the exact divergence of the score."""

import math

from jaxtyping import Float
from torch import Tensor

from ebm_lab.data import Batch, InMemoryData
from ebm_lab.energies import Energy, ScoreNetwork, implicit_losses
from ebm_lab.objectives.derivatives import check_chunk_size, check_size
from ebm_lab.objectives.implicit import ImplicitScoreMatching
from ebm_lab.objectives.objective import Parts


def implicit_loss(
    model: Energy | ScoreNetwork, x: Float[Tensor, "batch *shape"], chunk_size: int | None = None
) -> Float[Tensor, ""]:
    """mean tr ∇s + ½‖s‖²; of an energy, mean ½‖∇E‖² - ΔE.

    Args:
        chunk_size: coordinates whose graph is in memory; None keeps that of all.

    Cost: see `score_and_diagonal`, and the parameter gradient of it.
    Reference: Hyvärinen 2005, JMLR 6, theorem 1.
    """
    return implicit_losses(model, x, chunk_size).mean()


class ScoreMatching(ImplicitScoreMatching):
    """ISM: the Fisher divergence to the data after integration by parts, nothing estimated.

    J = E_x [tr ∇s + ½‖s‖²] = E_x ½‖s - s_data‖² - ½ E_x‖s_data‖².

    Args:
        chunk_size: coordinates whose graph is in memory; null keeps that of all. Fewer need less
            memory and more time.
        sigma: standard deviation of Gaussian noise added to the data; null adds 0 to vectors and 0.35 to
            dequantised images.

    Raises:
        ValueError: for a chunk_size below 1 or a negative sigma.
        UserError: for events of more than 256 numbers.
    Cost: about 18 d forwards in d dimensions.
    Notes: 1. Blind to the weights of separated modes. 2. Data that repeat events, such as rounded ones, have
        atoms, at which the loss falls without bound.
    Reference: Hyvärinen 2005, JMLR 6, theorem 1; Song & Kingma 2021, arXiv 2101.03288, section 4.
    """

    takes_scores = True

    def __init__(self, parts: Parts, *, chunk_size: int | None = None, sigma: float | None = None) -> None:
        super().__init__(parts, sigma=sigma)
        self.chunk_size = check_chunk_size(chunk_size)

    @classmethod
    def check_data(cls, data: InMemoryData) -> None:
        """Refuse events of too many numbers."""
        super().check_data(data)
        others = "objective=ssm, objective=fd_ssm or objective=dsm"
        check_size(cls.__name__, math.prod(data.shape), others)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The implicit loss."""
        return implicit_loss(self.energy, self.corrupted(batch.x), self.chunk_size)

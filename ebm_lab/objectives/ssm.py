"""Sliced score matching."""

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data import Batch
from ebm_lab.energies import Energy, ScoreNetwork, score
from ebm_lab.objectives.implicit import ImplicitScoreMatching
from ebm_lab.objectives.objective import Parts
from ebm_lab.objectives.slices import Slices, check_slices, draw_slices


def sliced_loss(
    model: Energy | ScoreNetwork,
    x: Float[Tensor, "batch *shape"],
    v: Float[Tensor, "batch *shape"],
    variance_reduced: bool = True,
) -> Float[Tensor, ""]:
    """mean vᵀ(∇s)v + ½‖s‖² (variance-reduced) or mean vᵀ(∇s)v + ½(vᵀs)², E[vvᵀ] = I.

    Both equal E[tr ∇s + ½‖s‖²], the implicit score matching loss, in expectation over v.

    Cost: one forward, one input gradient, one vector-Jacobian product, and the parameter gradient of all.
    Reference: Song, Garg, Shi & Ermon 2019, arXiv 1905.07088, eqs. 7 and 8.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        s = score(model, x, create_graph=True)
        along = (s * v).flatten(1).sum(1)
        (directional,) = torch.autograd.grad(along.sum(), x, create_graph=True)
        curvature = (directional * v).flatten(1).sum(1)
        square = s.flatten(1).square().sum(1) if variance_reduced else along.square()
    return (curvature + 0.5 * square).mean()


class SlicedScoreMatching(ImplicitScoreMatching):
    """SSM: score matching with the Hessian's trace seen along random directions.

    J = E_v E_x [vᵀ(∇s)v + ½‖s‖²], or with ½(vᵀs)² in the place of ½‖s‖²: the Fisher divergence to the data up
    to a constant.

    Args:
        num_slices: directions v per event.
        slices: their law, with E[vvᵀ] = I: rademacher, gaussian, or sphere (of radius √d).
        variance_reduced: ½‖s‖² in place of ½(vᵀs)², same expectation.
        sigma: standard deviation of Gaussian noise added to the data; null adds 0 to vectors and 0.35 to
            dequantised images.

    Raises:
        ValueError: for no slice, an unknown law or a negative sigma.
    Cost: about 20 forwards a slice, whatever the dimension.
    Notes: blind to the weights of separated modes.
    Reference: Song, Garg, Shi & Ermon 2019, arXiv 1905.07088.
    """

    takes_scores = True

    def __init__(
        self,
        parts: Parts,
        *,
        num_slices: int = 1,
        slices: Slices = "rademacher",
        variance_reduced: bool = True,
        sigma: float | None = None,
    ) -> None:
        super().__init__(parts, sigma=sigma)
        check_slices(slices, num_slices)
        self.num_slices = num_slices
        self.slices = slices
        self.variance_reduced = variance_reduced

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The sliced loss along fresh directions."""
        x = self.corrupted(batch.x.repeat_interleave(self.num_slices, 0))
        v = draw_slices(self.slices, x, self.generator)
        return sliced_loss(self.energy, x, v, self.variance_reduced)

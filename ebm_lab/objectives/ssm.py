"""Sliced score matching."""

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data import Batch, InMemoryData
from ebm_lab.energies import Energy, ScoreNetwork, score
from ebm_lab.errors import UserError
from ebm_lab.objectives.objective import Objective, Parts

IMAGE_SIGMA = 0.35  # of the noise on dequantised images, unless told otherwise


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


class SlicedScoreMatching(Objective):
    """SSM: score matching with the Hessian's trace seen along random directions.

    J = E_v E_x [vᵀ(∇s)v + ½‖s‖²], which is the Fisher divergence to the data up to a constant. On dequantised
    images the density jumps at the edges of its bins and the integration by parts fails; there Gaussian
    noise of standard deviation σ is added to the data and p_σ is what is learned.

    Args:
        num_slices: directions v per event, Rademacher.
        variance_reduced: ½‖s‖² in place of ½(vᵀs)², same expectation.
        sigma: standard deviation of Gaussian noise added to the data; null adds 0 to vectors and 0.35 to
            dequantised images.

    Cost: about 20 forwards a slice, whatever the dimension.
    Notes: blind to the weights of separated modes.
    Reference: Song, Garg, Shi & Ermon 2019, arXiv 1905.07088; the integrability is Hyvärinen 2005.
    """

    needs_second_derivatives = True
    has_held_out_loss = True
    monitor = "val/loss"
    notes = (
        "Score matching cannot see the weights of separated modes: the Fisher divergence is its measure, "
        "KL is not.",
    )

    def __init__(
        self,
        parts: Parts,
        *,
        num_slices: int = 1,
        variance_reduced: bool = True,
        sigma: float | None = None,
    ) -> None:
        super().__init__(parts)
        if num_slices < 1:
            raise ValueError(f"num_slices must be at least 1, got {num_slices}")
        if sigma is not None and sigma < 0:
            raise ValueError(f"sigma must not be negative, got {sigma}")
        self.num_slices = num_slices
        self.variance_reduced = variance_reduced
        self.sigma = sigma

    def check(self, data: InMemoryData) -> None:
        """Settle σ: dequantised images need some."""
        super().check(data)
        if self.sigma is None:
            self.sigma = 0.0 if data.levels is None else IMAGE_SIGMA
        if self.sigma == 0 and data.levels is not None:
            raise UserError(
                "ssm on dequantised images needs objective.sigma > 0: their density jumps at the edges of "
                "its bins, where its score does not exist"
            )

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The sliced loss along fresh Rademacher directions."""
        x = self.corrupted(batch.x.repeat_interleave(self.num_slices, 0))
        v = 2 * torch.randint(0, 2, x.shape, generator=self.generator, device=x.device).to(x.dtype) - 1
        return sliced_loss(self.energy, x, v, self.variance_reduced)

"""Score matching with the Laplacian by curvature propagation."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data import Batch
from ebm_lab.energies import Energy
from ebm_lab.objectives.layered import Curved, LayeredScoreMatching, layered_loss
from ebm_lab.objectives.objective import Parts


def propagated_laplacian(
    passed: list[Curved], signs: Sequence[Float[Tensor, "batch units"]]
) -> Float[Tensor, " batch"]:
    """Σ_i T_i U_i of vectors T, U with E[T Uᵀ] = ∇²E, each pushed to the event by a backward pass of its own.

    At every nonlinearity, with c = ∂E/∂σ(a) σ''(a) and independent signs ε,

        T <- σ'(a) T + c ε,    U <- σ'(a) U + ε,    then both <- Wᵀ of it

    Args:
        passed: the layers from the last to the first.
        signs: ε of each layer that has a nonlinearity, in the same order.

    Cost: two backward passes without an activation to evaluate.
    """
    draws, t, u = iter(signs), None, None
    for weight, slope, curvature in passed:
        if slope is not None:
            epsilon = next(draws)
            t = curvature * epsilon if t is None else slope * t + curvature * epsilon
            u = epsilon if u is None else slope * u + epsilon
        t, u = (None, None) if t is None else (t @ weight, u @ weight)
    return passed[0].weight.new_zeros(1) if t is None else (t * u).sum(1)


def curvature_propagation_loss(
    energy: Energy, x: Float[Tensor, "batch *shape"], signs: Sequence[Float[Tensor, "batch units"]]
) -> Float[Tensor, ""]:
    """mean ½‖∇E‖² - Σ_i T_i U_i, the implicit loss in expectation over the signs.

    Reference: Martens, Sutskever & Swersky 2012, arXiv 1206.6464.
    """
    return layered_loss(energy, x, lambda passed: propagated_laplacian(passed, signs))


class CurvaturePropagation(LayeredScoreMatching):
    """CP: score matching with an unbiased ΔE from noise that every nonlinearity of a network sends back.

    J = E [½‖∇E‖² - TᵀU] with E[T Uᵀ] = ∇²E: noise at each nonlinearity, of the size of the curvature that it
    adds, is carried to the event by linear backward passes. With one hidden layer,
    ΔE = Σ_j a_j σ''_j ‖W_j‖². No input gradient is differentiated.

    Args:
        num_draws: signs per event.
        sigma: standard deviation of Gaussian noise added to the data; null adds 0.

    Raises:
        ValueError: for no draw or a negative sigma.
        UserError: for an energy that is no multilayer perceptron.
    Cost: about one forward and three backward passes a draw, and their parameter gradient.
    Notes: 1. Of the paper's two forms the real one. The other, one complex S with noise √c ε and
        E[SSᵀ] = ∇²E, has a smaller variance; but where c passes zero the gradient of √c is not bounded, and
        the variance of the loss's gradient is infinite. 2. The variance grows with the depth. 3. Blind to
        the weights of separated modes.
    Reference: Martens, Sutskever & Swersky 2012, Estimating the Hessian by back-propagating curvature,
        arXiv 1206.6464.
    """

    def __init__(self, parts: Parts, *, num_draws: int = 1, sigma: float | None = None) -> None:
        super().__init__(parts, sigma=sigma)
        if num_draws < 1:
            raise ValueError(f"num_draws must be at least 1, got {num_draws}")
        self.num_draws = num_draws

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss with fresh signs."""
        x = self.corrupted(batch.x.repeat_interleave(self.num_draws, 0))
        widths = [len(bias) for _, bias, activation in self.energy.layers() if activation is not None]
        signs = [self._signs(len(x), width, x) for width in reversed(widths)]
        return curvature_propagation_loss(self.energy, x, signs)

    def _signs(self, num: int, width: int, like: Tensor) -> Float[Tensor, "num width"]:
        bits = torch.randint(0, 2, (num, width), generator=self.generator, device=like.device)
        return 2 * bits.to(like.dtype) - 1

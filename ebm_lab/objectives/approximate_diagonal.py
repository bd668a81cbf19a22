"""Score matching with the Laplacian from a backward pass of diagonals."""

from jaxtyping import Float
from torch import Tensor

from ebm_lab.data import Batch
from ebm_lab.energies import Energy
from ebm_lab.objectives.layered import Curved, LayeredScoreMatching, layered_loss


def diagonal_laplacian(passed: list[Curved]) -> Float[Tensor, " batch"]:
    """ΔE with the off-diagonal second derivatives of every hidden layer left out.

        D <- σ'(a)² D + ∂E/∂σ(a) σ''(a),    then D <- (Wᵀ)² D, squared element by element

    Args:
        passed: the layers from the last to the first.

    Cost: one backward pass.
    """
    diagonal = None
    for weight, slope, curvature in passed:
        if slope is not None:
            diagonal = curvature if diagonal is None else slope.square() * diagonal + curvature
        diagonal = None if diagonal is None else diagonal @ weight.square()
    return passed[0].weight.new_zeros(1) if diagonal is None else diagonal.sum(1)


def approximate_diagonal_loss(energy: Energy, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, ""]:
    """mean ½‖∇E‖² - ΔE, ΔE by `diagonal_laplacian`.

    Reference: Kingma & LeCun 2010, Regularized estimation of image statistics by score matching.
    """
    return layered_loss(energy, x, diagonal_laplacian)


class ApproximateDiagonal(LayeredScoreMatching):
    """Score matching with diagonals of second derivatives carried back through a network.

    J = E [½‖∇E‖² - Σ_i D_i], D_i ≈ ∂²E/∂x_i² by a backward pass that leaves out what is off the diagonal in
    every hidden layer: exact with one hidden layer, biased with more. Deterministic, without a
    differentiated input gradient.

    Args:
        sigma: standard deviation of Gaussian noise added to the data; null adds 0.

    Raises:
        ValueError: for a negative sigma.
        UserError: for an energy that is no multilayer perceptron.
    Cost: about one forward and two backward passes, and their parameter gradient.
    Notes: 1. With two hidden layers and more a network can learn to make the loss small through what is left
        out: `curvature_propagation` costs little more and has no bias. 2. Without the paper's regulariser.
        3. Blind to the weights of separated modes.
    Reference: Kingma & LeCun 2010, Regularized estimation of image statistics by score matching, NIPS 23;
        the pass is that of LeCun, Bottou, Orr & Müller 1998, Efficient backprop.
    """

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss of the batch."""
        return approximate_diagonal_loss(self.energy, self.corrupted(batch.x))

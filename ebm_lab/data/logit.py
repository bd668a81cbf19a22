"""The map between pixels in [-1, 1] and logits on the whole line."""

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


class Logit:
    """y = logit(α + (1 - 2α) (x + 1)/2) of each pixel x in [-1, 1], so that y has no walls.

    Args:
        alpha: α, which keeps black and white finite, between 0 and ½; published likelihoods take 1e-6 for
            MNIST and 0.05 for CIFAR-10.

    Raises:
        ValueError: alpha outside of (0, ½).
    Reference: Dinh, Sohl-Dickstein & Bengio, Density estimation using Real NVP, ICLR 2017, §4.1; with
        (1 - 2α) for their (1 - α), as in Papamakarios, Pavlakou & Murray, Masked autoregressive flow,
        NeurIPS 2017, appendix D, so that white stays finite too.
    """

    def __init__(self, alpha: float) -> None:
        if isinstance(alpha, bool | str) or not 0 < alpha < 0.5:
            raise ValueError(f"alpha must lie between 0 and 0.5, got {alpha!r}")
        self.alpha = float(alpha)

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """From pixels in [-1, 1] to logits."""
        scale = (1 - 2 * self.alpha) / 2
        # log(p / (1 - p)) with 1 - p from 1 - x: in float32 1 - p itself would lose the digits near white
        return (self.alpha + scale * (1 + x)).log() - (self.alpha + scale * (1 - x)).log()

    def inverse(self, y: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """x = tanh(y/2) / (1 - 2α): pixels, beyond [-1, 1] by up to 2α / (1 - 2α) where y is no image's."""
        return (y / 2).tanh() / (1 - 2 * self.alpha)

    def log_slope(self, y: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """log |dx/dy| = Σ_i log(2 σ(y_i) σ(-y_i) / (1 - 2α)) of each event, in nats."""
        slope = logsigmoid(y) + logsigmoid(-y) + math.log(2) - math.log1p(-2 * self.alpha)
        return slope.flatten(1).sum(1)

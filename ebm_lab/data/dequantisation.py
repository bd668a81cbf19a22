"""Between integers and continuous data: uniform dequantisation, and likelihoods in bits per dimension."""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor


def dequantise(
    k: Float[Tensor, "batch *shape"], levels: int, u: Float[Tensor, "batch *shape"]
) -> Float[Tensor, "batch *shape"]:
    """x = 2 (k + u) / levels - 1, which spreads each integer k of 0 ... levels - 1 over its bin of [-1, 1].

    k = floor(levels (x + 1) / 2) gives the integer back, up to rounding at the edges of the bins.

    Args:
        k: integers, of any type.
        levels: number of integer levels, 256 for 8-bit images.
        u: uniform draws in [0, 1).

    Reference: Theis, van den Oord & Bethge, A note on the evaluation of generative models, ICLR 2016, §3.1.
    """
    return (k + u).mul_(2).div_(levels).sub_(1)  # in place: a batch of images is about as fast as its noise


def log_jacobian(levels: int, shape: Sequence[int]) -> float:
    """log |d(k + u)/dx| = d log(levels/2), d the number of elements of `shape`."""
    return math.prod(shape) * math.log(levels / 2)


def bits_per_dim(
    log_prob_nats: Float[Tensor, "*batch"] | float,
    log_jacobian_to_levels: Float[Tensor, "*batch"] | float,
    shape: Sequence[int],
) -> Float[Tensor, "*batch"] | float:
    """-(log p(x) - log |dk/dx|) / (d log 2): an upper bound on the code length of the integers k, in bits.

    The uniform density on [-1, 1]^d gives log2(levels), 8 for 256 levels.

    Args:
        log_prob_nats: log p(x) of each dequantised event, in nats.
        log_jacobian_to_levels: log |dk/dx| of each event, `InMemoryData.log_jacobian_to_levels`, in nats.
        shape: shape of one event.

    Reference: Theis et al., ICLR 2016, §3.1: E_u log p(x(k, u)) + log |dx/dk| ≤ log P(k).
    """
    return (log_jacobian_to_levels - log_prob_nats) / (math.prod(shape) * math.log(2))

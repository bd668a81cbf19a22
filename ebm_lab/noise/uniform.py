"""The uniform density on a box."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.domains import CONTINUOUS, UNIT
from ebm_lab.draws import uniform
from ebm_lab.noise.noise import Noise


class UniformBox(Noise):
    """Uniform on [low, high]^d: log q(x) = -d log(high - low) inside, -inf outside.

    Args:
        shape: shape of one event.
        low: lower bound of every coordinate, in data units.
        high: upper bound, above low.

    Raises:
        ValueError: bounds that are not finite, or low >= high.
    """

    has_full_support = False
    twice_differentiable = False

    def __init__(self, shape: Sequence[int], low: float, high: float) -> None:
        super().__init__(shape)
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"low and high must be finite with low < high, got low={low} and high={high}")
        self.domains = CONTINUOUS | UNIT if 0 <= low and high <= 1 else CONTINUOUS
        self.register_buffer("low", torch.tensor(float(low)))
        self.register_buffer("high", torch.tensor(float(high)))

    def sample(self, num: int, generator: torch.Generator | None) -> Float[Tensor, "num *shape"]:
        """Independent draws low + (high - low) u."""
        u = uniform((num, *self.shape), self.low, generator)
        return self.low + (self.high - self.low) * u

    def log_prob(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """log q(x) of each event in nats; its gradient in x is 0."""
        flat = self.flat(x)
        # 0 · x keeps x in the graph (gradient 0) and lets a NaN through; the clamp keeps 0 · inf out.
        zero = (0 * flat.clamp(self.low, self.high)).sum(1)
        inside = zero - flat.shape[1] * (self.high - self.low).log()
        outside = ((flat < self.low) | (flat > self.high)).any(1)
        return inside.masked_fill(outside, -math.inf)

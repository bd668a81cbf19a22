"""Independent exponential densities of non-negative numbers."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.domains import NONNEGATIVE
from ebm_lab.draws import uniform
from ebm_lab.errors import UserError
from ebm_lab.noise.noise import Noise, check_data, check_fitted


class Exponential(Noise):
    """q(x) = Π_i exp(-x_i / m_i) / m_i on x ≥ 0, with the means m of the data; log q = -inf below 0.

    Args:
        shape: shape of one event.

    Raises:
        UserError: `fit` on numbers below 0, or on a coordinate that is always 0.
        RuntimeError: use before `fit`.
    """

    domains = NONNEGATIVE
    has_full_support = False

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        self.register_buffer("means", torch.ones(self.shape))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, x: Float[Tensor, "batch *shape"]) -> None:
        """Take the mean of every coordinate, which is the maximum of the likelihood."""
        flat = check_data(self, x)
        if (flat < 0).any() or not (flat.mean(0) > 0).all():
            raise UserError(
                "Exponential is fitted to numbers of at least 0 that are not all 0, these hold others: "
                "choose noise=gaussian"
            )
        self.means.copy_(flat.mean(0).view(self.shape))
        self.fitted.fill_(True)

    def sample(self, num: int, generator: torch.Generator | None) -> Float[Tensor, "num *shape"]:
        """Draws -m log(1 - u)."""
        check_fitted(self)
        u = uniform((num, *self.shape), self.means, generator)
        return -self.means * torch.log1p(-u)

    def log_prob(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """log q(x) of each event in nats."""
        check_fitted(self)
        flat, means = self.flat(x), self.means.flatten()
        inside = -(flat / means).sum(1) - means.log().sum()
        return inside.masked_fill((flat < 0).any(1), -torch.inf)

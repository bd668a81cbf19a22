"""A Gaussian fitted to data, known at every level of noise on them."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.draws import normal
from ebm_lab.noise.noise import Noise, check_data, check_fitted, check_ridge
from ebm_lab.noise.transport import LOG_2PI


class NoisedGaussian(Noise):
    """N(μ, Σ) fitted as `Gaussian` is, and with noise of any σ on it N(μ, Σ + σ²I): Σ = V diag(v) Vᵀ.

    Args:
        shape: shape of one event.
        ridge: added to the diagonal of Σ, in squared data units, at least 0.

    Raises:
        ValueError: a negative ridge.
        UserError: `fit` on data that are not finite.
        RuntimeError: use before `fit`.
    Cost: one eigenproblem of d features in `fit`, which 3072 take a minute for; d² operations per event.
    """

    def __init__(self, shape: Sequence[int], ridge: float = 1e-4) -> None:
        super().__init__(shape)
        self.ridge = check_ridge(ridge)
        features = math.prod(self.shape)
        self.register_buffer("mean", torch.zeros(self.shape))
        self.register_buffer("variances", torch.ones(features))
        self.register_buffer("directions", torch.eye(features))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, x: Float[Tensor, "batch *shape"]) -> None:
        """Take mean and covariance of the data."""
        flat = check_data(self, x)
        centred = flat - flat.mean(0)
        variances, directions = torch.linalg.eigh(centred.T @ centred / len(flat))
        self.mean.copy_(flat.mean(0).view(self.shape))
        self.variances.copy_(variances.clamp(min=0) + self.ridge)
        self.directions.copy_(directions)
        self.fitted.fill_(True)

    @property
    def scale(self) -> Float[Tensor, ""]:
        """s = √(tr Σ / d), the standard deviation of a coordinate."""
        return self.variances.mean().sqrt()

    def sample(self, num: int, generator: torch.Generator | None) -> Float[Tensor, "num *shape"]:
        """Independent draws μ + V √v z, without noise on them."""
        check_fitted(self)
        z = normal((num, len(self.variances)), self.mean, generator)
        return self.mean + (z * self.variances.sqrt() @ self.directions.T).view(num, *self.shape)

    def log_prob(
        self, x: Float[Tensor, "batch *shape"], sigma: float | Float[Tensor, " batch"] = 0.0
    ) -> Float[Tensor, " batch"]:
        """log N(x; μ, Σ + σ²I) of each event in nats, with one σ for all or one for each."""
        along, variances = self._along(x, sigma)
        return -(along.square() / variances + variances.log() + LOG_2PI).sum(1) / 2

    def score(
        self, x: Float[Tensor, "batch *shape"], sigma: float | Float[Tensor, " batch"] = 0.0
    ) -> Float[Tensor, "batch *shape"]:
        """∇ log N(x; μ, Σ + σ²I) = -(Σ + σ²I)⁻¹ (x - μ)."""
        along, variances = self._along(x, sigma)
        return -(along / variances @ self.directions.T).view_as(x)

    def _along(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates of x - μ along the directions, and their variances with the noise on them."""
        check_fitted(self)
        along = (self.flat(x) - self.mean.flatten()) @ self.directions
        noise = torch.as_tensor(sigma).to(x).square().expand(len(x))
        return along, self.variances + noise[:, None]

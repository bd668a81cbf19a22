"""Gaussian densities: isotropic, and fitted to data with a diagonal or a full covariance."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.errors import UserError
from ebm_lab.noise.noise import check_data, check_fitted, check_ridge
from ebm_lab.noise.transport import TransportedNoise


class StandardGaussian(TransportedNoise):
    """N(0, scale² I): log q(x) = -‖x‖²/(2 scale²) - d log scale - (d/2) log 2π.

    Args:
        shape: shape of one event.
        scale: standard deviation of each coordinate, positive.

    Raises:
        ValueError: a scale that is not positive.
    """

    def __init__(self, shape: Sequence[int], scale: float = 1.0) -> None:
        super().__init__(shape)
        if isinstance(scale, bool | str) or not 0 < scale < math.inf:
            raise ValueError(f"scale must be positive, got {scale!r}")
        self.register_buffer("scale", torch.tensor(float(scale)))

    def transport(
        self, z: Float[Tensor, "num features"]
    ) -> tuple[Float[Tensor, "num *shape"], Float[Tensor, " num"]]:
        """x = scale · z, and log |det ∂x/∂z|."""
        return (self.scale * z).view(-1, *self.shape), self._log_det(z)

    def latent(
        self, x: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch features"], Float[Tensor, " batch"]]:
        """z = x / scale, and log |det ∂z/∂x|."""
        return self.flat(x) / self.scale, -self._log_det(x)

    def _log_det(self, events: Tensor) -> Float[Tensor, " batch"]:
        return (self.num_features * self.scale.log()).expand(len(events))


class DiagonalGaussian(TransportedNoise):
    """N(μ, diag(σ²)) with the data's mean and σ_i² = (variance of coordinate i) + ridge.

    The variance is the maximum-likelihood one (divided by the number of events).

    Args:
        shape: shape of one event.
        ridge: added to every variance, in squared data units, at least 0; it keeps the density proper where a
            coordinate is constant, as border pixels often are.

    Raises:
        ValueError: a negative ridge.
        UserError: `fit` on data that are not finite, or constant in a coordinate while ridge = 0.
        RuntimeError: use before `fit`.
    """

    def __init__(self, shape: Sequence[int], ridge: float = 1e-4) -> None:
        super().__init__(shape)
        self.ridge = check_ridge(ridge)
        self.register_buffer("mean", torch.zeros(self.shape))
        self.register_buffer("std", torch.ones(self.shape))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, x: Float[Tensor, "batch *shape"]) -> None:
        """Take mean and standard deviation of the data, coordinate by coordinate."""
        flat = check_data(self, x)
        variance = flat.var(0, correction=0) + self.ridge
        if not (variance > 0).all():
            raise UserError(
                f"{int((variance <= 0).sum())} coordinates of the data are constant; set ridge above 0"
            )
        self.mean.copy_(flat.mean(0).view(self.shape))
        self.std.copy_(variance.sqrt().view(self.shape))
        self.fitted.fill_(True)

    def transport(
        self, z: Float[Tensor, "num features"]
    ) -> tuple[Float[Tensor, "num *shape"], Float[Tensor, " num"]]:
        """x = μ + σ z, and log |det ∂x/∂z|."""
        check_fitted(self)
        return self.mean + self.std * z.view(-1, *self.shape), self._log_det(z)

    def latent(
        self, x: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch features"], Float[Tensor, " batch"]]:
        """z = (x - μ) / σ, and log |det ∂z/∂x|."""
        check_fitted(self)
        return (self.flat(x) - self.mean.flatten()) / self.std.flatten(), -self._log_det(x)

    def _log_det(self, events: Tensor) -> Float[Tensor, " batch"]:
        return self.std.log().sum().expand(len(events))


class Gaussian(TransportedNoise):
    """N(μ, Σ) with the data's mean and Σ = (covariance of the data) + ridge · I = L Lᵀ.

    The covariance is the maximum-likelihood one (divided by the number of events).

    Args:
        shape: shape of one event.
        ridge: added to the diagonal, in squared data units, at least 0; positive where the covariance is
            singular (constant coordinates, fewer events than features).

    Raises:
        ValueError: a negative ridge.
        UserError: `fit` on data that are not finite, or whose Σ is singular.
        RuntimeError: use before `fit`.
    Cost: d² numbers and d² operations per event; 3072 features take 38 MB in float32.
    """

    def __init__(self, shape: Sequence[int], ridge: float = 1e-4) -> None:
        super().__init__(shape)
        self.ridge = check_ridge(ridge)
        self.register_buffer("mean", torch.zeros(self.shape))
        self.register_buffer("cholesky", torch.eye(math.prod(self.shape)))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, x: Float[Tensor, "batch *shape"]) -> None:
        """Take mean and covariance of the data."""
        flat = check_data(self, x)
        centred = flat - flat.mean(0)
        identity = torch.eye(flat.shape[1], dtype=flat.dtype)
        covariance = centred.T @ centred / len(flat) + self.ridge * identity
        cholesky, failed = torch.linalg.cholesky_ex(covariance)
        if failed:
            raise UserError(
                f"the covariance of {flat.shape[0]} events with {flat.shape[1]} features and ridge "
                f"{self.ridge:g} is singular; set ridge higher"
            )
        self.mean.copy_(flat.mean(0).view(self.shape))
        self.cholesky.copy_(cholesky)
        self.fitted.fill_(True)

    def transport(
        self, z: Float[Tensor, "num features"]
    ) -> tuple[Float[Tensor, "num *shape"], Float[Tensor, " num"]]:
        """x = μ + L z, and log |det ∂x/∂z|."""
        check_fitted(self)
        return self.mean + (z @ self.cholesky.T).view(-1, *self.shape), self._log_det(z)

    def latent(
        self, x: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch features"], Float[Tensor, " batch"]]:
        """z = L⁻¹(x - μ), and log |det ∂z/∂x|."""
        check_fitted(self)
        centred = self.flat(x) - self.mean.flatten()
        return torch.linalg.solve_triangular(self.cholesky, centred.T, upper=False).T, -self._log_det(x)

    def _log_det(self, events: Tensor) -> Float[Tensor, " batch"]:
        return self.cholesky.diagonal().log().sum().expand(len(events))

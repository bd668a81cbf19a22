"""Gaussian densities and mixtures of them: closed under Gaussian noise, with every quantity exact."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ebm_lab.data.checks import check_points, check_positive
from ebm_lab.data.density import Density, draw_indices, in_chunks, normal_like, tail_width

LOG_2PI = math.log(2 * math.pi)
SEPARATED = 4.0  # modes are separated when their means are this many of the largest deviations apart

Numbers = Tensor | Sequence


class Gaussian(Density):
    """N(μ, Σ): log p(x) = -½ (x - μ)ᵀ Σ⁻¹ (x - μ) - ½ log det Σ - (d/2) log 2π.

    Args:
        mean: μ, (dim,).
        covariance: Σ, (dim, dim), symmetric and positive definite.

    Attributes:
        mean, covariance, precision: μ, Σ and Σ⁻¹ in float64.

    Raises:
        ValueError: shapes that do not fit, or a matrix that is no covariance.
    """

    def __init__(self, mean: Numbers, covariance: Numbers) -> None:
        self.mean = _float64("mean", mean, 1)
        self.covariance = _float64("covariance", covariance, 2)
        self.dim = len(self.mean)
        self._cholesky = _cholesky("covariance", self.covariance, (self.dim, self.dim))
        self.precision = torch.cholesky_inverse(self._cholesky)
        self.bounds = _half_width(self.mean, self.covariance.diagonal().sqrt())

    @property
    def modes(self) -> Float[Tensor, "1 dim"]:
        """The mean."""
        return self.mean[None]

    def sample(
        self, num: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "num dim"]:
        """Draws μ + L z with Σ = L Lᵀ."""
        z = normal_like(num, self.dim, generator, dtype)
        return self.mean.to(z) + z @ self._cholesky.to(z).T

    def log_prob(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """log p(x) in nats."""
        check_points(x, self.dim)
        cholesky = self._cholesky.to(x)
        z = torch.linalg.solve_triangular(cholesky, (x - self.mean.to(x)).T, upper=False)
        return -z.square().sum(0) / 2 - cholesky.diagonal().log().sum() - self.dim * LOG_2PI / 2

    def score(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Σ⁻¹ (μ - x)."""
        check_points(x, self.dim)
        return (self.mean.to(x) - x) @ self.precision.to(x)

    def noised(self, sigma: float) -> "Gaussian":
        """N(μ, Σ + σ² I)."""
        identity = torch.eye(self.dim, dtype=torch.float64)
        return Gaussian(self.mean, self.covariance + check_positive("sigma", sigma) ** 2 * identity)

    def entropy(self) -> float:
        """½ log det(2πe Σ)."""
        return self.dim * (1 + LOG_2PI) / 2 + float(self._cholesky.diagonal().log().sum())


class GaussianMixture(Density):
    """p(x) = Σ_k w_k N(x; μ_k, Σ_k), with score Σ_k r_k(x) Σ_k⁻¹ (μ_k - x), r the responsibilities.

    Args:
        weights: relative weights of the components, positive; divided by their sum.
        means: μ_k, (components, dim).
        covariances: Σ_k, (components, dim, dim), each symmetric and positive definite.

    Raises:
        ValueError: shapes that do not fit, a weight that is not positive, or a matrix that is no covariance.
    """

    def __init__(self, weights: Numbers, means: Numbers, covariances: Numbers) -> None:
        self.means = _float64("means", means, 2)
        components, self.dim = self.means.shape
        self.weights = _normalised(weights, components)
        self.covariances = _float64("covariances", covariances, 3)
        self._cholesky = _cholesky("covariances", self.covariances, (components, self.dim, self.dim))
        identity = torch.eye(self.dim, dtype=torch.float64).expand_as(self._cholesky)
        self._whitening = torch.linalg.solve_triangular(self._cholesky, identity, upper=False)
        self.bounds = _half_width(self.means, self.covariances.diagonal(dim1=1, dim2=2).sqrt())

    @property
    def modes(self) -> Float[Tensor, "components dim"] | None:
        """The means where they lie four of the largest standard deviations apart, else None."""
        return _separated(self.means, torch.linalg.eigvalsh(self.covariances).max().sqrt())

    def sample(
        self, num: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "num dim"]:
        """Draw k with weight w_k, then μ_k + L_k z."""
        return self.sample_labelled(num, generator, dtype)[0]

    def sample_labelled(
        self, num: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> tuple[Float[Tensor, "num dim"], Int[Tensor, " num"]]:
        """The same draws and the component k of each."""
        k = draw_indices(self.weights, num, generator)
        z = normal_like(num, self.dim, generator, dtype)
        return self.means.to(z)[k] + (self._cholesky.to(z)[k] @ z[:, :, None]).squeeze(2), k

    def log_prob(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """log p(x) in nats."""
        check_points(x, self.dim)
        return in_chunks(lambda part: self._log_terms(part)[0].logsumexp(1), x, self.means.numel())

    def score(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Σ_k r_k(x) Σ_k⁻¹ (μ_k - x)."""
        check_points(x, self.dim)
        return in_chunks(self._score, x, self.means.numel())

    def noised(self, sigma: float) -> "GaussianMixture":
        """Every Σ_k grows by σ² I."""
        identity = torch.eye(self.dim, dtype=torch.float64)
        grown = self.covariances + check_positive("sigma", sigma) ** 2 * identity
        return GaussianMixture(self.weights, self.means, grown)

    def _log_terms(self, x: Tensor) -> tuple[Float[Tensor, "batch k"], Float[Tensor, "batch k dim"]]:
        """log(w_k N(x; μ_k, Σ_k)), and the whitened distances z_k = L_k⁻¹ (x - μ_k)."""
        z = torch.einsum("kij,bkj->bki", self._whitening.to(x), x[:, None] - self.means.to(x))
        log_scale = self._cholesky.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = (self.weights.log() - log_scale - self.dim * LOG_2PI / 2).to(x)
        return constant - z.square().sum(2) / 2, z

    def _score(self, x: Tensor) -> Tensor:
        log_terms, z = self._log_terms(x)
        return -torch.einsum("bk,kij,bki->bj", log_terms.softmax(1), self._whitening.to(x), z)


class IsotropicMixture(Density):
    """p(x) = Σ_k w_k N(x; μ_k, s_k² I), for few round modes or for the many centres of a curve.

    Args:
        weights: relative weights of the components, positive; divided by their sum.
        means: μ_k, (components, dim).
        scales: s_k, (components,), positive.

    Raises:
        ValueError: shapes that do not fit, or a weight or a scale that is not positive.
    Cost: components · dim numbers per event, a few thousand events at a time.
    """

    def __init__(self, weights: Numbers, means: Numbers, scales: Numbers) -> None:
        self.means = _float64("means", means, 2)
        components, self.dim = self.means.shape
        self.weights = _normalised(weights, components)
        self.scales = _float64("scales", scales, 1)
        if len(self.scales) != components or not (self.scales > 0).all():
            raise ValueError(f"scales must be {components} positive numbers, one for each mean")
        self.bounds = _half_width(self.means, self.scales[:, None])

    @property
    def modes(self) -> Float[Tensor, "components dim"] | None:
        """The means where they lie four of the largest standard deviations apart, else None."""
        return _separated(self.means, self.scales.max())

    def sample(
        self, num: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "num dim"]:
        """Draw k with weight w_k, then μ_k + s_k z."""
        return self.sample_labelled(num, generator, dtype)[0]

    def sample_labelled(
        self, num: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> tuple[Float[Tensor, "num dim"], Int[Tensor, " num"]]:
        """The same draws and the component k of each."""
        k = draw_indices(self.weights, num, generator)
        z = normal_like(num, self.dim, generator, dtype)
        return self.means.to(z)[k] + self.scales.to(z)[k, None] * z, k

    def log_prob(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """log p(x) in nats."""
        check_points(x, self.dim)
        return in_chunks(lambda part: self._log_terms(part)[0].logsumexp(1), x, self.means.numel())

    def score(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Σ_k r_k(x) (μ_k - x) / s_k²."""
        check_points(x, self.dim)
        return in_chunks(self._score, x, self.means.numel())

    def noised(self, sigma: float) -> "IsotropicMixture":
        """Every s_k² grows by σ²."""
        grown = (self.scales**2 + check_positive("sigma", sigma) ** 2).sqrt()
        return IsotropicMixture(self.weights, self.means, grown)

    def _log_terms(self, x: Tensor) -> tuple[Float[Tensor, "batch k"], Float[Tensor, "batch k dim"]]:
        """log(w_k N(x; μ_k, s_k² I)), and z_k = (x - μ_k) / s_k."""
        z = (x[:, None] - self.means.to(x)) / self.scales.to(x)[:, None]
        constant = self.weights.log() - self.dim * (self.scales.log() + LOG_2PI / 2)
        return constant.to(x) - z.square().sum(2) / 2, z

    def _score(self, x: Tensor) -> Tensor:
        log_terms, z = self._log_terms(x)
        return -torch.einsum("bk,bki->bi", log_terms.softmax(1) / self.scales.to(x), z)


def _float64(name: str, values: Numbers, axes: int) -> Tensor:
    tensor = torch.as_tensor(values, dtype=torch.float64).cpu()
    if tensor.ndim != axes or tensor.numel() == 0 or not tensor.isfinite().all():
        raise ValueError(f"{name} must be finite numbers on {axes} axes, got shape {tuple(tensor.shape)}")
    return tensor


def _normalised(weights: Numbers, components: int) -> Float[Tensor, " components"]:
    weights = _float64("weights", weights, 1)
    if len(weights) != components or not (weights > 0).all():
        raise ValueError(f"weights must be {components} positive numbers, one for each mean")
    return weights / weights.sum()


def _cholesky(name: str, matrices: Tensor, shape: tuple[int, ...]) -> Tensor:
    if matrices.shape != shape or not torch.allclose(matrices, matrices.mT):
        raise ValueError(f"{name} must be symmetric, of shape {shape}, got shape {tuple(matrices.shape)}")
    cholesky, failed = torch.linalg.cholesky_ex(matrices)
    if failed.any():
        raise ValueError(f"{name} must be positive definite, got eigenvalues down to {_smallest(matrices):g}")
    return cholesky


def _smallest(matrices: Tensor) -> float:
    return float(torch.linalg.eigvalsh(matrices).min())


def _half_width(means: Tensor, scales: Tensor) -> float:
    return float((means.abs() + tail_width(means.shape[-1]) * scales).max())


def _separated(means: Float[Tensor, "components dim"], scale: Tensor) -> Tensor | None:
    if len(means) == 1:
        return means
    return means if torch.nn.functional.pdist(means).min() >= SEPARATED * scale else None

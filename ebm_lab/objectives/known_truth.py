"""The closed-form problems on which objectives are verified."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.data import InMemoryData
from ebm_lab.energies import Energy


class KnownTruth(ABC):
    """A problem whose answer is known in closed form: how it is posed, and what tells whether it was learned.

    An objective names its problem in `Objective.truth`. `scripts/verify.py` trains on it, and the contract
    tests hold the loss to be stationary at the answer.

    Attributes:
        overrides: the config that poses it; `size_key` is set beside them.
        size_key: config key of the problem's size, such as data.dim.
        sizes: sizes at which it is posed.
    """

    overrides: ClassVar[tuple[str, ...]]
    size_key: ClassVar[str]
    sizes: ClassVar[tuple[int, ...]] = (2, 10)

    @classmethod
    def posed(cls, size: int) -> list[str]:
        """The overrides of a problem of this size."""
        return [*cls.overrides, f"{cls.size_key}={size}"]

    @classmethod
    @abstractmethod
    def of(cls, data: InMemoryData) -> Self:
        """The truth about data that were set up as posed."""

    @abstractmethod
    def learned(self, energy: Energy) -> dict[str, Float[Tensor, ""]]:
        """What an energy learned, as named numbers: enough of them that a wrong answer cannot hide."""


@dataclass(frozen=True)
class GaussianTruth(KnownTruth):
    """The quadratic energy on data of law N(0, covariance): E(x) = ½ (x - μ)ᵀ P (x - μ).

    Args:
        covariance: Σ of the data, (dim, dim).
    """

    overrides = ("data=gaussian", "energy=quadratic")
    size_key = "data.dim"

    covariance: Float[Tensor, "dim dim"]

    @classmethod
    def of(cls, data: InMemoryData) -> Self:
        """The truth about `data=gaussian`."""
        return cls(data.density.covariance)

    @property
    def precision(self) -> Float[Tensor, "dim dim"]:
        """Σ⁻¹, the answer of an unbiased method."""
        return torch.linalg.inv(self.covariance)

    def map_eigenvalues(self, function: Callable[[Tensor], Any]) -> Float[Tensor, "dim dim"]:
        """The symmetric matrix with Σ's eigenvectors and `function` of its eigenvalues m."""
        variances, vectors = torch.linalg.eigh(self.covariance)
        return vectors @ torch.diag(torch.stack([function(m) for m in variances])) @ vectors.T

    @staticmethod
    def log_partition(precision: Float[Tensor, "dim dim"]) -> Float[Tensor, ""]:
        """log Z = (d/2) log 2π - ½ log det P."""
        return 0.5 * len(precision) * math.log(2 * math.pi) - 0.5 * torch.logdet(precision)

    def expected(self, precision: Float[Tensor, "dim dim"]) -> dict[str, Float[Tensor, ""]]:
        """The answer as verified: the mean eigenvalue tr(P)/d and the mean log-eigenvalue log det(P)/d.

        Two numbers, because a method that only gets the overall scale right fails the pair.
        """
        dim = len(precision)
        return {
            "trace(P)/d": torch.trace(precision) / dim,
            "logdet(P)/d": torch.logdet(precision) / dim,
        }

    def learned(self, energy: Energy) -> dict[str, Float[Tensor, ""]]:
        """The same numbers of a trained quadratic energy."""
        return self.expected(energy.precision.detach().double())

    def place(self, energy: Energy, precision: Float[Tensor, "dim dim"]) -> dict[nn.Parameter, Tensor]:
        """Put P into a quadratic energy; the direction of its parameters in which log c of cP grows.

        P -> cP scales the factor L of P by √c: log diagonal + ½ log c, below the diagonal times √c.
        """
        energy.set_precision(precision)
        half = torch.full_like(energy.log_diagonal, 0.5)
        return {energy.log_diagonal: half, energy.below_diagonal: 0.5 * energy.below_diagonal.detach()}

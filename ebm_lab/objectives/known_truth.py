"""The closed-form problems on which objectives are verified."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies import Energy


@dataclass(frozen=True)
class GaussianTruth:
    """The quadratic energy on data of law N(0, covariance): E(x) = ½ (x - μ)ᵀ P (x - μ).

    Args:
        covariance: Σ of the data, (dim, dim).
    """

    covariance: Float[Tensor, "dim dim"]

    @property
    def precision(self) -> Float[Tensor, "dim dim"]:
        """Σ⁻¹, the answer of an unbiased method."""
        return torch.linalg.inv(self.covariance)

    def map_eigenvalues(self, function: Any) -> Float[Tensor, "dim dim"]:
        """The symmetric matrix with Σ's eigenvectors and `function` of its eigenvalues m."""
        variances, vectors = torch.linalg.eigh(self.covariance)
        return vectors @ torch.diag(torch.stack([function(m) for m in variances])) @ vectors.T

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

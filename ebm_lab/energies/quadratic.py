"""The energy of a Gaussian with learned mean and precision: the closed form behind most checks."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.energies.energy import Energy
from ebm_lab.energies.layers import Layer


class Quadratic(Energy):
    """E(x) = ½ (x - μ)ᵀ P (x - μ) with P = L Lᵀ positive definite; log Z = (d/2) log 2π - ½ log det P.

    L is lower triangular with the exponential of a free parameter on its diagonal. Starts at μ = 0, P = I.

    Args:
        shape: shape of one event; it is flattened into d numbers.
    """

    base = None  # added to its one layer: nothing

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        dim = math.prod(self.shape)
        self.mean = nn.Parameter(torch.zeros(dim))
        self.log_diagonal = nn.Parameter(torch.zeros(dim))
        self.below_diagonal = nn.Parameter(torch.zeros(dim, dim))

    def _factor(self) -> Float[Tensor, "dim dim"]:
        return torch.tril(self.below_diagonal, -1) + torch.diag(self.log_diagonal.exp())

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """½ ‖(x - μ) L‖²."""
        return 0.5 * ((x.flatten(1) - self.mean) @ self._factor()).square().sum(1)

    def layers(self) -> list[Layer]:
        """One: half the square of each of (x - μ) L."""
        weight = self._factor().T
        return [Layer(weight, -weight @ self.mean, lambda a: 0.5 * a.square())]

    @property
    def precision(self) -> Float[Tensor, "dim dim"]:
        """P = L Lᵀ."""
        factor = self._factor()
        return factor @ factor.T

    @torch.no_grad()
    def set_precision(self, precision: Float[Tensor, "dim dim"]) -> None:
        """Put a positive definite P into the parameters."""
        factor = torch.linalg.cholesky(precision)
        self.log_diagonal.copy_(factor.diagonal().log())
        self.below_diagonal.copy_(torch.tril(factor, -1))

    def log_partition(self) -> Float[Tensor, ""]:
        """log Z = (d/2) log 2π - ½ log det P."""
        return 0.5 * self.mean.numel() * math.log(2 * math.pi) - self.log_diagonal.sum()

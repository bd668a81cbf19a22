"""Diffusions of data into noise with Gaussian marginals, dx = f(t) x dt + g(t) dw, t from 0 to 1."""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor


class Diffusion(ABC):
    """A linear stochastic differential equation, by its marginal law x_t = α(t) x + std(t) z.

    In the coordinates u = x_t / α(t), in the data's units, each is the data with noise of σ(t) = std(t) /
    α(t), u = x + σz, and du = g/α dw with d(σ²)/dt = g²/α²: diffusions differ by how σ depends on t, and one
    model of x and σ serves them all, s_t(x_t) = s(x_t / α, σ) / α.
    """

    @abstractmethod
    def scale(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """α(t), the factor of the data."""

    @abstractmethod
    def std(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Standard deviation of the noise on α(t) x."""

    @abstractmethod
    def diffusion(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """g(t)."""

    def sigma(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """σ(t) = std(t) / α(t): noise on the data, in their units."""
        return self.std(t) / self.scale(t)


class VarianceExploding(Diffusion):
    """f = 0, std(t) = σ_min (σ_max/σ_min)^t, g(t) = std(t) √(2 log(σ_max/σ_min)), α = 1.

    Args:
        smallest: σ_min at t = 0, in the data's units: x_0 has this noise on it.
        largest: σ_max at t = 1, about the largest distance between events.

    Raises:
        ValueError: unless 0 < smallest < largest.
    Reference: Song et al. 2021, arXiv 2011.13456, eq. 9 and appendix C, with 0.01 and 50 on CIFAR-10.
    """

    def __init__(self, smallest: float = 0.01, largest: float = 50.0) -> None:
        if not 0 < smallest < largest < math.inf:
            raise ValueError(f"0 < smallest < largest is needed, got {smallest} and {largest}")
        self.smallest = smallest
        self.largest = largest

    def scale(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """1."""
        return torch.ones_like(t)

    def std(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """σ_min (σ_max/σ_min)^t."""
        return self.smallest * (self.largest / self.smallest) ** t

    def diffusion(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """std(t) √(2 log(σ_max/σ_min))."""
        return self.std(t) * math.sqrt(2 * math.log(self.largest / self.smallest))


class VariancePreserving(Diffusion):
    """f = -β/2, g = √β, α(t) = exp(-½ B(t)), std² = 1 - α², with β linear and B(t) = ∫₀ᵗ β.

    Data of variance 1 keep it.

    Args:
        first_beta: β(0).
        last_beta: β(1).

    Raises:
        ValueError: unless 0 < first_beta <= last_beta.
    Reference: Song et al. 2021, arXiv 2011.13456, eq. 11 and appendix C, with 0.1 and 20.
    """

    def __init__(self, first_beta: float = 0.1, last_beta: float = 20.0) -> None:
        if not 0 < first_beta <= last_beta < math.inf:
            raise ValueError(f"0 < first_beta <= last_beta is needed, got {first_beta} and {last_beta}")
        self.first_beta = first_beta
        self.last_beta = last_beta

    def beta(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """β(t)."""
        return self.first_beta + (self.last_beta - self.first_beta) * t

    def integral(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """B(t) = ∫₀ᵗ β."""
        return self.first_beta * t + 0.5 * (self.last_beta - self.first_beta) * t.square()

    def scale(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """exp(-½ B)."""
        return (-0.5 * self.integral(t)).exp()

    def std(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """√(1 - e^{-B})."""
        return (-torch.expm1(-self.integral(t))).sqrt()

    def diffusion(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """√β."""
        return self.beta(t).sqrt()


class SubVariancePreserving(VariancePreserving):
    """As `VariancePreserving` with less noise on the way: std = 1 - e^{-B}, g = √(β (1 - e^{-2B})).

    Reference: Song et al. 2021, arXiv 2011.13456, eq. 12.
    """

    def std(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """1 - e^{-B}."""
        return -torch.expm1(-self.integral(t))

    def diffusion(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """√(β (1 - e^{-2B}))."""
        return (self.beta(t) * -torch.expm1(-2 * self.integral(t))).sqrt()

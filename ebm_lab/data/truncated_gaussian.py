"""Gaussians cut off at the edges of a bounded domain, where their density does not vanish."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data.checks import check_integer, check_points, check_positive
from ebm_lab.data.density import Density, tail_width
from ebm_lab.data.gaussians import LOG_2PI, Numbers
from ebm_lab.domains import BOUNDED


class TruncatedGaussian(Density):
    """p(x) ∝ Π_i exp(-½ (x_i - μ_i)² / s_i²) on x ≥ 0 or on [0, 1]^dim, and 0 outside.

    The coordinates are independent: the law of a quadratic energy with diagonal precision 1/s², restricted.

    Args:
        means: μ, (dim,), inside of the domain.
        scales: s, (dim,), positive.
        domain: nonnegative or unit.

    Raises:
        ValueError: another domain, or numbers outside of their range.
    """

    def __init__(self, means: Numbers, scales: Numbers, domain: str) -> None:
        if domain not in BOUNDED:
            raise ValueError(f"domain must be nonnegative or unit, got {domain!r}")
        self.domain = domain
        self.means = torch.as_tensor(means, dtype=torch.float64)
        self.scales = torch.as_tensor(scales, dtype=torch.float64)
        if self.means.dim() != 1 or self.means.shape != self.scales.shape:
            raise ValueError("means and scales must be two lists of one length")
        self.high = math.inf if domain == "nonnegative" else 1.0
        if not ((self.means >= 0) & (self.means <= self.high)).all() or not (self.scales > 0).all():
            raise ValueError(f"means must lie in the {domain} domain and scales be positive")
        self.dim = len(self.means)
        reach = float((self.means + tail_width(self.dim) * self.scales).max())
        self.bounds = min(reach, self.high)
        lower = torch.special.ndtr(-self.means / self.scales)
        upper = torch.special.ndtr((self.high - self.means) / self.scales)
        self._quantiles = torch.stack([lower, upper])
        self._log_mass = float((self.scales.log() + LOG_2PI / 2 + (upper - lower).log()).sum())

    def sample(
        self, num: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "num dim"]:
        """Draws μ + s Φ⁻¹(u), u uniform between the quantiles of the edges."""
        u = torch.rand(num, self.dim, generator=generator, dtype=torch.float64, device=generator.device)
        lower, upper = self._quantiles.to(u)
        z = torch.special.ndtri(lower + (upper - lower) * u)
        x = self.means.to(u) + self.scales.to(u) * z
        return x.clamp(0, self.high).to(dtype)  # rounding may lead past an edge

    def log_prob(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """log p(x) in nats, -inf outside."""
        check_points(x, self.dim)
        z = (x - self.means.to(x)) / self.scales.to(x)
        outside = ((x < 0) | (x > self.high)).any(1)
        return (-0.5 * z.square().sum(1) - self._log_mass).masked_fill(outside, -torch.inf)

    def score(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """(μ - x) / s², inside."""
        check_points(x, self.dim)
        return (self.means.to(x) - x) / self.scales.to(x).square()

    def noised(self, sigma: float) -> Density:
        """None is kept: noise leads out of the domain.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"Gaussian noise (sigma={sigma}) leads out of the {self.domain} domain: set objective.sigma=0"
        )


def truncated_gaussian(
    dim: int, domain: str, mean: float = 0.5, smallest: float = 0.5, largest: float = 1.0
) -> TruncatedGaussian:
    """All means alike, scales evenly spaced on a log scale.

    Args:
        dim: number of coordinates, at least 1.
        domain: nonnegative or unit.
        mean: μ_i before the cut, inside of the domain.
        smallest, largest: ends of the scales, positive.

    Raises:
        ValueError: a number outside of its range.
    """
    check_integer("dim", dim, at_least=1)
    if check_positive("smallest", smallest) > check_positive("largest", largest):
        raise ValueError(f"smallest must not exceed largest, got {smallest} > {largest}")
    scales = torch.linspace(math.log(smallest), math.log(largest), dim, dtype=torch.float64).exp()
    return TruncatedGaussian(torch.full((dim,), float(mean), dtype=torch.float64), scales, domain)

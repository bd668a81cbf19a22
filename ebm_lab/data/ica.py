"""Independent sources behind a matrix: data on which a model can be exactly right."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data.checks import check_integer, check_points
from ebm_lab.data.density import OUTSIDE, Density
from ebm_lab.data.seeding import seeded_generator
from ebm_lab.energies.ica import log_logistic

TRIES = 10_000  # matrices: at large dim one in e⁴ is conditioned well enough


class MixedSources(Density):
    """x = B s with independent standard logistic s: log p(x) = Σ_i log p((B⁻¹x)_i) - log |det B|.

    After Gaussian noise the coordinates of B⁻¹x are no longer independent, and there is no closed form.

    Args:
        mixing: B, (dim, dim), invertible.

    Raises:
        ValueError: a matrix that is not square, not finite or singular.
    Reference: Grathwohl et al. 2020, arXiv:2002.05616.
    """

    def __init__(self, mixing: Tensor | Sequence) -> None:
        self.mixing = torch.as_tensor(mixing, dtype=torch.float64).cpu()
        if (
            self.mixing.ndim != 2
            or len(self.mixing) != len(self.mixing.T)
            or not self.mixing.isfinite().all()
        ):
            raise ValueError(
                f"mixing must be a square matrix of finite numbers, got shape {tuple(self.mixing.shape)}"
            )
        self.dim = len(self.mixing)
        sign, log_determinant = torch.linalg.slogdet(self.mixing)
        if sign == 0:
            raise ValueError("mixing must be invertible, got a singular matrix")
        self.log_determinant = float(log_determinant)
        self.unmixing = torch.linalg.inv(self.mixing)
        self.bounds = _half_width(self.mixing)

    def sample(
        self, num: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "num dim"]:
        """Draws B s, with s = log u - log(1 - u) for uniform u."""
        u = torch.rand(num, self.dim, generator=generator, dtype=torch.float64, device=generator.device)
        return (torch.logit(u, eps=torch.finfo(u.dtype).eps) @ self.mixing.to(u).T).to(dtype)

    def log_prob(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """log p(x) in nats."""
        check_points(x, self.dim)
        return log_logistic(x @ self.unmixing.to(x).T).sum(1) - self.log_determinant

    def score(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """-B⁻ᵀ tanh(B⁻¹x / 2)."""
        check_points(x, self.dim)
        unmixing = self.unmixing.to(x)
        return -torch.tanh(x @ unmixing.T / 2) @ unmixing

    def noised(self, sigma: float) -> None:
        """None: the law of B s + σ z has no closed form."""
        return None

    def entropy(self) -> float:
        """2 dim + log |det B|."""
        return 2 * self.dim + self.log_determinant


def random_sources(dim: int, seed: int = 0) -> MixedSources:
    """Sources behind a matrix of independent N(0, 1) entries whose condition number is below dim.

    Args:
        dim: number of sources and of coordinates, at least 2.
        seed: of the matrix, at least 0; another seed is another law.

    Raises:
        ValueError: a number outside of its range.
    Reference: Grathwohl et al. 2020, arXiv:2002.05616: drawn again until it is.
    """
    check_integer("dim", dim, at_least=2)
    generator = seeded_generator(check_integer("seed", seed, at_least=0))
    for _ in range(TRIES):
        mixing = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
        if torch.linalg.cond(mixing) < dim:
            return MixedSources(mixing)
    raise ValueError(
        f"none of {TRIES} matrices of {dim} rows had a condition number below {dim}: set another seed"
    )


def _half_width(mixing: Float[Tensor, "dim dim"]) -> float:
    """Chernoff's bound of every coordinate, both sides together at most OUTSIDE.

    P(x_i > L) ≤ e^{-θL} Π_j E e^{θ B_ij s_j}, E e^{ts} = πt / sin πt for |t| < 1, at the best θ of a few.
    """
    t = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)  # θ max_j |B_ij|
    largest = mixing.abs().amax(1, keepdim=True)
    angle = math.pi * t[:, None, None] * (mixing.abs() / largest)
    log_moments = -torch.sinc(angle / math.pi).log().sum(2)
    allowed = math.log(2 * len(mixing) / OUTSIDE)
    return float(((allowed + log_moments) / (t[:, None] / largest.T)).amin(0).max())

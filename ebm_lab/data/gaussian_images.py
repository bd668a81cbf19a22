"""Gaussian images, strong in coarse structure and weak in fine, whose law at every resolution is known."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data.checks import check_integer, check_positive
from ebm_lab.data.density import Density
from ebm_lab.data.gaussians import Gaussian


class GaussianImages(Density):
    """N(0, Σ) on images of one channel, (1, side, side).

    Args:
        side: pixels of an edge.
        covariance: Σ of flattened images, (pixels, pixels).

    Attributes:
        covariance, precision: Σ and Σ⁻¹ in float64.

    Raises:
        ValueError: a matrix that is no covariance of so many pixels.
    """

    domain = "image"

    def __init__(self, side: int, covariance: Float[Tensor, "pixels pixels"]) -> None:
        self.side = check_integer("side", side, at_least=1)
        self._law = Gaussian(torch.zeros(side**2, dtype=torch.float64), covariance)
        self.dim = self._law.dim
        self.bounds = self._law.bounds
        self.covariance = self._law.covariance
        self.precision = self._law.precision

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, (1, side, side)."""
        return (1, self.side, self.side)

    def sample(
        self, num: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "num 1 side side"]:
        """Independent draws."""
        return self._law.sample(num, generator, dtype).view(num, *self.shape)

    def log_prob(self, x: Float[Tensor, "batch 1 side side"]) -> Float[Tensor, " batch"]:
        """log p(x) in nats."""
        return self._law.log_prob(x.flatten(1))

    def score(self, x: Float[Tensor, "batch 1 side side"]) -> Float[Tensor, "batch 1 side side"]:
        """-Σ⁻¹ x."""
        return self._law.score(x.flatten(1)).view_as(x)

    def noised(self, sigma: float) -> "GaussianImages":
        """Σ grows by σ² I."""
        return GaussianImages(self.side, self._law.noised(sigma).covariance)

    def entropy(self) -> float:
        """½ log det(2πe Σ)."""
        return self._law.entropy()


def haar_images(side: int, smallest: float = 0.5, largest: float = 1.5) -> GaussianImages:
    """Gaussian images with independent coefficients in the Haar basis, of more variance the coarser they are.

        Σ = Σ_k 4^(K-k) v_k (P_k - P_{k-1}),  P_k the mean over blocks of side / 2^k pixels, k = 0, ..., K

    with P_{-1} = 0, side = 2^K, and v_k spaced evenly on a log scale from `largest` at k = 0. The mean over
    2 x 2 blocks has that law too, with k up to K - 1: v_k is the variance of what grid k adds to grid k - 1.

    Args:
        side: pixels of an edge, a power of 2, at least 2.
        smallest, largest: v_K of the finest details and v_0 of the mean image, positive.

    Raises:
        ValueError: a number outside of its range.
    """
    levels = check_integer("side", side, at_least=2).bit_length() - 1
    if side != 2**levels:
        raise ValueError(f"side must be a power of 2, got {side}")
    if check_positive("smallest", smallest) > check_positive("largest", largest):
        raise ValueError(f"smallest must not exceed largest, got {smallest} > {largest}")
    variances = torch.linspace(math.log(largest), math.log(smallest), levels + 1, dtype=torch.float64).exp()
    coarser = torch.zeros(side**2, side**2, dtype=torch.float64)
    covariance = coarser
    for k, variance in enumerate(variances):
        means = _block_means(side, side >> k)
        covariance = covariance + 4 ** (levels - k) * variance * (means - coarser)
        coarser = means
    return GaussianImages(side, covariance)


def _block_means(side: int, block: int) -> Float[Tensor, "pixels pixels"]:
    """The projection that puts into each pixel the mean over its block."""
    ones = torch.full((block, block), 1 / block, dtype=torch.float64)
    along = torch.block_diag(*[ones] * (side // block))
    return torch.kron(along, along)

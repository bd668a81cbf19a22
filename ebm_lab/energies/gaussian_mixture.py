"""The energy of a mixture of diagonal Gaussians with learned weights, means and scales."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.energies.classifier import ClassifierEnergy


class GaussianMixtureEnergy(ClassifierEnergy):
    """E(x) = -log Σ_k exp(a_k - ½ ‖(x - μ_k) / s_k‖²), with log Z = log Σ_k exp(a_k) (2π)^{d/2} Π_j s_kj.

    The heights a_k are free: the energy is unnormalised, as every energy here, though its log Z is known. Its
    terms are the logits of a classifier whose classes are the components.

    Args:
        shape: shape of one event; it is flattened into d numbers.
        num_components: number K of components.
        spread: standard deviation of the means at the start.
        seed: seed of the means at the start.

    Raises:
        ValueError: for fewer than one component or a spread that is not positive.
    """

    def __init__(
        self, shape: tuple[int, ...], *, num_components: int = 16, spread: float = 2.0, seed: int = 0
    ) -> None:
        if num_components < 1 or spread <= 0:
            raise ValueError(
                f"num_components must be at least 1 and spread positive, got {num_components} and {spread}"
            )
        super().__init__(shape, num_classes=num_components)
        dim = math.prod(self.shape)
        means = torch.randn(num_components, dim, generator=torch.Generator().manual_seed(seed))
        self.means = nn.Parameter(spread * means)
        self.heights = nn.Parameter(torch.zeros(num_components))
        self.log_scales = nn.Parameter(torch.zeros(num_components, dim))

    def class_logits(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch components"]:
        """a_k - ½ ‖(x - μ_k) / s_k‖²."""
        z = (x.flatten(1)[:, None] - self.means) * torch.exp(-self.log_scales)
        return self.heights - 0.5 * z.square().sum(2)

    def log_partition(self) -> Float[Tensor, ""]:
        """log Σ_k exp(a_k) (2π)^{d/2} Π_j s_kj."""
        volumes = self.log_scales.sum(1) + 0.5 * self.means.shape[1] * math.log(2 * math.pi)
        return torch.logsumexp(self.heights + volumes, 0)

"""The closed-form problem of methods that learn from labels."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.data import InMemoryData, IsotropicMixture
from ebm_lab.energies import Energy, GaussianMixtureEnergy
from ebm_lab.objectives.known_truth import KnownTruth


@dataclass(frozen=True)
class ClassesTruth(KnownTruth):
    """Round Gaussian classes p(x, y) = w_y N(x; μ_y, s_y² I), logits f_y(x) = a_y - ½ ‖(x - μ_y) / s_y‖².

    Both p(x) and p(y | x) are of the model, so that a loss which weighs them against each other is stationary
    at the truth whatever the weight. Noise σ on the data makes s_y² into s_y² + σ².

    Args:
        density: the mixture whose components are the classes.
    """

    overrides = (
        "data=gaussian_classes",
        "energy=gaussian_mixture",
        "energy.num_components=3",
        "energy.spread=1",
        "energy.seed=1",
    )
    size_key = "data.dim"

    density: IsotropicMixture

    @classmethod
    def of(cls, data: InMemoryData) -> Self:
        """The truth about `data=gaussian_classes`."""
        return cls(data.density)

    def expected(self, sigma: float = 0.0) -> dict[str, Float[Tensor, ""]]:
        """p(y), mean log s_y of each class, and the means' projection on the true ones, which is 1."""
        scales = self.density.noised(sigma).scales if sigma else self.density.scales
        numbers = {f"p({k})": weight for k, weight in enumerate(self.density.weights)}
        numbers |= {f"log s({k})": scale.log() for k, scale in enumerate(scales)}
        return numbers | {"means": torch.ones((), dtype=torch.float64)}

    def learned(self, energy: Energy) -> dict[str, Float[Tensor, ""]]:
        """The same numbers of a trained mixture."""
        log_scales, means = energy.log_scales.detach().double(), energy.means.detach().double()
        weights = (energy.heights.detach().double() + log_scales.sum(1)).softmax(0)
        numbers = {f"p({k})": weight for k, weight in enumerate(weights)}
        numbers |= {f"log s({k})": scale for k, scale in enumerate(log_scales.mean(1))}
        true = self.density.means
        return numbers | {"means": (means * true).sum() / true.square().sum()}

    @torch.no_grad()
    def place(self, energy: GaussianMixtureEnergy, sigma: float, factor: float) -> dict[nn.Parameter, Tensor]:
        """Put the classes with c times their precisions into the energy; the direction in which log c grows.

        Heights that keep the weights p(y) change by the same number for all classes, which no loss sees.
        """
        variances = (self.density.scales**2 + sigma**2) / factor
        log_scales = (0.5 * variances.log())[:, None].expand(energy.log_scales.shape)
        energy.means.copy_(self.density.means)
        energy.log_scales.copy_(log_scales)
        energy.heights.copy_(self.density.weights.log() - log_scales.sum(1))
        return {energy.log_scales: torch.full_like(energy.log_scales, -0.5)}

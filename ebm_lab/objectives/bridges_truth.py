"""The closed-form problem of methods that learn a density as a chain of ratios."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.data import InMemoryData
from ebm_lab.energies import QuadraticClassifier
from ebm_lab.objectives.known_truth import GaussianTruth, KnownTruth


class Bridges(NamedTuple):
    """log r_k(x) = a_k - ½ xᵀ A_k x of each bridge."""

    precisions: Float[Tensor, "bridges dim dim"]
    heights: Float[Tensor, " bridges"]


@dataclass(frozen=True)
class BridgesTruth(KnownTruth):
    """Ratios of Gaussians N(0, C_k) that widen from the data's law to the noise's, one quadratic logit each.

    log r_k = log N(x; 0, C_{k-1}) - log N(x; 0, C_k): A_k = C_{k-1}⁻¹ - C_k⁻¹, positive definite where they
    widen, and a_k = ½ log det C_k - ½ log det C_{k-1}.

    Args:
        data: the truth about the data.
    """

    overrides = ("data=gaussian", "energy=quadratic_classifier")
    size_key = "data.dim"

    data: GaussianTruth

    @classmethod
    def of(cls, data: InMemoryData) -> Self:
        """The truth about `data=gaussian`."""
        return cls(GaussianTruth.of(data))

    def between(self, covariances: list[Float[Tensor, "dim dim"]]) -> Bridges:
        """A_k and a_k of neighbours among C_0, C_1, ..."""
        steps = list(pairwise(covariances))
        return Bridges(
            torch.stack([torch.linalg.inv(c) - torch.linalg.inv(wider) for c, wider in steps]),
            torch.stack([0.5 * (torch.logdet(wider) - torch.logdet(c)) for c, wider in steps]),
        )

    def expected(self, bridges: Bridges) -> dict[str, Float[Tensor, ""]]:
        """Mean eigenvalue and mean log-eigenvalue of A_k, and a_k, of each bridge."""
        return {
            f"{name}, bridge {k}": value
            for k, (precision, height) in enumerate(zip(*bridges, strict=True), 1)
            for name, value in (self.data.expected(precision) | {"a": height}).items()
        }

    def learned(self, energy: QuadraticClassifier) -> dict[str, Float[Tensor, ""]]:
        """The same numbers of trained logits."""
        precisions = torch.stack([quadratic.precision for quadratic in energy.classes])
        return self.expected(Bridges(precisions.detach().double(), energy.heights.detach().double()))

    def place(
        self, energy: QuadraticClassifier, bridges: Bridges, factor: float
    ) -> dict[nn.Parameter, Tensor]:
        """Put a_k and c times A_k into the logits; the direction in which log c grows."""
        with torch.no_grad():
            energy.heights.copy_(bridges.heights)
        return {
            parameter: along
            for quadratic, precision in zip(energy.classes, bridges.precisions, strict=True)
            for parameter, along in self.data.place(quadratic, factor * precision).items()
        }

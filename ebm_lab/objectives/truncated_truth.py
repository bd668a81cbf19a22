"""The closed-form problems of methods for data with an edge."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.data import InMemoryData
from ebm_lab.energies import Energy
from ebm_lab.objectives.known_truth import GaussianTruth, KnownTruth


@dataclass(frozen=True)
class TruncatedTruth(KnownTruth):
    """The quadratic energy on Gaussians that are cut off: P and μ are those of before the cut.

    Args:
        level: the truth about the Gaussians before the cut, centred.
        mean: μ.
    """

    size_key = "data.dim"
    sizes = (2, 5)
    sampler = ()  # that of the data

    level: GaussianTruth
    mean: Float[Tensor, " dim"]

    @classmethod
    def of(cls, data: InMemoryData) -> Self:
        """The truth about data of a `TruncatedGaussian`."""
        return cls(GaussianTruth(torch.diag(data.density.scales.square())), data.density.means)

    @property
    def answer(self) -> Float[Tensor, "dim dim"]:
        """P."""
        return self.level.precision

    def expected(self, precision: Float[Tensor, "dim dim"]) -> dict[str, Float[Tensor, ""]]:
        """Both numbers of P, and the mean of μ."""
        return self.level.expected(precision) | {"mean(μ)": self.mean.mean()}

    def learned(self, energy: Energy) -> dict[str, Float[Tensor, ""]]:
        """The same numbers of a trained quadratic energy."""
        return self.level.learned(energy) | {"mean(μ)": energy.mean.detach().double().mean()}

    @torch.no_grad()
    def place(self, energy: Energy, precision: Float[Tensor, "dim dim"]) -> dict[nn.Parameter, Tensor]:
        """Put P and μ into the energy; the direction in which log c of cP grows."""
        energy.mean.copy_(self.mean)
        return self.level.place(energy, precision)


@dataclass(frozen=True)
class NonnegativeTruth(TruncatedTruth):
    """Gaussians cut off at 0."""

    overrides = ("data=nonnegative", "energy=quadratic")


@dataclass(frozen=True)
class UnitTruth(TruncatedTruth):
    """Gaussians cut off at 0 and at 1."""

    overrides = ("data=unit", "energy=quadratic")

"""The closed-form problems on which objectives are verified."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.data import InMemoryData
from ebm_lab.data.ising import IsingLaw
from ebm_lab.energies import Energy, Ising, NoisedQuadratic


class KnownTruth(ABC):
    """A problem whose answer is known in closed form: how it is posed, and what tells whether it was learned.

    An objective names its problem in `Objective.truth`, and more of them in `further_truths`.
    `scripts/verify.py` trains on each, and the contract tests hold the loss to be stationary at the answer.

    Attributes:
        overrides: the config that poses it; `size_key` is set beside them.
        sampler: overrides that choose the kernel of methods that sample.
        size_key: config key of the problem's size, such as data.dim.
        sizes: sizes at which it is posed.
        unit: what the size counts, where that is not the number of dimensions.
    """

    overrides: ClassVar[tuple[str, ...]]
    sampler: ClassVar[tuple[str, ...]] = ("sampler=langevin", "sampler.step_size=0.1")  # whose bias shows
    size_key: ClassVar[str]
    sizes: ClassVar[tuple[int, ...]] = (2, 10)
    unit: ClassVar[str] = ""

    @classmethod
    def posed(cls, size: int) -> list[str]:
        """The overrides of a problem of this size."""
        return [*cls.sampler, *cls.overrides, f"{cls.size_key}={size}"]

    @classmethod
    @abstractmethod
    def of(cls, data: InMemoryData) -> Self:
        """The truth about data that were set up as posed."""

    @abstractmethod
    def learned(self, energy: Energy) -> dict[str, Float[Tensor, ""]]:
        """What an energy learned, as named numbers: enough of them that a wrong answer cannot hide."""


@dataclass(frozen=True)
class GaussianTruth(KnownTruth):
    """The quadratic energy on data of law N(0, covariance): E(x) = ½ (x - μ)ᵀ P (x - μ).

    Args:
        covariance: Σ of the data, (dim, dim).
    """

    overrides = ("data=gaussian", "energy=quadratic")
    size_key = "data.dim"

    covariance: Float[Tensor, "dim dim"]

    @classmethod
    def of(cls, data: InMemoryData) -> Self:
        """The truth about `data=gaussian`."""
        return cls(data.density.covariance)

    @property
    def precision(self) -> Float[Tensor, "dim dim"]:
        """Σ⁻¹, the answer of an unbiased method."""
        return torch.linalg.inv(self.covariance)

    def map_eigenvalues(self, function: Callable[[Tensor], Any]) -> Float[Tensor, "dim dim"]:
        """The symmetric matrix with Σ's eigenvectors and `function` of its eigenvalues m."""
        variances, vectors = torch.linalg.eigh(self.covariance)
        return vectors @ torch.diag(torch.stack([function(m) for m in variances])) @ vectors.T

    @staticmethod
    def log_partition(precision: Float[Tensor, "dim dim"]) -> Float[Tensor, ""]:
        """log Z = (d/2) log 2π - ½ log det P."""
        return 0.5 * len(precision) * math.log(2 * math.pi) - 0.5 * torch.logdet(precision)

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

    def place(self, energy: Energy, precision: Float[Tensor, "dim dim"]) -> dict[nn.Parameter, Tensor]:
        """Put P into a quadratic energy; the direction of its parameters in which log c of cP grows.

        P -> cP scales the factor L of P by √c: log diagonal + ½ log c, below the diagonal times √c.
        """
        energy.set_precision(precision)
        half = torch.full_like(energy.log_diagonal, 0.5)
        return {energy.log_diagonal: half, energy.below_diagonal: 0.5 * energy.below_diagonal.detach()}


@dataclass(frozen=True)
class GaussianImagesTruth(GaussianTruth):
    """The same on images, whose law is known on coarser grids too."""

    overrides = ("data=gaussian_images", "energy=quadratic")
    size_key = "data.density.side"
    sizes = (4, 8)
    unit = "pixels a side"


@dataclass(frozen=True)
class LadderTruth(KnownTruth):
    """A quadratic energy for each level of a ladder of noise, on data of law N(0, Σ): E(x, σ_k) = ½ xᵀP_k x.

    For methods that name their ladder `objective.ladder`; without bias P_k = (Σ + σ_k²I)⁻¹.

    Args:
        level: the truth about the data, which each level's own is made of.
    """

    overrides = (
        "data=gaussian",
        "energy=quadratic_ladder",
        "objective.ladder.smallest=0.5",
        "objective.ladder.largest=2.0",
        "objective.ladder.num_levels=3",
    )
    size_key = "data.dim"

    level: GaussianTruth

    @classmethod
    def of(cls, data: InMemoryData) -> Self:
        """The truth about `data=gaussian`."""
        return cls(GaussianTruth.of(data))

    def map_eigenvalues(self, function: Callable[[Tensor], Any]) -> Float[Tensor, "dim dim"]:
        """The symmetric matrix with Σ's eigenvectors and `function` of its eigenvalues m."""
        return self.level.map_eigenvalues(function)

    def expected(self, precisions: Float[Tensor, "levels dim dim"]) -> dict[str, Float[Tensor, ""]]:
        """Both numbers of each level."""
        return _by_level([self.level.expected(precision) for precision in precisions])

    def learned(self, energy: Energy) -> dict[str, Float[Tensor, ""]]:
        """The same numbers of a trained ladder of quadratic energies."""
        return _by_level([self.level.learned(quadratic) for quadratic in energy.levels])

    def place(
        self, energy: Energy, precisions: Float[Tensor, "levels dim dim"]
    ) -> dict[nn.Parameter, Tensor]:
        """Put each P_k into its quadratic energy; the direction in which log c of all c P_k grows."""
        places = [self.level.place(e, p) for e, p in zip(energy.levels, precisions, strict=True)]
        return {parameter: along for place in places for parameter, along in place.items()}


def _by_level(numbers: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{name}, level {k}": value for k, found in enumerate(numbers) for name, value in found.items()}


@dataclass(frozen=True)
class NoisedTruth(KnownTruth):
    """The energy `NoisedQuadratic` on data of law N(0, Σ): E(x, σ) = -log N(x; 0, S + σ²I), S = Σ.

    For methods whose noise level is continuous, and without bias.

    Args:
        level: the truth about the data.
    """

    overrides = ("data=gaussian", "energy=quadratic_noised")
    size_key = "data.dim"

    level: GaussianTruth

    @classmethod
    def of(cls, data: InMemoryData) -> Self:
        """The truth about `data=gaussian`."""
        return cls(GaussianTruth.of(data))

    @property
    def answer(self) -> Float[Tensor, "dim dim"]:
        """Σ."""
        return self.level.covariance

    def expected(self, covariance: Float[Tensor, "dim dim"]) -> dict[str, Float[Tensor, ""]]:
        """The mean eigenvalue and the mean log-eigenvalue of S."""
        dim = len(covariance)
        return {"trace(S)/d": torch.trace(covariance) / dim, "logdet(S)/d": torch.logdet(covariance) / dim}

    def learned(self, energy: NoisedQuadratic) -> dict[str, Float[Tensor, ""]]:
        """The same numbers of a trained energy."""
        return self.expected(energy.covariance.detach().double())

    def place(
        self, energy: NoisedQuadratic, covariance: Float[Tensor, "dim dim"]
    ) -> dict[nn.Parameter, Tensor]:
        """Put S into an energy; the direction of its parameters in which log c of cS grows."""
        energy.set_covariance(covariance)
        half = torch.full_like(energy.log_diagonal, 0.5)
        return {energy.log_diagonal: half, energy.below_diagonal: 0.5 * energy.below_diagonal.detach()}


@dataclass(frozen=True)
class NormalisedTruth(NoisedTruth):
    """The same for methods that learn a normalised energy: b log σ, which no score sees, must vanish."""

    overrides = (*NoisedTruth.overrides, "energy.tilt=0.5")  # to be found from elsewhere than the answer

    def expected(self, covariance: Float[Tensor, "dim dim"]) -> dict[str, Float[Tensor, ""]]:
        """The two numbers of S, and b = 0."""
        return super().expected(covariance) | {"b": covariance.new_zeros(())}

    def learned(self, energy: NoisedQuadratic) -> dict[str, Float[Tensor, ""]]:
        """The same numbers of a trained energy."""
        return super().learned(energy) | {"b": energy.tilt.detach().double()}


@dataclass(frozen=True)
class IsingTruth(KnownTruth):
    """The energy `Ising` with a field on data of a random Boltzmann machine: E(x) = -sᵀJs - hᵀs, s = 2x - 1.

    Kernels on binary events have no bias here, so the answer is J and h themselves.

    Args:
        law: of the data.
    """

    overrides = ("data=boltzmann",)
    sampler = ("sampler=gibbs",)
    size_key = "data.dim"
    sizes = (3, 6)
    unit = "spins"

    law: IsingLaw

    @classmethod
    def of(cls, data: InMemoryData) -> Self:
        """The truth about `data=boltzmann`."""
        return cls(data.density)

    @property
    def answer(self) -> Float[Tensor, " numbers"]:
        """J above its diagonal, row by row, and h: what an unbiased method learns."""
        energy = Ising(self.law.shape, field=True).double()
        energy.set_couplings(self.law.couplings)
        return torch.cat([energy.pairs.detach(), self.law.field])

    def expected(self, numbers: Float[Tensor, " numbers"]) -> dict[str, Float[Tensor, ""]]:
        """J and h along those of the law, and the length of both.

        Three numbers, because what is learned beside the truth leaves the first two and adds to the third.
        """
        sizes = [len(numbers) - len(self.law.field), len(self.law.field)]
        true_pairs, true_field = self.answer.split(sizes)
        pairs, h = numbers.split(sizes)
        return {
            "J along the truth": pairs @ true_pairs / true_pairs.square().sum(),
            "h along the truth": h @ true_field / true_field.square().sum(),
            "length of (J, h)": numbers.norm() / self.answer.norm(),
        }

    def learned(self, energy: Energy) -> dict[str, Float[Tensor, ""]]:
        """The same numbers of a trained energy."""
        return self.expected(torch.cat([energy.pairs, energy.field]).detach().double())

    @torch.no_grad()
    def place(self, energy: Energy, numbers: Float[Tensor, " numbers"]) -> dict[nn.Parameter, Tensor]:
        """Put J and h into an energy; the direction in which they grow: along themselves."""
        for parameter, values in zip(
            (energy.pairs, energy.field), numbers.split([len(energy.pairs), len(energy.field)]), strict=True
        ):
            parameter.copy_(values)
        return {parameter: parameter.detach().clone() for parameter in (energy.pairs, energy.field)}

"""Paths of energies, from a law that is drawn exactly to the model: what annealing climbs."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.energies.energy import Energy


class AnnealingPath(ABC):
    """β -> E_β for β in [0, 1]: p_0 can be drawn exactly and its log Z is known, E_1 is the model's energy.

    An energy that knows a better path than the geometric one, such as a restricted Boltzmann machine,
    brings it by a method `annealing_path(noise)`; kernels then see its E_β, of whatever class.

    Attributes:
        log_z_start: log Z of E_0.
    """

    log_z_start: float

    @abstractmethod
    def __call__(self, beta: float) -> Energy:
        """E_β."""

    @abstractmethod
    def sample(self, num: int, generator: torch.Generator | None) -> Float[Tensor, "num *shape"]:
        """Independent draws of p_0."""

    def weigh(
        self, x: Float[Tensor, "batch *shape"], beta: float
    ) -> Callable[[float], Float[Tensor, " batch"]]:
        """β' -> E_β(x) - E_β'(x), the log weight of moving from β to β'; override where parts are shared."""
        energies = self(beta)(x)
        return lambda next_beta: energies - self(next_beta)(x)


class GeometricPath(AnnealingPath):
    """E_β = -(1 - β) log q + β E, from a normalised density q at β = 0, so that log Z_0 = 0.

    What lies where q vanishes is never visited and its mass is missing from log Z.

    Args:
        noise: q, a module.
        energy: E.
    """

    log_z_start = 0.0

    def __init__(self, noise: nn.Module, energy: Energy) -> None:
        self.noise = noise
        self.energy = energy

    def __call__(self, beta: float) -> Energy:
        """E_β; E itself at β = 1."""
        return self.energy if beta == 1 else Between(self.noise, self.energy, beta)

    def sample(self, num: int, generator: torch.Generator | None) -> Float[Tensor, "num *shape"]:
        """Draws of q."""
        return self.noise.sample(num, generator)

    def weigh(
        self, x: Float[Tensor, "batch *shape"], beta: float
    ) -> Callable[[float], Float[Tensor, " batch"]]:
        """β' -> (β' - β) (-log q(x) - E(x)): one evaluation of each for any number of β'."""
        difference = -self.noise.log_prob(x) - self.energy(x)
        return lambda next_beta: (next_beta - beta) * difference


class Between(Energy):
    """E_β = -(1 - β) log q + β E of a `GeometricPath`."""

    def __init__(self, noise: nn.Module, energy: Energy, beta: float) -> None:
        super().__init__()
        self.noise = noise
        self.energy = energy
        self.beta = beta
        self.shape = energy.shape
        self.twice_differentiable = energy.twice_differentiable

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """(β - 1) log q(x) + β E(x)."""
        start = (self.beta - 1) * self.noise.log_prob(x)
        return start if self.beta == 0 else start + self.beta * self.energy(x)


def path_between(noise: nn.Module, energy: Energy) -> AnnealingPath:
    """The energy's own path where it brings one (`annealing_path(noise)`), the geometric one otherwise."""
    own = getattr(energy, "annealing_path", None)
    return GeometricPath(noise, energy) if own is None else own(noise)

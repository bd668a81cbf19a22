"""What a known density offers: draws, log p, its score, and mostly the same after Gaussian noise."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

OUTSIDE = 1e-6  # mass that may lie outside of `bounds`


class Density(ABC):
    """A normalised density on R^dim that can be sampled and evaluated exactly.

    Parameters are kept in float64; every method evaluates in the dtype and on the device of its input.

    Attributes:
        dim: number of coordinates.
        bounds: half-width L of the box [-L, L]^dim, centred at 0, outside of which lies a mass below 1e-6.
    """

    dim: int
    bounds: float
    domain: ClassVar[str] = "real"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one event, (dim,)."""
        return (self.dim,)

    @property
    def modes(self) -> Float[Tensor, "modes dim"] | None:
        """Means of the modes where they are well separated, else None."""
        return None

    @abstractmethod
    def sample(
        self, num: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "num dim"]:
        """Independent draws, on the generator's device."""

    @abstractmethod
    def log_prob(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """log p(x) in nats."""

    @abstractmethod
    def score(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """∇ log p(x), in closed form."""

    @abstractmethod
    def noised(self, sigma: float) -> "Density | None":
        """The density of x + σ z, z ~ N(0, I): p convolved with N(0, σ² I); None without a closed form."""

    def entropy(self) -> float | None:
        """-E log p(x) in nats where it has a closed form, else None."""
        return None

    def measurements(self, model: Any) -> dict[str, tuple[float, float | None, str, str]]:
        """How far a model is from this law in numbers of its own: none that every run has not."""
        return {}


def normal_like(
    num: int, dim: int, generator: torch.Generator, dtype: torch.dtype
) -> Float[Tensor, "num dim"]:
    """Standard normal draws on the generator's device."""
    return torch.randn(num, dim, generator=generator, dtype=dtype, device=generator.device)


def draw_indices(weights: Float[Tensor, " components"], num: int, generator: torch.Generator) -> Tensor:
    """Components of a mixture, drawn with their weights."""
    weights = weights.to(generator.device, torch.float32)
    return torch.multinomial(weights, num, replacement=True, generator=generator)


def tail_width(dim: int) -> float:
    """Standard deviations beyond which, over both sides of all coordinates, a Gaussian has mass 1e-6."""
    return -float(torch.special.ndtri(torch.tensor(OUTSIDE / (2 * dim), dtype=torch.float64)))


def in_chunks(
    function: Callable[[Tensor], Tensor], x: Float[Tensor, "batch dim"], numbers_per_event: int
) -> Tensor:
    """function(x), a few events at a time where one call would fill the memory."""
    return torch.cat([function(part) for part in x.split(max(1, 2**22 // numbers_per_event))])

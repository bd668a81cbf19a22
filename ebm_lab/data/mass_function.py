"""What a known law of discrete events offers: draws and log p."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor


class MassFunction(ABC):
    """A normalised law on binary or categorical events that can be sampled and evaluated exactly.

    The discrete kin of `Density`: no score, no Gaussian noise.

    Attributes:
        shape: shape of one event.
        domain: binary or categorical.
    """

    shape: tuple[int, ...]
    domain: ClassVar[str] = "binary"

    @property
    def dim(self) -> int:
        """Numbers of one event."""
        return torch.Size(self.shape).numel()

    @abstractmethod
    def sample(
        self, num: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "num *shape"]:
        """Independent draws, on the generator's device."""

    @abstractmethod
    def log_prob(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """log p(x) in nats."""

    @abstractmethod
    def entropy(self) -> float | None:
        """-E log p(x) in nats where it is known, else None."""

    def measurements(self, model: Any) -> dict[str, tuple[float, float | None, str, str]]:
        """How far a model is from this law in numbers of its own: name -> value, error, unit, note."""
        return {}

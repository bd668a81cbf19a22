"""What a noise is: a normalised density on events that can be sampled and scored."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ebm_lab.domains import CONTINUOUS
from ebm_lab.errors import UserError


class Noise(nn.Module, ABC):
    """A density q(x) on events with ∫ q = 1, optionally fitted to data before training.

    All its numbers are buffers or frozen parameters: they move with the module, are saved with it, and take
    no gradient.

    Attributes:
        shape: shape of one event, without the batch axis.
        domains: kinds of data on which it is a density, of real, image, nonnegative, unit, binary and
            categorical.
        has_full_support: q(x) > 0 everywhere; False where the density has an edge.
        twice_differentiable: False where ∇log q jumps or is zero almost everywhere, so that second
            derivatives do not tell the density; as a base term it is then refused as such an energy is.
    """

    shape: tuple[int, ...]
    domains: frozenset[str] = CONTINUOUS
    has_full_support: ClassVar[bool] = True
    twice_differentiable: ClassVar[bool] = True

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(int(length) for length in shape)
        if any(length < 1 for length in self.shape):
            raise ValueError(f"shape must hold positive lengths, got {self.shape}")

    @abstractmethod
    def sample(self, num: int, generator: torch.Generator | None) -> Float[Tensor, "num *shape"]:
        """Independent draws; the generator is on the device of the buffers."""

    @abstractmethod
    def log_prob(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """log q(x) of each event in nats, normalised."""

    def fit(self, x: Float[Tensor, "batch *shape"]) -> None:
        """Fit the density to data; without parameters there is nothing to fit."""

    def fit_labelled(self, x: Float[Tensor, "batch *shape"], label: Int[Tensor, " batch"] | None) -> None:
        """Fit to data with their classes, or None where they have none; most densities look at x alone."""
        self.fit(x)

    def sample_labelled(
        self, label: Int[Tensor, " num"], generator: torch.Generator | None
    ) -> Float[Tensor, "num *shape"]:
        """A draw for each label: of its class, where the density knows classes."""
        return self.sample(len(label), generator)

    def flat(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch features"]:
        """The events as vectors; refuses events of another shape, which would broadcast."""
        if x.shape[1:] != self.shape:
            raise ValueError(
                f"{type(self).__name__} is on events of shape {self.shape}, got {tuple(x.shape[1:])}"
            )
        return x.reshape(len(x), -1)


def check_data(noise: Noise, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch features"]:
    """Data for a fit, as float64 vectors on the CPU: a fit happens once and wants the digits."""
    x = noise.flat(x).detach().to("cpu", torch.float64)
    if len(x) < 2:
        raise UserError(f"{type(noise).__name__} needs at least 2 events to be fitted, got {len(x)}")
    if not x.isfinite().all():
        events = int((~x.isfinite()).any(1).sum())
        raise UserError(
            f"{type(noise).__name__} cannot be fitted: {events} of {len(x)} events hold NaN or infinity"
        )
    return x


def check_fitted(noise: Noise) -> None:
    """Refuse to use a density that has not seen data."""
    if not noise.fitted:
        raise RuntimeError(
            f"{type(noise).__name__} has not been fitted; call fit(x) with training data first"
        )


def check_ridge(ridge: float) -> float:
    """The ridge as a float, or a ValueError with one sentence."""
    if isinstance(ridge, bool) or not isinstance(ridge, int | float) or not 0 <= ridge < float("inf"):
        raise ValueError(f"ridge must be a finite number, at least 0, got {ridge!r}")
    return float(ridge)

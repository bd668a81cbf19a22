"""Energies that are layers of affine maps and element-wise nonlinearities, taken apart."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies.energy import Energy


class Layer(NamedTuple):
    """h -> σ(W h + b), element by element.

    Attributes:
        weight: W.
        bias: b.
        activation: σ; None for the identity.
    """

    weight: Float[Tensor, "out in"]
    bias: Float[Tensor, " out"]
    activation: Callable[[Tensor], Tensor] | None


@runtime_checkable
class Layered(Protocol):
    """An energy E(x) = Σ_j h_j + E₀(x), h the last of its layers on the flattened event.

    Attributes:
        base: E₀, or None.
    """

    base: Energy | None

    def layers(self) -> list[Layer]:
        """The layers from the event up."""


@runtime_checkable
class KnowsLaplacian(Protocol):
    """An energy whose second derivatives are a formula."""

    def laplacian(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """ΔE(x) of each event."""

"""A fully connected energy for vectors (and, flattened, for small images)."""

import math
from collections.abc import Sequence

from torch import nn

from ebm_lab.energies.activations import activation as activation_layer
from ebm_lab.energies.activations import is_smooth
from ebm_lab.energies.energy import Energy
from ebm_lab.energies.layers import Layer
from ebm_lab.energies.network import NetworkEnergy
from ebm_lab.energies.noise_conditional import (
    Embedded,
    NoiseConditioning,
    modulation,
    num_features,
)


class MLP(NetworkEnergy):
    """E(x) = network(x) + E₀(x), a multilayer perceptron with a scalar output and an optional base energy.

    Args:
        shape: shape of one event; it is flattened.
        width: units of each hidden layer.
        depth: number of hidden layers.
        activation: silu, softplus, tanh, gelu, elu, relu or leaky_relu.
        base: energy E₀ that is added, so that Z exists on R^d; None adds nothing.
        conditioning: makes the energy one of x and a noise level, with an E₀ of its own in the place of
            `base`; None leaves it one of x.

    Raises:
        ValueError: for a non-positive width or depth, or an unknown activation.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: int = 128,
        depth: int = 3,
        activation: str = "silu",
        base: Energy | None = None,
        conditioning: NoiseConditioning | None = None,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.twice_differentiable = is_smooth(activation, base)
        units = [math.prod(self.shape), *[width] * depth, 1]
        self.network = perceptron(units, activation, num_features(conditioning))
        self.base = base
        self.conditioning = conditioning

    def layers(self) -> list[Layer]:
        """Its linear maps, each with the activation behind it.

        Raises:
            ValueError: for an energy of x and a noise level, whose layers depend on the latter.
        """
        if self.conditioning is not None:
            raise ValueError("the layers of an energy that is conditioned on a noise level depend on it")
        modules = list(self.network)
        behind = [*modules[1:], None]
        return [
            Layer(module.weight, module.bias, activation)
            for module, activation in zip(modules, behind, strict=True)
            if isinstance(module, nn.Linear)
        ]


def perceptron(units: Sequence[int], activation: str, num_features: int = 0) -> Embedded:
    """Linear maps from units[0] numbers, an event flattened, to units[-1], an activation between each two.

    Args:
        num_features: of the embedding that modulates the hidden layers; 0 for none.

    Raises:
        ValueError: without a hidden layer or with an empty one, or for an unknown activation.
    """
    hidden = units[1:-1]
    if not hidden or min(hidden) < 1:
        width = hidden[0] if hidden else None
        raise ValueError(f"width and depth must be at least 1, got width={width} and depth={len(hidden)}")
    layers: list[nn.Module] = [nn.Flatten()]
    for num_in, num_out in zip(units, hidden, strict=False):
        layers += [nn.Linear(num_in, num_out), *modulation(num_features, num_out)]
        layers.append(activation_layer(activation))
    return Embedded(*layers, nn.Linear(hidden[-1], units[-1]))

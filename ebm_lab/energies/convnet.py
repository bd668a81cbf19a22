"""A convolutional energy for images of any size."""

from collections.abc import Sequence

from torch import nn

from ebm_lab.energies.activations import activation as activation_layer
from ebm_lab.energies.activations import is_smooth
from ebm_lab.energies.energy import Energy
from ebm_lab.energies.images import image_shape
from ebm_lab.energies.network import NetworkEnergy
from ebm_lab.energies.noise_conditional import (
    Embedded,
    NoiseConditioning,
    modulation,
    num_features,
)


class ConvNet(NetworkEnergy):
    """E(x) = network(x) + E₀(x): 3×3 convolutions, halving the resolution after the first, then a linear map.

    No normalisation layer: a batch norm would make ∂E(x_i)/∂x_j ≠ 0.

    Args:
        shape: (channels, height, width) of one image.
        channels: output channels of each convolution; all but the first have stride 2.
        first_stride: of the first convolution; 2 makes images of 28 x 28 three times as fast as 1.
        hidden: units of the fully connected layer before the scalar.
        activation: silu, softplus, tanh, gelu, elu, relu or leaky_relu.
        base: energy E₀ that is added, so that Z exists on R^d; None adds nothing.
        conditioning: makes the energy one of x and a noise level, with an E₀ of its own in the place of
            `base`; None leaves it one of x.

    Raises:
        ValueError: when `shape` is not an image's, or a number is not positive.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        channels: Sequence[int] = (16, 32, 64),
        first_stride: int = 1,
        hidden: int = 128,
        activation: str = "silu",
        base: Energy | None = None,
        conditioning: NoiseConditioning | None = None,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        num_in, height, width = image_shape(self.shape, "convnet")
        if not channels or min(*channels, hidden) < 1:
            raise ValueError(f"channels and hidden must be positive, got {list(channels)} and {hidden}")
        if first_stride < 1:
            raise ValueError(f"first_stride must be at least 1, got {first_stride}")
        self.twice_differentiable = is_smooth(activation, base)
        layers: list[nn.Module] = []
        features = num_features(conditioning)
        for i, num_out in enumerate(channels):
            stride = first_stride if i == 0 else 2
            layers += [nn.Conv2d(num_in, num_out, 3, stride, padding=1), *modulation(features, num_out)]
            layers.append(activation_layer(activation))
            num_in, height, width = num_out, -(-height // stride), -(-width // stride)
        layers += [nn.Flatten(), nn.Linear(num_in * height * width, hidden), *modulation(features, hidden)]
        self.network = Embedded(*layers, activation_layer(activation), nn.Linear(hidden, 1))
        self.base = base
        self.conditioning = conditioning

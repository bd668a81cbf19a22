"""A wide residual energy for images of any size."""

from torch import nn

from ebm_lab.energies.activations import activation as activation_layer
from ebm_lab.energies.activations import is_smooth
from ebm_lab.energies.energy import Energy
from ebm_lab.energies.images import image_shape
from ebm_lab.energies.network import NetworkEnergy
from ebm_lab.energies.noise_conditional import Embedded, NoiseConditioning, num_features
from ebm_lab.energies.residual_block import ResidualBlock

_CHANNELS, _STRIDES = (16, 32, 64), (1, 2, 2)  # of the three stages, at width 1


class WideResNet(NetworkEnergy):
    """E(x) = w · mean_positions h(x) + b + E₀(x), h of a WRN-depth-width without normalisation.

    A 3×3 convolution to 16 channels, three stages of (depth - 4) / 6 residual blocks with 16, 32 and 64 times
    `width` channels, the last two halving the resolution, a mean over all positions and a linear map. With
    the mean E - E₀ has the size of one activation at the start, whatever the resolution.

    Args:
        shape: (channels, height, width) of one image.
        depth: layers with weights on the longest path: 10, 16, 22, 28, ...
        width: factor on the channels. 28 and 10 are the network of the literature, 36 million weights.
        activation: silu, softplus, tanh, gelu, elu, relu or leaky_relu, which is the literature's but has no
            Hessian.
        base: energy E₀ that is added, so that Z exists on R^d; None adds nothing.
        conditioning: makes the energy one of x and a noise level, with an E₀ of its own in the place of
            `base`; None leaves it one of x.

    Raises:
        ValueError: when `shape` is not an image's, or depth or width is not one of those above.
    Cost: with 28×28 grey images, the defaults and 128 events 65 ms for E and ∇E on one CPU core, where
        `ConvNet` takes 30.
    Notes: 1. Smooth activations by default, where the papers have (leaky) ReLUs. 2. One scalar in the place
        of the classes' logits, which `objective=jem` puts back. 3. No dropout.
    Reference: Zagoruyko & Komodakis 2016, Wide Residual Networks, arXiv 1605.07146, table 1; as an energy
    Grathwohl et al. 2020, Your Classifier is Secretly an Energy Based Model, arXiv 1912.03263.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        depth: int = 10,
        width: int = 1,
        activation: str = "silu",
        base: Energy | None = None,
        conditioning: NoiseConditioning | None = None,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        num_in, _, _ = image_shape(self.shape, "wide_resnet")
        if depth < 10 or depth % 6 != 4:
            raise ValueError(f"depth must be 6 n + 4 with n blocks a stage (10, 16, 22, 28), got {depth}")
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.twice_differentiable = is_smooth(activation, base)
        features = num_features(conditioning)
        layers: list[nn.Module] = [nn.Conv2d(num_in, _CHANNELS[0], 3, padding=1)]
        num_in = _CHANNELS[0]
        for channels, first_stride in zip(_CHANNELS, _STRIDES, strict=True):
            for stride in [first_stride] + [1] * ((depth - 4) // 6 - 1):
                layers.append(
                    ResidualBlock(
                        num_in, channels * width, activation=activation, stride=stride, num_features=features
                    )
                )
                num_in = channels * width
        layers += [activation_layer(activation), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(num_in, 1)]
        self.network = Embedded(*layers)
        self.base = base
        self.conditioning = conditioning

"""A residual energy for images of any size."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.energies.activations import activation as activation_layer
from ebm_lab.energies.activations import is_smooth
from ebm_lab.energies.energy import Energy
from ebm_lab.energies.images import image_shape
from ebm_lab.energies.network import NetworkEnergy
from ebm_lab.energies.noise_conditional import Embedded, NoiseConditioning, num_features
from ebm_lab.energies.residual_block import ResidualBlock, halved
from ebm_lab.energies.spectral_norm import normalise


class ResNet(NetworkEnergy):
    """E(x) = w · Σ_positions h(x) + b + E₀(x): residual blocks, a sum over all positions, a linear map.

    Each entry of `channels` is a stage of residual blocks that ends in a 2×2 average pool.

    At the start w is divided by the number N of positions: a sum of N alike activations would be N times one
    of them, and E - E₀ begins at the size of one instead. No normalisation layer mixes events.

    Args:
        shape: (channels, height, width) of one image.
        channels: channels of each stage; the resolution is halved, rounding up, after each.
        blocks: residual blocks of a stage.
        activation: silu (also called swish), softplus, tanh, gelu, elu, relu or leaky_relu.
        spectral_norm: divide every weight but the last by its largest singular value. This bounds the norm of
            the reshaped kernels, not that of the convolutions: `spectral_norm.normalise` says more.
        base: energy E₀ that is added, so that Z exists on R^d; None adds nothing.
        conditioning: makes the energy one of x and a noise level, with an E₀ of its own in the place of
            `base`; None leaves it one of x.

    Raises:
        ValueError: when `shape` is not an image's, or a number is not positive.
    Cost: with 28×28 grey images, the defaults and 128 events 80 ms for E and ∇E on one CPU core, where
        `ConvNet` takes 30.
    Notes: 1. Activations come before the convolutions of a block, so that one block serves all networks here.
        2. Where spectral_norm is on, its vectors move after each optimizer step of an `Objective`; a loop of
        one's own calls `advance_power_iteration` there.
    Reference: Du & Mordatch 2019, Implicit Generation and Modeling with Energy-Based Models, arXiv
    1903.08689.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        channels: Sequence[int] = (16, 32, 64),
        blocks: int = 1,
        activation: str = "silu",
        spectral_norm: bool = False,
        base: Energy | None = None,
        conditioning: NoiseConditioning | None = None,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        num_in, height, width = image_shape(self.shape, "resnet")
        if not channels or min(*channels, blocks) < 1:
            raise ValueError(f"channels and blocks must be positive, got {list(channels)} and {blocks}")
        self.twice_differentiable = is_smooth(activation, base)
        features = num_features(conditioning)
        layers: list[nn.Module] = [nn.Conv2d(num_in, channels[0], 3, padding=1)]
        num_in = channels[0]
        for num_out in channels:
            for _ in range(blocks):
                layers.append(ResidualBlock(num_in, num_out, activation=activation, num_features=features))
                num_in = num_out
            layers.append(nn.AvgPool2d(2, ceil_mode=True))
        last = nn.Linear(num_in, 1)
        with torch.no_grad():
            last.weight /= halved(height, len(channels)) * halved(width, len(channels))
        self.network = Embedded(*layers, activation_layer(activation), _SumOverPositions(), last)
        if spectral_norm:
            normalise(self.network, but=last)
        self.base = base
        self.conditioning = conditioning


class _SumOverPositions(nn.Module):
    def forward(self, h: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels"]:
        return h.sum((2, 3))

"""A fully connected generator of vectors (and, flattened, of small images)."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.energies.activations import activation as activation_layer
from ebm_lab.generators.generator import GeneratorNetwork, output_layer


class MLPGenerator(GeneratorNetwork):
    """g(z) = output(network(z)), a multilayer perceptron; without hidden layers an affine map.

    Args:
        shape: shape of one event.
        latent_dim: number of latents.
        width: units of each hidden layer.
        depth: number of hidden layers; 0 is g(z) = A z + b.
        activation: silu, softplus, tanh, gelu, elu, relu or leaky_relu.
        output: linear, or tanh for events in [-1, 1].

    Raises:
        ValueError: for a number out of range, an unknown activation or output.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        latent_dim: int = 8,
        width: int = 128,
        depth: int = 3,
        activation: str = "silu",
        output: Literal["linear", "tanh"] = "linear",
    ) -> None:
        super().__init__()
        if latent_dim < 1 or width < 1 or depth < 0:
            raise ValueError(
                "latent_dim and width must be at least 1 and depth at least 0, got "
                f"latent_dim={latent_dim}, width={width} and depth={depth}"
            )
        self.shape = tuple(shape)
        self.latent_dim = latent_dim
        self.is_affine = depth == 0 and output == "linear"
        units = [latent_dim, *[width] * depth]
        layers: list[nn.Module] = []
        for num_in, num_out in zip(units, units[1:], strict=False):
            layers += [nn.Linear(num_in, num_out), activation_layer(activation)]
        self.network = nn.Sequential(
            *layers,
            nn.Linear(units[-1], math.prod(self.shape)),
            nn.Unflatten(1, self.shape),
            output_layer(output),
        )

    def forward(self, z: Float[Tensor, "batch latent_dim"]) -> Float[Tensor, "batch *shape"]:
        """output(network(z))."""
        return self.network(z)

    @torch.no_grad()
    def set_map(self, matrix: Float[Tensor, "features latent_dim"]) -> None:
        """Put A into an affine generator, with b = 0.

        Raises:
            ValueError: with hidden layers or a tanh.
        """
        if not self.is_affine:
            raise ValueError("only a generator with depth=0 and output=linear is one matrix")
        self.network[0].weight.copy_(matrix)
        self.network[0].bias.zero_()

"""What a generator is: a map from standard normal latents to events, and what is known of a latent."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.draws import normal
from ebm_lab.energies import Energy

OUTPUTS = ("linear", "tanh")


class GeneratorNetwork(nn.Module, ABC):
    """A map z -> g(z) from latents z ~ N(0, I) to events.

    Attributes:
        shape: shape of one event, without the batch axis.
        latent_dim: number of latents of one event.
    """

    shape: tuple[int, ...]
    latent_dim: int

    @abstractmethod
    def forward(self, z: Float[Tensor, "batch latent_dim"]) -> Float[Tensor, "batch *shape"]:
        """One event for each latent."""

    def latents(self, num: int, generator: torch.Generator | None) -> Float[Tensor, "num latent_dim"]:
        """z ~ N(0, I); the generator is on the device of the parameters."""
        like = next(self.parameters())
        return normal((num, self.latent_dim), like, generator)


class LatentPosterior(Energy):
    """E(z) = ½ ‖z‖² + ‖x - g(z)‖² / (2σ²): the latents from which x = g(z) + σ ε may have come.

    Args:
        network: g.
        x: one event for each latent.
        noise_scale: σ, in the data's units, positive.
    """

    def __init__(
        self, network: GeneratorNetwork, x: Float[Tensor, "batch *shape"], noise_scale: float
    ) -> None:
        super().__init__()
        self.shape = (network.latent_dim,)
        self.network = network
        self.noise_scale = noise_scale
        self.register_buffer("x", x, persistent=False)

    def forward(self, z: Float[Tensor, "batch latent_dim"]) -> Float[Tensor, " batch"]:
        """½ ‖z‖² + ‖x - g(z)‖² / (2σ²)."""
        residual = (self.x - self.network(z)).flatten(1)
        return 0.5 * (z.square().sum(1) + residual.square().sum(1) / self.noise_scale**2)


def output_layer(output: str) -> nn.Module:
    """The last layer by name: linear, or tanh for events in [-1, 1].

    Raises:
        ValueError: for an unknown name.
    """
    if output not in OUTPUTS:
        raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, got {output!r}")
    return nn.Tanh() if output == "tanh" else nn.Identity()

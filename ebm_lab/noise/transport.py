"""What a noise is that is a map of a standard normal, with the way back."""

import math
from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.draws import normal
from ebm_lab.errors import UserError
from ebm_lab.noise.noise import Noise

LOG_2PI = math.log(2 * math.pi)


class TransportedNoise(Noise):
    """The law of x = T(z), z ~ N(0, I), T a bijection: q(x) = N(T⁻¹(x); 0, I) |det ∂T⁻¹/∂x|.

    What is mixed or moved in z in place of x stays among events that the noise finds likely, whatever their
    scales and edges: waymarks of `objective=telescoping` and the chains of `sampler=latent`.

    A subclass writes `transport` and `latent`.
    """

    @property
    def num_features(self) -> int:
        """Length of z."""
        return math.prod(self.shape)

    @abstractmethod
    def transport(
        self, z: Float[Tensor, "num features"]
    ) -> tuple[Float[Tensor, "num *shape"], Float[Tensor, " num"]]:
        """x = T(z) and log |det ∂x/∂z|, both differentiable in z and in parameters."""

    @abstractmethod
    def latent(
        self, x: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch features"], Float[Tensor, " batch"]]:
        """z = T⁻¹(x) and log |det ∂z/∂x|."""

    @torch.no_grad()
    def sample(self, num: int, generator: torch.Generator | None) -> Float[Tensor, "num *shape"]:
        """Independent draws T(z), without a gradient."""
        like = next(b for b in self.buffers() if b.is_floating_point())
        return self.transport(normal((num, self.num_features), like, generator))[0]

    def log_prob(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """log q(x) of each event in nats."""
        z, log_det = self.latent(x)
        return log_standard(z) + log_det


def log_standard(z: Float[Tensor, "batch features"]) -> Float[Tensor, " batch"]:
    """log N(z; 0, I)."""
    return -(z.square().sum(1) + z.shape[1] * LOG_2PI) / 2


def need_transport(noise: Noise, wanted: str) -> TransportedNoise:
    """The noise, or a UserError where it is no map of a standard normal.

    Args:
        wanted: what works in the normal's coordinates, as the command names it.
    """
    if not isinstance(noise, TransportedNoise):
        raise UserError(
            f"{type(noise).__name__} is not the law of a map of a standard normal, and {wanted} works in the "
            "coordinates of that: choose noise=gaussian, diagonal, standard, copula or flow"
        )
    return noise

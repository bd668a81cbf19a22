"""Networks whose output is the score itself, with no energy behind it."""

import math
from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor
from torch.func import grad

from ebm_lab.energies.energy import Energy, ScoreNetwork
from ebm_lab.energies.images import image_shape
from ebm_lab.energies.mlp import perceptron
from ebm_lab.energies.noise_conditional import NoiseConditioning, check_level, num_features
from ebm_lab.energies.unet import ImageToImage


class ScoreMLP(ScoreNetwork):
    """s(x) = network(x) - ∇E₀(x), a multilayer perceptron with as many outputs as an event has numbers.

    No energy need have this gradient: where its Jacobian is not symmetric, the value of a line integral
    depends on the path. A likelihood comes from the probability flow alone.

    Args:
        shape: shape of one event; it is flattened.
        width: units of each hidden layer.
        depth: number of hidden layers.
        activation: as of `MLP`.
        base: energy E₀ whose score is added; None adds nothing.
        conditioning: makes the score one of x and a noise level, with the score of the noised Gaussian in the
            place of the base's; None leaves it one of x.

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
        dim = math.prod(self.shape)
        self.network = perceptron([dim, *[width] * depth, dim], activation, num_features(conditioning))
        self.base = base
        self.conditioning = conditioning
        self.noise_conditional = conditioning is not None

    def forward(
        self, x: Float[Tensor, "batch *shape"], sigma: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "batch *shape"]:
        """network(x) - ∇E₀(x), or s(x, σ) where it is conditioned."""
        return _network_score(self._field, x, sigma, self.conditioning, self.base)

    def _field(self, x: Tensor, *embedding: Tensor) -> Float[Tensor, "batch *shape"]:
        return self.network(x, *embedding).view_as(x)


class ScoreUNet(ScoreNetwork):
    """s(x) = network(x) - ∇E₀(x) of a U-Net from images to images, that of `UNet`.

    Args:
        shape: (channels, height, width) of one image.
        channels: channels at each resolution from the finest on; each halves the last, rounding up.
        activation: as of `MLP`.
        base: energy E₀ whose score is added; None adds nothing.
        conditioning: as of `ScoreMLP`.

    Raises:
        ValueError: when `shape` is not an image's, or a number is not positive.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        channels: Sequence[int] = (16, 32, 64),
        activation: str = "silu",
        base: Energy | None = None,
        conditioning: NoiseConditioning | None = None,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        num_in, _, _ = image_shape(self.shape, "score_unet", "energy=score_mlp")
        if not channels or min(channels) < 1:
            raise ValueError(f"channels must be positive, got {list(channels)}")
        self.network = ImageToImage(num_in, channels, activation, num_features(conditioning))
        self.base = base
        self.conditioning = conditioning
        self.noise_conditional = conditioning is not None

    def forward(
        self, x: Float[Tensor, "batch *shape"], sigma: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "batch *shape"]:
        """network(x) - ∇E₀(x), or s(x, σ) where it is conditioned."""
        return _network_score(self.network, x, sigma, self.conditioning, self.base)


def _network_score(
    network: Callable[..., Tensor],
    x: Float[Tensor, "batch *shape"],
    sigma: Float[Tensor, "..."] | None,
    conditioning: NoiseConditioning | None,
    base: Energy | None,
) -> Float[Tensor, "batch *shape"]:
    """What `network_energy` is for energies."""
    check_level(sigma, conditioning)
    if conditioning is not None:
        return conditioning.score(network, x, sigma)
    # by torch.func, so that its transforms may be taken of it again
    return network(x) if base is None else network(x) - grad(lambda y: base(y).sum())(x)

"""A convolutional generator of images of any size."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ebm_lab.energies.activations import activation as activation_layer
from ebm_lab.energies.images import image_shape
from ebm_lab.energies.residual_block import halved
from ebm_lab.generators.generator import GeneratorNetwork, output_layer


class ConvGenerator(GeneratorNetwork):
    """g(z): a linear map to a small image, then nearest-neighbour doublings with a 3×3 convolution each.

    The mirror image of a `ConvNet` energy; doubling by repetition leaves no checkerboard, which transposed
    convolutions do. No normalisation layer, so that no event sees another.

    Args:
        shape: (channels, height, width) of one image.
        latent_dim: number of latents.
        width: channels at the finest resolution, twice as many at each coarser one.
        depth: number of doublings; odd sizes are met exactly, as 4 -> 7 -> 14 -> 28.
        activation: silu, softplus, tanh, gelu, elu, relu or leaky_relu.
        output: linear, or tanh for images in [-1, 1].

    Raises:
        ValueError: when `shape` is not an image's, a number is out of range, or a name unknown.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        latent_dim: int = 64,
        width: int = 32,
        depth: int = 2,
        activation: str = "silu",
        output: Literal["linear", "tanh"] = "tanh",
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        num_image, height, width_of_image = image_shape(self.shape, "ConvGenerator", "MLPGenerator")
        if min(latent_dim, width, depth) < 1:
            raise ValueError(
                f"latent_dim, width and depth must be at least 1, got {latent_dim}, {width} and {depth}"
            )
        self.latent_dim = latent_dim
        self.sizes = [
            (halved(height, times), halved(width_of_image, times)) for times in range(depth - 1, -1, -1)
        ]
        channels = [width * 2**times for times in range(depth, -1, -1)]
        coarsest = (channels[0], halved(height, depth), halved(width_of_image, depth))
        self.first = nn.Sequential(
            nn.Linear(latent_dim, coarsest[0] * coarsest[1] * coarsest[2]), nn.Unflatten(1, coarsest)
        )
        self.doublings = nn.ModuleList(
            nn.Sequential(activation_layer(activation), nn.Conv2d(num_in, num_out, 3, padding=1))
            for num_in, num_out in zip(channels, channels[1:], strict=False)
        )
        self.last = nn.Sequential(
            activation_layer(activation), nn.Conv2d(width, num_image, 3, padding=1), output_layer(output)
        )

    def forward(self, z: Float[Tensor, "batch latent_dim"]) -> Float[Tensor, "batch channels height width"]:
        """An image for each latent."""
        h = self.first(z)
        for size, doubling in zip(self.sizes, self.doublings, strict=True):
            h = doubling(interpolate(h, size=size))
        return self.last(h)

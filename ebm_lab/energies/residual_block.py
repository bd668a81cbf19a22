"""The residual block of the image networks, and its resolution after halving."""

from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.energies.activations import activation as activation_layer
from ebm_lab.energies.noise_conditional import Embedded, modulation


class ResidualBlock(nn.Module):
    """h -> S h + W₂ a(W₁ a(h)): two 3×3 convolutions beside a shortcut, activations first, no normalisation.

    S is the identity, or a 1×1 convolution where channels or resolution change. Without a batch norm no event
    sees another, and torch's own initialisation (variance 1/(3 fan-in)) keeps the branch small beside the
    shortcut, so that deep stacks start with activations of the size of the input's.

    Args:
        num_in: channels of h.
        num_out: channels of the result.
        activation: name of a, as `activations.activation` takes it.
        stride: of the first convolution and of the shortcut; 2 halves the resolution, rounding up.
        num_features: size of an embedding that scales and shifts the channels of what W₁ gives; 0 for none.

    Reference: He, Zhang, Ren & Sun 2016, Identity Mappings in Deep Residual Networks, arXiv 1603.05027,
    fig. 4e, here without batch norms.
    """

    takes_embedding = True

    def __init__(
        self, num_in: int, num_out: int, *, activation: str, stride: int = 1, num_features: int = 0
    ) -> None:
        super().__init__()
        self.branch = Embedded(
            activation_layer(activation),
            nn.Conv2d(num_in, num_out, 3, stride, padding=1),
            *modulation(num_features, num_out),
            activation_layer(activation),
            nn.Conv2d(num_out, num_out, 3, padding=1),
        )
        same = num_in == num_out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(num_in, num_out, 1, stride, bias=False)

    def forward(
        self, h: Float[Tensor, "batch num_in height width"], embedding: Tensor | None = None
    ) -> Float[Tensor, "batch num_out out_height out_width"]:
        """S h + W₂ a(W₁ a(h))."""
        return self.shortcut(h) + self.branch(h, embedding)


def halved(size: int, times: int) -> int:
    """Pixels of an axis that was halved so many times, each time rounded up."""
    return -(-size // 2**times)

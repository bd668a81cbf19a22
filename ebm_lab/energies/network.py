"""What the energies share whose network ends in a linear map to one number."""

from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.energies.composition import plus_base
from ebm_lab.energies.energy import Energy


class NetworkEnergy(Energy):
    """E(x) = network(x) + E₀(x) of a network whose last layer maps its features linearly to one number.

    A subclass sets `shape`, `network` and `base`. A classifier takes the features and leaves the last map:
    see `classifier.as_classifier`.
    """

    network: nn.Sequential
    base: Energy | None

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """network(x) + E₀(x)."""
        return plus_base(self.network(x).squeeze(1), self.base, x)

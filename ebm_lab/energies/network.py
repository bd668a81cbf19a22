"""What the energies share whose network ends in a linear map to one number."""

from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies.energy import Energy
from ebm_lab.energies.noise_conditional import Embedded, NoiseConditioning, network_energy


class NetworkEnergy(Energy):
    """E(x) = network(x) + E₀(x) of a network whose last layer maps its features linearly to one number.

    A subclass sets `shape`, `network`, `base` and `conditioning`; with the last the energy is E(x, σ). A
    classifier takes the features and leaves the last map: see `classifier.as_classifier`.
    """

    network: Embedded
    base: Energy | None
    conditioning: NoiseConditioning | None

    @property
    def noise_conditional(self) -> bool:
        """Whether the energy is one of x and a noise level."""
        return self.conditioning is not None

    def forward(
        self, x: Float[Tensor, "batch *shape"], sigma: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, " batch"]:
        """network(x) + E₀(x), or E(x, σ) where it is conditioned."""
        return network_energy(self._scalar, x, sigma, self.conditioning, self.base)

    def _scalar(self, *inputs: Tensor) -> Float[Tensor, " batch"]:
        return self.network(*inputs).squeeze(1)

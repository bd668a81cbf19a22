"""An energy seen in the coordinates in which a noise is a standard normal."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.energies.energy import Energy


class LatentEnergy(Energy):
    """E_z(z) = E(T(z)) - log |det ∂T/∂z|: the law exp(-E) of x = T(z), as one of z, with the same log Z.

    Where E = -log q of the noise, the law of T(z) for z ~ N(0, I), it is the standard normal's energy.

    Where ‖T(z)‖² leaves the floats, as a flow far from its data may, E_z = +inf: a place that chains do not
    enter, and where no E could be computed. A NaN of E elsewhere stays one.

    Args:
        energy: x -> E(x).
        noise: T, by its `transport` (a `TransportedNoise`).

    Reference: Hoffman et al. 2019, NeuTra-lizing bad geometry in Hamiltonian Monte Carlo, arXiv 1903.03704,
        eq. 3; Parno & Marzouk 2018, Transport map accelerated MCMC, arXiv 1412.5492.
    """

    def __init__(self, energy: Callable[[Tensor], Float[Tensor, " batch"]], noise: nn.Module) -> None:
        super().__init__()
        self.energy = energy
        self.noise = noise
        self.shape = (noise.num_features,)

    def forward(self, z: Float[Tensor, "batch features"]) -> Float[Tensor, " batch"]:
        """E(T(z)) - log |det ∂T/∂z|."""
        x, log_det = self.noise.transport(z)
        reached = x.flatten(1).square().sum(1).isfinite() & log_det.isfinite()
        x = torch.where(reached.view(-1, *[1] * (x.dim() - 1)), x, 0.0)
        return torch.where(reached, self.energy(x) - log_det, torch.inf)

"""A quadratic energy at each level of noise: the closed form behind the checks of methods with a ladder."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.energies.energy import Energy
from ebm_lab.energies.noise_levels import NoiseLadder, need_level
from ebm_lab.energies.quadratic import Quadratic


class QuadraticLadder(Energy):
    """E(x, σ_k) = ½ (x - μ_k)ᵀ P_k (x - μ_k): a Gaussian at each level, each with parameters of its own.

    A σ between two levels is read as the nearer one, on a log scale.

    Args:
        shape: shape of one event; it is flattened.
        sigmas: the levels, as `NoiseLadder` takes them.
    """

    noise_conditional = True

    def __init__(self, shape: tuple[int, ...], *, sigmas: Sequence[float]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        ladder = NoiseLadder(sigmas)
        self.register_buffer("log_sigmas", torch.tensor(ladder.sigmas).log(), persistent=False)
        self.levels = nn.ModuleList(Quadratic(self.shape) for _ in ladder.sigmas)

    def forward(
        self, x: Float[Tensor, "batch *shape"], sigma: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, " batch"]:
        """E(x, σ), with one level for all events or one for each."""
        need_level(sigma)
        log_sigma = torch.as_tensor(sigma).to(self.log_sigmas).log().expand(len(x))
        nearest = (log_sigma[:, None] - self.log_sigmas).abs().argmin(1)
        energies = torch.stack([level(x) for level in self.levels], 1)
        return energies.gather(1, nearest[:, None]).squeeze(1)

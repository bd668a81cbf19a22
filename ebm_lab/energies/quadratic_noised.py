"""The energy of a Gaussian at every level of noise: a closed form for methods of continuous noise levels."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.energies.energy import Energy
from ebm_lab.energies.noise_levels import need_level


class NoisedQuadratic(Energy):
    """E(x, σ) = -log N(x; 0, S + σ²I) + b log σ, S = L Lᵀ: normalised at every level where b = 0.

    L is lower triangular with the exponential of a free parameter on its diagonal. Starts at S = I.

    Args:
        shape: shape of one event; it is flattened into d numbers.
        tilt: b at the start.

    Cost: a Cholesky factor, d³/3, for each event.
    """

    noise_conditional = True

    def __init__(self, shape: tuple[int, ...], *, tilt: float = 0.0) -> None:
        super().__init__()
        self.shape = tuple(shape)
        dim = math.prod(self.shape)
        self.log_diagonal = nn.Parameter(torch.zeros(dim))
        self.below_diagonal = nn.Parameter(torch.zeros(dim, dim))
        self.tilt = nn.Parameter(torch.tensor(float(tilt)))

    @property
    def covariance(self) -> Float[Tensor, "dim dim"]:
        """S = L Lᵀ."""
        factor = torch.tril(self.below_diagonal, -1) + torch.diag(self.log_diagonal.exp())
        return factor @ factor.T

    @torch.no_grad()
    def set_covariance(self, covariance: Float[Tensor, "dim dim"]) -> None:
        """Put a positive definite S into the parameters, and b = 0."""
        factor = torch.linalg.cholesky(covariance)
        self.log_diagonal.copy_(factor.diagonal().log())
        self.below_diagonal.copy_(torch.tril(factor, -1))
        self.tilt.zero_()

    def forward(
        self, x: Float[Tensor, "batch *shape"], sigma: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, " batch"]:
        """E(x, σ), with one level for all events or one for each."""
        need_level(sigma)
        sigma = torch.as_tensor(sigma).to(x).reshape(-1)
        noise = sigma.square()[:, None, None] * torch.eye(len(self.log_diagonal)).to(x)
        factor = torch.linalg.cholesky(self.covariance + noise)
        white = torch.linalg.solve_triangular(factor, x.flatten(1)[..., None], upper=False).squeeze(-1)
        log_scale = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = 0.5 * len(self.log_diagonal) * math.log(2 * math.pi)
        return 0.5 * white.square().sum(1) + log_scale + constant + self.tilt * sigma.log()

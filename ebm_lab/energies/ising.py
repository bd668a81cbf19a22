"""Pairwise energies of spins: couplings that are learned, the lattice, and their kin with more classes."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.domains import BINARY, CATEGORICAL
from ebm_lab.energies.energy import Energy


class Ising(Energy):
    """E(x) = -sᵀJs - hᵀs of the spins s = 2x - 1, with J symmetric and zero on its diagonal.

    Both triangles of J count: an edge (i, j) contributes 2 J_ij s_i s_j to log p = sᵀJs + hᵀs - log Z, twice
    the coupling of a Hamiltonian that sums over edges. Events are {0, 1}; spins exist in here only. J and h
    start at 0.

    Args:
        shape: shape of one event; it is flattened into sites.
        field: whether h is learned; without it h = 0, and p is the same when all spins are flipped.

    Raises:
        ValueError: for fewer than two sites.
    Cost: sites² operations an event.
    Reference: Ackley, Hinton & Sejnowski, A learning algorithm for Boltzmann machines, 1985 (there without
        the factor 2 of an edge).
    """

    domains = BINARY

    def __init__(self, shape: tuple[int, ...], *, field: bool = False) -> None:
        super().__init__()
        self.shape = tuple(shape)
        num_sites = math.prod(self.shape)
        if num_sites < 2:
            raise ValueError(f"couplings need at least 2 sites, got shape {list(self.shape)}")
        self.pairs = nn.Parameter(torch.zeros(num_sites * (num_sites - 1) // 2))  # J_ij, i < j, row by row
        self.field = nn.Parameter(torch.zeros(num_sites)) if field else None

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """-sᵀJs - hᵀs."""
        s = 2 * x.flatten(1) - 1
        energies = -((s @ self.couplings) * s).sum(1)
        return energies if self.field is None else energies - s @ self.field

    @property
    def couplings(self) -> Float[Tensor, "sites sites"]:
        """J."""
        num_sites = math.prod(self.shape)
        upper = self.pairs.new_zeros(num_sites, num_sites)
        upper = upper.masked_scatter(_above_diagonal(num_sites, self.pairs.device), self.pairs)
        return upper + upper.T

    @torch.no_grad()
    def set_couplings(self, couplings: Float[Tensor, "sites sites"]) -> None:
        """Put a symmetric J with a zero diagonal into the parameters."""
        if not torch.equal(couplings, couplings.T) or couplings.diagonal().any():
            raise ValueError("couplings must be a symmetric matrix with a zero diagonal")
        self.pairs.copy_(couplings[_above_diagonal(len(couplings), couplings.device)])


class Potts(Energy):
    """E(x) = -xᵀJx - hᵀx of one-hot x, with J symmetric and zero within a site: couplings of classes.

    log p = Σ_{i≠j} J_ij[c_i, c_j] + Σ_i h_i[c_i] - log Z with the class c_i of site i: as in `Ising`, both
    triangles count. J and h start at 0. What a function of one site's class adds to J and takes from h
    changes nothing.

    Args:
        shape: (*sites, classes).

    Raises:
        ValueError: for fewer than two sites or two classes.
    Reference: Wu, The Potts model, Rev. Mod. Phys. 1982; with couplings of all pairs of classes, as in
        Weigt et al., PNAS 2009.
    """

    domains = CATEGORICAL

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.num_sites, self.num_classes = math.prod(self.shape[:-1]), self.shape[-1]
        if len(self.shape) < 2 or self.num_sites < 2 or self.num_classes < 2:
            raise ValueError(
                f"shape must be [*sites, classes] with at least 2 of both, got {list(self.shape)}"
            )
        num_pairs = self.num_sites * (self.num_sites - 1) // 2
        self.pairs = nn.Parameter(torch.zeros(num_pairs, self.num_classes, self.num_classes))
        self.field = nn.Parameter(torch.zeros(self.num_sites, self.num_classes))

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """-xᵀJx - hᵀx."""
        flat = x.flatten(1)
        return -((flat @ self.couplings) * flat).sum(1) - flat @ self.field.flatten()

    @property
    def couplings(self) -> Float[Tensor, "features features"]:
        """J, features in the order of the flattened one-hot event."""
        n, c = self.num_sites, self.num_classes
        upper = self.pairs.new_zeros(n, n, c, c)
        mask = _above_diagonal(n, self.pairs.device)[:, :, None, None].expand_as(upper)
        upper = upper.masked_scatter(mask, self.pairs).transpose(1, 2).reshape(n * c, n * c)
        return upper + upper.T


def lattice(side: int, periodic: bool = True) -> Float[Tensor, "sites sites"]:
    """Adjacency matrix A of the square lattice with side² sites, row by row; A_ij = 1 for neighbours.

    Raises:
        ValueError: for a side below 2, or below 3 where it is periodic: two sites would be neighbours twice.
    """
    if side < (3 if periodic else 2):
        raise ValueError(f"side must be at least {3 if periodic else 2}, got {side}")
    step = torch.diag(torch.ones(side - 1, dtype=torch.float64), 1)
    if periodic:
        step[-1, 0] = 1
    ring, identity = step + step.T, torch.eye(side, dtype=torch.float64)
    return torch.kron(ring, identity) + torch.kron(identity, ring)


def _above_diagonal(num: int, device: torch.device) -> Tensor:
    return torch.ones(num, num, dtype=torch.bool, device=device).triu(1)

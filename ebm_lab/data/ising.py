"""Spins with known couplings: a random Boltzmann machine by enumeration, the lattice by transfer matrices."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data.checks import check_integer, check_positive
from ebm_lab.data.density_data import DensityData
from ebm_lab.data.mass_function import MassFunction
from ebm_lab.data.seeding import seeded_generator
from ebm_lab.energies.ising import Ising, lattice
from ebm_lab.energies.states import binary_states, enumerated

LARGEST_ENUMERATED = 20  # sites
LARGEST_SIDE = 11  # of a lattice: its transfer matrix has 2^side rows


class Exact(Protocol):
    """How log Z, entropy and draws of a law of spins are come by."""

    log_z: float
    entropy: float

    def sample(self, num: int, generator: torch.Generator) -> Float[Tensor, "num sites"]:
        """Independent draws in float64, {0, 1}, on the CPU or the generator's device."""


class IsingLaw(MassFunction):
    """log p(x) = sᵀJs + hᵀs - log Z with s = 2x - 1 in {-1, 1}: the law of the energy `Ising`.

    Args:
        couplings: J, symmetric with a zero diagonal; both triangles count an edge.
        field: h.
        shape: shape of one event.
        exact: log Z, entropy and draws.
    """

    def __init__(
        self,
        couplings: Float[Tensor, "sites sites"],
        field: Float[Tensor, " sites"],
        shape: Sequence[int],
        exact: Exact,
    ) -> None:
        self.couplings, self.field = couplings, field
        self.shape = tuple(shape)
        self.exact = exact

    def sample(
        self, num: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "num *shape"]:
        """Independent draws, no Markov chain."""
        return self.exact.sample(num, generator).to(generator.device, dtype).view(num, *self.shape)

    def log_prob(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """sᵀJs + hᵀs - log Z."""
        return _log_weight(x.flatten(1), self.couplings.to(x), self.field.to(x)) - self.exact.log_z

    def entropy(self) -> float:
        """-E log p(x)."""
        return self.exact.entropy

    def measurements(self, model: Any) -> dict[str, tuple[float, float | None, str, str]]:
        """-log of the root mean square error of J over all sites² entries, where the model has couplings."""
        if not isinstance(model, Ising):
            return {}
        error = model.couplings.detach().cpu().double() - self.couplings
        note = "-log of the r.m.s. error of the couplings over all entries of J, the zero diagonal too"
        return {"neg_log_rmse": (-math.log(error.square().mean().sqrt()), None, "", note)}


def random_boltzmann(dim: int, scale: float = 0.2, seed: int = 0) -> IsingLaw:
    """A fully visible Boltzmann machine: J_ij (i < j) and h_i are independent N(0, scale²).

    Args:
        dim: number of sites, 2 to 20.
        scale: standard deviation of couplings and fields, positive.
        seed: of both, at least 0; another seed is another law.

    Raises:
        ValueError: a number outside of its range.
    """
    check_positive("scale", scale)
    check_integer("seed", seed, at_least=0)
    if check_integer("dim", dim, at_least=2) > LARGEST_ENUMERATED:
        raise ValueError(
            f"dim must be at most {LARGEST_ENUMERATED}, as all 2^dim states are listed, got {dim}"
        )
    draws = scale * torch.randn(dim, dim + 1, generator=seeded_generator(seed), dtype=torch.float64)
    upper, field = draws[:, :dim].triu(1), draws[:, dim]
    couplings = upper + upper.T
    return IsingLaw(couplings, field, (dim,), Enumeration(couplings, field))


def ising_lattice(side: int = 10, sigma: float = 0.2) -> IsingLaw:
    """The periodic square lattice with side² sites, J = σ A: the coupling of an edge counts twice, 2σ s s'.

    Without a field. At 2σ = ½ log(1 + √2), σ = .2203, the infinite lattice orders.

    Args:
        side: 3 to 11.
        sigma: σ; negative for antiferromagnets.

    Raises:
        ValueError: a number outside of its range.
    """
    if check_integer("side", side, at_least=3) > LARGEST_SIDE:
        raise ValueError(
            f"side must be at most {LARGEST_SIDE}: the transfer matrix has 2^side rows, got {side}"
        )
    if isinstance(sigma, bool | str) or not math.isfinite(sigma):
        raise ValueError(f"sigma must be a finite number, got {sigma!r}")
    field = torch.zeros(side**2, dtype=torch.float64)
    return IsingLaw(sigma * lattice(side), field, (1, side, side), TransferMatrix(side, 2 * sigma))


def lattice_data(
    *,
    shape: Sequence[int],
    order_seed: int,
    side: int = 10,
    sigma: float = 0.2,
    num_train: int = 2000,
    num_val: int = 500,
    num_test: int = 2000,
    batch_size: int = 100,
    seed: int = 0,
) -> DensityData:
    """Draws from `ising_lattice`; what is not said there is said of `DensityData`."""
    return DensityData(
        density=ising_lattice(side, sigma),
        shape=shape,
        order_seed=order_seed,
        num_train=num_train,
        num_val=num_val,
        num_test=num_test,
        batch_size=batch_size,
        seed=seed,
    )


class Enumeration:
    """All 2^sites states in a list.

    Args:
        couplings, field: J and h.
    """

    def __init__(self, couplings: Float[Tensor, "sites sites"], field: Float[Tensor, " sites"]) -> None:
        self.num_sites = len(field)
        weights = enumerated(lambda x: _log_weight(x, couplings, field), (self.num_sites,), "binary")
        self.log_z = float(weights.logsumexp(0))
        self.log_p = weights - self.log_z
        self.entropy = -float((self.log_p.exp() * self.log_p).sum())

    def sample(self, num: int, generator: torch.Generator) -> Float[Tensor, "num sites"]:
        """States by their probabilities."""
        p = self.log_p.exp().to(generator.device)
        return binary_states(self.num_sites, torch.multinomial(p, num, replacement=True, generator=generator))


@dataclass(frozen=True)
class TransferMatrix:
    """Rows of a periodic square lattice one after another: log p = K Σ_edges s s' - log Z.

        T(r, r') = exp(½ K Σ_i r_i r_{i+1} + K Σ_i r_i r'_i + ½ K Σ_i r'_i r'_{i+1}),  Z = tr T^side

    The first row has p(r) = T^side(r, r) / Z; each next one, given the first and the one before, has weights
    T(r_{k-1}, r) T^{side-k}(r, r_0). So draws are independent and exact.

    Args:
        side: rows, and sites of a row.
        coupling: K.

    Cost: side products of 2^side × 2^side matrices, once: seconds at side 10.
    Reference: Kramers & Wannier 1941, Statistics of the two-dimensional ferromagnet, Phys. Rev. 60.
    """

    side: int
    coupling: float

    @cached_property
    def _rows(self) -> Float[Tensor, "rows side"]:
        return 2 * binary_states(self.side) - 1

    @cached_property
    def _log_transfer(self) -> Float[Tensor, "rows rows"]:
        within = self.coupling * (self._rows * self._rows.roll(1, 1)).sum(1)
        return within[:, None] / 2 + self.coupling * self._rows @ self._rows.T + within / 2

    @cached_property
    def _powers(self) -> tuple[list[Float[Tensor, "rows rows"]], list[float]]:
        """T^k / its largest entry for k = 0, 1, ..., side, and the logs of what was divided by."""
        largest = float(self._log_transfer.max())
        once = (self._log_transfer - largest).exp()
        powers, logs = [torch.eye(len(once), dtype=torch.float64), once], [0.0, largest]
        while len(powers) <= self.side:
            product = powers[-1] @ once
            logs.append(logs[-1] + largest + math.log(product.max()))
            powers.append(product / product.max())
        return powers, logs

    @property
    def log_z(self) -> float:
        """log tr T^side."""
        powers, logs = self._powers
        return math.log(powers[-1].trace()) + logs[-1]

    @cached_property
    def entropy(self) -> float:
        """log Z - side · E log T(r, r') over two neighbouring rows."""
        powers, _ = self._powers
        p = powers[1] * powers[self.side - 1].T
        return self.log_z - self.side * float((p / p.sum() * self._log_transfer).sum())

    def sample(self, num: int, generator: torch.Generator) -> Float[Tensor, "num sites"]:
        """Row after row."""
        powers, _ = self._powers

        def draw(weights: Tensor) -> Tensor:
            return torch.multinomial(weights.to(generator.device), 1, generator=generator).squeeze(1).cpu()

        first = draw(powers[self.side].diagonal().expand(num, -1))
        rows = [first]
        for k in range(1, self.side):
            rows.append(draw(powers[1][rows[-1]] * powers[self.side - k][first]))
        return (self._rows[torch.stack(rows, 1)].flatten(1) + 1) / 2


def _log_weight(
    x: Float[Tensor, "batch sites"], couplings: Float[Tensor, "sites sites"], field: Float[Tensor, " sites"]
) -> Float[Tensor, " batch"]:
    s = 2 * x - 1
    return ((s @ couplings) * s).sum(1) + s @ field

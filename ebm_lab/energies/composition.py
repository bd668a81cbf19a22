"""Energies made of energies: sums, mixtures, temperatures, and densities read as energies."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.energies.energy import Energy


def plus_base(
    energies: Float[Tensor, " batch"], base: Energy | None, x: Float[Tensor, "batch *shape"]
) -> Float[Tensor, " batch"]:
    """A network's energies plus E₀(x), or as they are where there is no base."""
    return energies if base is None else energies + base(x)


class GaussianBase(Energy):
    """E₀(x) = ½ ‖x‖² / scale²: a base term that makes Z exist on R^d under a network with bounded growth.

    Args:
        shape: shape of one event.
        scale: standard deviation of the base, in the data's units, positive.
    """

    def __init__(self, shape: tuple[int, ...], *, scale: float) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.shape = tuple(shape)
        self.scale = scale

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """½ ‖x‖² / scale²."""
        return 0.5 * x.flatten(1).square().sum(1) / self.scale**2

    def laplacian(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """ΔE₀ = d / scale², the same everywhere."""
        return x.new_full(x.shape[:1], x[0].numel() / self.scale**2)


class DensityEnergy(Energy):
    """E(x) = -log p(x) of a normalised density, so that log Z = 0.

    As a base term it is fitted to the data, where the density can be, before the first step.

    Args:
        density: a module with `shape` and `log_prob`, such as any `ebm_lab.noise`.
    """

    def __init__(self, density: nn.Module) -> None:
        super().__init__()
        self.density = density
        self.shape = density.shape
        self.twice_differentiable = getattr(density, "twice_differentiable", True)

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """-log p(x)."""
        return -self.density.log_prob(x)


class Sum(Energy):
    """E(x) = Σ_k w_k E_k(x): the product of experts Π_k p_k^{w_k}.

    Args:
        energies: the terms E_k, all of one event shape.
        weights: w_k; all 1 by default.
    """

    def __init__(self, energies: Sequence[Energy], *, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.energies = nn.ModuleList(energies)
        self.weights = tuple(weights) if weights is not None else (1.0,) * len(self.energies)
        if not energies or len(self.weights) != len(energies):
            raise ValueError(
                f"a sum needs one weight a term, got {len(self.weights)} for {len(energies)} terms"
            )
        self.shape = energies[0].shape
        self.twice_differentiable = all(e.twice_differentiable for e in energies)
        self.domains = frozenset.intersection(*(e.domains for e in energies))

    def forward(self, x: Float[Tensor, "batch *shape"], **condition: Tensor) -> Float[Tensor, " batch"]:
        """Σ_k w_k E_k(x)."""
        return sum(w * energy(x, **condition) for w, energy in zip(self.weights, self.energies, strict=True))


class Mixture(Energy):
    """E(x) = -log Σ_k w_k exp(-E_k(x)): a mixture of the unnormalised densities.

    Args:
        energies: the terms E_k, all of one event shape.
        weights: w_k > 0; all 1 by default.
    """

    def __init__(self, energies: Sequence[Energy], *, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.energies = nn.ModuleList(energies)
        weights = tuple(weights) if weights is not None else (1.0,) * len(self.energies)
        if not energies or len(weights) != len(energies) or min(weights) <= 0:
            raise ValueError(f"a mixture needs one positive weight a term, got {weights}")
        self.register_buffer("log_weights", torch.tensor(weights).log())
        self.shape = energies[0].shape
        self.twice_differentiable = all(e.twice_differentiable for e in energies)
        self.domains = frozenset.intersection(*(e.domains for e in energies))

    def forward(self, x: Float[Tensor, "batch *shape"], **condition: Tensor) -> Float[Tensor, " batch"]:
        """-log Σ_k w_k exp(-E_k(x))."""
        terms = torch.stack(
            [
                log_w - energy(x, **condition)
                for log_w, energy in zip(self.log_weights, self.energies, strict=True)
            ]
        )
        return -torch.logsumexp(terms, 0)


class Tempered(Energy):
    """E(x) / T: what a sampler at temperature T draws from, read as an energy at T = 1.

    Args:
        energy: the energy E.
        temperature: T > 0.
    """

    def __init__(self, energy: Energy, temperature: float) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.energy = energy
        self.temperature = temperature
        self.shape = energy.shape
        self.twice_differentiable = energy.twice_differentiable
        self.domains = energy.domains

    def forward(self, x: Float[Tensor, "batch *shape"], **condition: Tensor) -> Float[Tensor, " batch"]:
        """E(x) / T."""
        return self.energy(x, **condition) / self.temperature

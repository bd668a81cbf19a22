"""Exact numbers of energies on discrete events, and one that needs no log Z."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies import Energy, enumerated, frozen, num_states
from ebm_lab.evaluation.measurement import mean_and_error
from ebm_lab.samplers.moves import moves_of

MAX_TERMS = 2**20  # of a sum that an evaluation takes without being asked: some seconds


@runtime_checkable
class Summable(Protocol):
    """An energy that knows a shorter sum for log Z than the one over all events."""

    num_terms: int

    def log_partition(self) -> Tensor:
        """log Z."""


def is_summable(energy: Energy, domain: str) -> bool:
    """Whether log Z is a sum of at most 2^20 terms: over all events, or a shorter one of the energy."""
    terms = energy.num_terms if isinstance(energy, Summable) else num_states(energy.shape, domain)
    return terms <= MAX_TERMS


def exact_log_partition(
    energy: Energy, domain: str, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> float | None:
    """log Z = log Σ_x exp(-E(x)) by a sum over all events, or a shorter one that the energy knows.

    None where both have more than 2^20 terms.
    """
    if not is_summable(energy, domain):
        return None
    if isinstance(energy, Summable):
        return float(energy.log_partition())
    with frozen(energy):
        return float((-enumerated(energy, energy.shape, domain, dtype, device)).logsumexp(0))


def enumerated_kl(log_p: Float[Tensor, " states"], log_q: Float[Tensor, " states"]) -> float:
    """KL(p‖q) = Σ p (log p - log q) in nats, of laws that are normalised on all events."""
    return float((log_p.exp() * (log_p - log_q)).sum())


def negative_log_pseudolikelihood(
    energy: Energy,
    x: Float[Tensor, "batch *shape"],
    domain: str,
    num_sites: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[float, float]:
    """-Σ_i log p(x_i | all others), mean over events, and its standard error; Z cancels.

        -log p(x_i | others) = log (1 + Σ_c exp(E(x) - E(x with class c at site i))),  c other than x_i

    In expectation it is smallest at the truth, so that it compares models on held-out data; it is no bound on
    the likelihood, and says little about what many sites do together.

    Args:
        num_sites: as many sites are drawn (without replacement, the same for all events) where there are
            more, and the sum is scaled up; None takes all.
        generator: draws them.

    Cost: one energy per event, and one per site (categorical: and class) and event.
    Reference: Besag 1975, Statistical analysis of non-lattice data, The Statistician 24.
    """
    moves = moves_of(domain)
    total = moves.num_sites(x)
    sites = torch.arange(total, device=x.device)
    if num_sites is not None and num_sites < total:
        sites = torch.randperm(total, generator=generator, device=x.device)[:num_sites]
    with torch.no_grad(), frozen(energy):
        energies = energy(x).double()
        terms = sum(_conditional(energy, moves.alternatives(x, int(site)), energies) for site in sites)
    return mean_and_error(terms * (total / len(sites)))


def _conditional(
    energy: Callable[[Tensor], Tensor],
    alternatives: Float[Tensor, "others batch *shape"],
    energies: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """One term of the sum."""
    of_others = energy(alternatives.flatten(0, 1)).double().view(len(alternatives), -1)
    return torch.cat([torch.zeros_like(energies)[None], energies - of_others]).logsumexp(0)

"""Ratio matching: score matching's counterpart on binary data."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ebm_lab.data import Batch
from ebm_lab.domains import BINARY
from ebm_lab.energies import Energy
from ebm_lab.objectives.flips import flip_loss
from ebm_lab.objectives.known_truth import IsingTruth
from ebm_lab.objectives.objective import Objective, Parts


def ratio_matching_loss(
    energy: Energy, x: Float[Tensor, "batch *shape"], sites: Int[Tensor, "batch flips"] | None = None
) -> Float[Tensor, ""]:
    """mean Σ_i σ(E(x) - E(x^(i)))², x^(i) the event with site i flipped.

    Args:
        sites: which to flip, for each event its own; None flips each of all.

    Cost: one forward on 1 + flips batches, and its parameter gradient.
    Reference: Hyvärinen 2007, Some extensions of score matching, CSDA 51.
    """
    return flip_loss(energy, x, lambda difference: difference.sigmoid().square(), sites)


class RatioMatching(Objective):
    """RM: the ratios p(x) / p(x^(i)) of events that differ in one site, matched through g(u) = 1 / (1 + u).

    J = E Σ_i g(p(x) / p(x^(i)))² = E Σ_i σ(E(x) - E(x^(i)))²: no log Z, no chain. It is bounded, so that no
    event has much weight: one bit with P(1) = m leaves m (1 - m) at the optimum.

    Args:
        num_flips: sites of each event that are flipped in a step, drawn evenly with replacement and scaled
            up; null flips all.

    Raises:
        ValueError: for no flip.
    Cost: 3 (1 + flips) forwards.
    Notes: 1. A sum over sites, which differs from a mean by the factor d. 2. Where flips of data are
        far less likely than the data, as in binary images, most terms vanish and gradients are small.
    Reference: Hyvärinen 2007, Some extensions of score matching, Computational Statistics & Data Analysis 51;
        drawn flips after Liu et al. 2023, Gradient-guided importance sampling for learning binary
        energy-based models, arXiv 2210.05782 (there drawn by the gradient).
    """

    domains = BINARY
    truth = IsingTruth
    has_held_out_loss = True
    monitor = "val/loss"

    def __init__(self, parts: Parts, *, num_flips: int | None = None) -> None:
        super().__init__(parts)
        if num_flips is not None and num_flips < 1:
            raise ValueError(f"num_flips must be at least 1, or null for all, got {num_flips}")
        self.num_flips = num_flips

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss of all flips, or of some."""
        return ratio_matching_loss(self.energy, batch.x, self._sites(batch.x))

    def _sites(self, x: Float[Tensor, "batch *shape"]) -> Int[Tensor, "batch flips"] | None:
        size = x[0].numel()
        if self.num_flips is None or self.num_flips >= size:
            return None
        return torch.randint(0, size, (len(x), self.num_flips), generator=self.generator, device=x.device)

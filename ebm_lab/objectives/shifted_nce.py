"""Noise contrast of the data against the data shifted, whose limit of small shifts is score matching."""

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data import Batch
from ebm_lab.draws import signs_like
from ebm_lab.energies import Energy
from ebm_lab.objectives.conditional_nce import conditional_loss
from ebm_lab.objectives.objective import Objective, Parts


def shifted_loss(
    energy: Energy, x: Float[Tensor, "batch *shape"], shift: Float[Tensor, "batch *shape"]
) -> Float[Tensor, ""]:
    """mean softplus(E(x) - E(x - v)) + softplus(E(x) - E(x + v)): both signs of the shift, one for each.

    Over shifts v of both signs it is 2 log 2 + ½ [vᵀ(∇s)v + ½(vᵀs)²] up to O(|v|⁴), the sliced score
    matching loss. The truth is stationary for every v.

    Reference: Song & Kingma 2021, arXiv 2101.03288, section 5.1; Gutmann & Hirayama 2011, arXiv 1202.3727.
    """
    both = torch.cat([x - shift, x + shift])
    return conditional_loss(energy(x).repeat(2), energy(both))


class ShiftedNCE(Objective):
    """Data against data shifted by ±v, v = ε u with Rademacher u: sliced score matching by differences.

    J = E [softplus(E(x) - E(x - v)) + softplus(E(x) - E(x + v))]. The noise is the shifted data, whose
    density is not known; the classifier compares E(x) with E(x ∓ v) only, so that Z cancels. For small ε
    2 (J - 2 log 2)/ε² is `ssm`'s loss without its variance reduction, of first derivatives only.

    Args:
        scale: ε, length of the shift in each coordinate, in the data's units.
        sigma: standard deviation of Gaussian noise added to the data; 0 adds none.

    Raises:
        ValueError: a number out of its range.
    Cost: one parameter gradient on three batches, whatever the dimension.
    Notes: 1. The shift is random for each event; the tutorial's is one v, which tells directions along it
        only. 2. It is `conditional_nce` with the perturbation ±v, each sign once. 3. In float32 an ε far
        below 1e-3 of the data's width loses the difference of energies to rounding. 4. With a large ε a
        shifted event is told at sight: in d dimensions of width s, E(x ∓ v) - E(x) is about dε²/(2s²), so on
        images already where ε is far below s. Loss and gradients vanish then (J near 0, where small shifts
        have 2 log 2), and the shape of E among the data stays unlearned.
    Reference: Song & Kingma 2021, arXiv 2101.03288, section 5.1; Gutmann & Hirayama 2011, arXiv 1202.3727.
    """

    has_held_out_loss = True
    monitor = "val/loss"
    notes = (
        "Shifted NCE sees the weights of modes only where its shift leads from one to the other; in the "
        "limit of small shifts it is score matching, which does not see them.",
    )

    def __init__(self, parts: Parts, *, scale: float = 0.1, sigma: float = 0.0) -> None:
        super().__init__(parts, sigma=sigma)
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.scale = scale

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss along fresh Rademacher directions."""
        x = self.corrupted(batch.x)
        v = signs_like(x, self.generator)
        return shifted_loss(self.energy, x, self.scale * v)

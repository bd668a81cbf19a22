"""How far a score is from the gradient of an energy."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies.derivatives import score_jacobian
from ebm_lab.energies.energy import Energy, ScoreNetwork, frozen
from ebm_lab.evaluation.measurement import mean_and_error


def score_asymmetry(
    model: Energy | ScoreNetwork, x: Float[Tensor, "batch *shape"], chunk_size: int = 256
) -> tuple[float, float]:
    """√(E‖(J - Jᵀ)/2‖² / E‖J‖²) over events, J = ∇s and ‖·‖ Frobenius' norm, and its standard error.

    The share of J that no energy has: as ‖J‖² = ‖(J + Jᵀ)/2‖² + ‖(J - Jᵀ)/2‖², it lies between 0, where s is
    the gradient of an energy around every event, and 1, where s only turns. Of s and of c s it is the same;
    where J vanishes at every event it is 0.

    The error is to first order that of the root of a ratio of means, of ‖(J - Jᵀ)/2‖² - r²‖J‖² over events.

    Args:
        chunk_size: events at a time.

    Cost: as many derivatives of the score an event as it has numbers.
    """
    with frozen(model):
        norms = torch.cat([_squared_norms(model, events) for events in x.split(chunk_size)])
    turning, whole = norms.double().unbind(1)
    if not turning.any():
        return 0.0, 0.0
    ratio = (turning.mean() / whole.mean()).item()
    _, error = mean_and_error(turning - ratio * whole)
    return math.sqrt(ratio), error / whole.mean().item() / (2 * math.sqrt(ratio))


def _squared_norms(
    model: Energy | ScoreNetwork, x: Float[Tensor, "batch *shape"]
) -> Float[Tensor, "batch 2"]:
    """‖(J - Jᵀ)/2‖² and ‖J‖² of each event."""
    jacobian = score_jacobian(model, x)
    turning = (jacobian - jacobian.mT) / 2
    return torch.stack([m.flatten(1).square().sum(1) for m in (turning, jacobian)], 1)

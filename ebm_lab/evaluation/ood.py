"""Whether an energy tells its own kind of data from another: scores, and the area under their ROC curve."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies.energy import Energy, energy_and_gradient, frozen


def auroc(inside: Float[Tensor, " first"], outside: Float[Tensor, " second"]) -> tuple[float, float]:
    """P(s(x) > s(y)) + ½ P(s(x) = s(y)) of scores inside and outside, and DeLong's standard error.

    1 where every score inside is above every score outside, ½ by chance. With the placements
    V(x) = mean_y [s(x) > s(y)] + ½[s(x) = s(y)] and V(y) likewise over x, the variance is
    var V(x) / n + var V(y) / m.

    Raises:
        ValueError: fewer than two scores on a side.
        FloatingPointError: when a score is NaN.
    Reference: DeLong, DeLong & Clarke-Pearson, Comparing the areas under two or more correlated receiver
    operating characteristic curves, Biometrics 1988.
    """
    if min(len(inside), len(outside)) < 2:
        raise ValueError(f"auroc needs at least 2 scores a side, got {len(inside)} and {len(outside)}")
    if inside.isnan().any() or outside.isnan().any():
        raise FloatingPointError("auroc met scores that are not a number")
    of_inside = _share_below(inside, outside)
    of_outside = 1 - _share_below(outside, inside)
    variance = of_inside.var() / len(inside) + of_outside.var() / len(outside)
    return float(of_inside.mean()), math.sqrt(float(variance))


def _share_below(values: Tensor, others: Tensor) -> Tensor:
    """For each value the share of others below it, ties counted half, in float64."""
    ordered = others.sort().values
    below = torch.searchsorted(ordered, values, right=False)
    up_to = torch.searchsorted(ordered, values, right=True)
    return (below + up_to).double() / (2 * len(others))


def energy_scores(
    energy: Energy, x: Float[Tensor, "batch *shape"], chunk_size: int = 512
) -> dict[str, Float[Tensor, " batch"]]:
    """-E(x) and -‖∇E(x)‖ of every event in float64: each higher where the model takes x for its own kind.

    Cost: one energy and one input gradient an event.
    Reference: Grathwohl et al., Your classifier is secretly an energy based model, arXiv:1912.03263, §5.3
    (the gradient's norm: "approximate mass").
    """
    energies, norms = [], []
    with frozen(energy):
        for chunk in x.split(chunk_size):
            values, gradient = energy_and_gradient(energy, chunk)
            energies.append(-values.double())
            norms.append(-gradient.double().flatten(1).norm(dim=1))
    return {"energy": torch.cat(energies), "gradient": torch.cat(norms)}

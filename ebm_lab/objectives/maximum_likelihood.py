"""The gradient of the log-likelihood by samples from the model, which CD, PCD and short-run MCMC share."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies import Energy


class Phases(NamedTuple):
    """Loss and the energies of its two phases."""

    loss: Float[Tensor, ""]
    energy_data: Float[Tensor, " batch"]
    energy_model: Float[Tensor, " num"]


def likelihood_surrogate(
    energy: Energy,
    x: Float[Tensor, "batch *shape"],
    x_model: Float[Tensor, "num *shape"],
    energy_penalty: float = 0.0,
    weights: Float[Tensor, " num"] | None = None,
    data_weights: Float[Tensor, " batch"] | None = None,
) -> Phases:
    """mean E(x) - mean E(x_model) + α (mean E(x)² + mean E(x_model)²), x_model held constant.

    With x_model ~ p_θ its gradient is that of the negative log-likelihood, ∇ E_data[E] - ∇ E_model[E]; its
    value is no likelihood and hovers near 0. α > 0 keeps energies near 0 and biases the optimum. With
    weights w_i, of any sign, the mean over x_model is Σ_i w_i E(x_i); with data weights that over x is.

    Cost: one forward and one parameter gradient on batch + num events.
    Reference: Younes 1999; Hinton 2002; the penalty is Du & Mordatch 2019, arXiv 1903.08689.
    """
    energies = energy(torch.cat([x, x_model.detach()]))
    positive, negative = energies[: len(x)], energies[len(x) :]
    of_data = torch.mean if data_weights is None else data_weights.dot
    of_model = torch.mean if weights is None else weights.dot
    loss = of_data(positive) - of_model(negative)
    if energy_penalty:
        loss = loss + energy_penalty * (of_data(positive.square()) + of_model(negative.square()))
    return Phases(loss, positive.detach(), negative.detach())

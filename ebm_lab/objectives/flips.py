"""Losses of binary events that compare each with its neighbours: Σ_i φ(E(x) - E(x with site i flipped))."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ebm_lab.energies import Energy


def flip_differences(
    energy: Energy, x: Float[Tensor, "batch *shape"], sites: Int[Tensor, "batch flips"] | None = None
) -> Float[Tensor, "batch flips"]:
    """E(x) - E(x^(i)), x^(i) the event with site i flipped: log p(x^(i)) - log p(x) of the model.

    Args:
        sites: which to flip, for each event its own; None flips each of all.

    Cost: one forward on 1 + flips batches.
    """
    flat = x.flatten(1)
    if sites is None:
        sites = torch.arange(flat.shape[1], device=x.device).expand(flat.shape)
    repeated = flat[:, None].expand(*sites.shape, -1)
    flipped = repeated.scatter(2, sites[:, :, None], 1 - repeated.gather(2, sites[:, :, None]))
    energies = energy(torch.cat([flat, flipped.flatten(0, 1)]).view(-1, *x.shape[1:]))
    here, there = energies.split([len(x), sites.numel()])
    return here[:, None] - there.view(sites.shape)


def flip_loss(
    energy: Energy,
    x: Float[Tensor, "batch *shape"],
    phi: Callable[[Tensor], Tensor],
    sites: Int[Tensor, "batch flips"] | None = None,
) -> Float[Tensor, ""]:
    """mean Σ_i φ(E(x) - E(x^(i))), from some sites drawn evenly scaled up to all.

    φ = σ² is ratio matching, softplus the pseudo-likelihood, u -> exp(u/2) minimum probability flow between
    events that are one flip apart. All three are stationary at the truth.
    """
    terms = phi(flip_differences(energy, x, sites))
    return terms.sum(1).mean() * (x[0].numel() / terms.shape[1])

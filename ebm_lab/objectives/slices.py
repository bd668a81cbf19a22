"""Random directions v with E[vvᵀ] = I, along which a Hessian is seen."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.draws import normal_like, signs_like

Slices = Literal["rademacher", "gaussian", "sphere"]
SLICES = ("rademacher", "gaussian", "sphere")


def check_slices(slices: str, num_slices: int) -> None:
    """Raise a ValueError for an unknown law or no direction."""
    if slices not in SLICES:
        raise ValueError(f"slices must be one of {', '.join(SLICES)}, got {slices!r}")
    if num_slices < 1:
        raise ValueError(f"num_slices must be at least 1, got {num_slices}")


def draw_slices(
    slices: Slices, x: Float[Tensor, "batch *shape"], generator: torch.Generator | None
) -> Float[Tensor, "batch *shape"]:
    """A direction of its own for every event: signs, normal draws, or points of the sphere of radius √d.

    Of the variance of vᵀHv signs leave 2 Σ_{i≠j} H_ij², normal draws 2‖H‖², the sphere
    2 (d ‖H‖² - (tr H)²) / (d + 2).
    """
    if slices == "rademacher":
        return signs_like(x, generator)
    v = normal_like(x, generator)
    if slices == "gaussian":
        return v
    flat = v.flatten(1)
    return (math.sqrt(flat.shape[1]) * flat / flat.norm(dim=1, keepdim=True)).view_as(x)

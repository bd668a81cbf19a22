"""Second derivatives of layered energies by a backward pass written out, and what its two users share."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from ebm_lab.data import InMemoryData
from ebm_lab.energies import Energy, KnowsLaplacian, Layer, Layered, score, score_and_diagonal
from ebm_lab.errors import UserError
from ebm_lab.objectives.implicit import ImplicitScoreMatching


class Curved(NamedTuple):
    """One layer at given events, as the backward pass leaves it; a = W h + b are its inputs.

    Attributes:
        weight: W.
        slope: σ'(a), or None for the identity.
        curvature: ∂E/∂σ(a) σ''(a), what the layer adds to ∇²E, or None for the identity.
    """

    weight: Float[Tensor, "out in"]
    slope: Float[Tensor, "batch out"] | None
    curvature: Float[Tensor, "batch out"] | None


def backward_pass(
    layers: list[Layer], x: Float[Tensor, "batch features"]
) -> tuple[list[Curved], Float[Tensor, "batch features"]]:
    """The layers from the last to the first, and ∇E; both differentiable in the parameters.

    Cost: a forward and a backward pass.
    """
    h, forward = x, []
    for weight, bias, activation in layers:
        a = linear(h, weight, bias)
        h, slope, second = (a, None, None) if activation is None else _derivatives(activation, a)
        forward.append((weight, slope, second))
    gradient, passed = torch.ones_like(h), []
    for weight, slope, second in reversed(forward):
        passed.append(Curved(weight, slope, None if second is None else gradient * second))
        gradient = (gradient if slope is None else gradient * slope) @ weight
    return passed, gradient


def layered_loss(
    energy: Energy,
    x: Float[Tensor, "batch *shape"],
    laplacian: Callable[[list[Curved]], Float[Tensor, " batch"]],
) -> Float[Tensor, ""]:
    """mean ½‖∇E‖² - ΔE with ΔE of the layers by `laplacian`; that of the base term is exact.

    Cost: a forward and a backward pass, what `laplacian` takes, and the parameter gradient of all.
    """
    passed, gradient = backward_pass(energy.layers(), x.flatten(1))
    divergence = -laplacian(passed)
    if energy.base is not None:
        s, of_base = _score_and_divergence(energy.base, x)
        gradient, divergence = gradient - s.flatten(1), divergence + of_base
    return (divergence + 0.5 * gradient.square().sum(1)).mean()


def _score_and_divergence(
    base: Energy, x: Float[Tensor, "batch *shape"]
) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, " batch"]]:
    """s and tr ∇s of a base term: by its formula, or coordinate by coordinate."""
    if isinstance(base, KnowsLaplacian):
        return score(base, x, create_graph=True), -base.laplacian(x)
    s, diagonal = score_and_diagonal(base, x)
    return s, diagonal.flatten(1).sum(1)


class LayeredScoreMatching(ImplicitScoreMatching):
    """Score matching that takes an energy apart into affine maps and element-wise nonlinearities.

    Raises:
        UserError: for an energy that is none.
    """

    domains = frozenset({"real"})

    def check(self, data: InMemoryData) -> None:
        """Refuse energies of other parts."""
        if not isinstance(self.energy, Layered):
            raise UserError(
                f"{type(self).__name__} goes through the layers of a multilayer perceptron, and "
                f"{type(self.energy).__name__} is none: choose energy=mlp, objective=score_matching or "
                "objective=ssm"
            )
        super().check(data)


def _derivatives(activation: Callable[[Tensor], Tensor], a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """σ, σ' and σ'' at a."""
    with torch.enable_grad():
        if not a.requires_grad:
            a = a.detach().requires_grad_(True)
        value = activation(a)
        (slope,) = torch.autograd.grad(value.sum(), a, create_graph=True)
        (second,) = torch.autograd.grad(slope.sum(), a, create_graph=True)
    return value, slope, second

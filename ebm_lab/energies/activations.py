"""Activations by name, and whether an energy built on them has a Hessian worth the name."""

from collections.abc import Callable
from functools import partial

from torch import nn

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, 0.2),  # the slope that energies have in the literature
}
_PIECEWISE_LINEAR = {"relu", "leaky_relu"}


def activation(name: str) -> nn.Module:
    """The activation layer called `name`.

    Raises:
        ValueError: for an unknown name, with the list of known ones.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}, got {name!r}")
    return _ACTIVATIONS[name]()


def is_smooth(name: str, base: nn.Module | None = None) -> bool:
    """Whether second derivatives in x tell of E: ReLU networks are piecewise linear, and so may a base be."""
    return name not in _PIECEWISE_LINEAR and (base is None or base.twice_differentiable)

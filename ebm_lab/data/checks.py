"""Checks that the constructors of data sets and densities share: one sentence a mistake."""

import math
from collections.abc import Sequence

from torch import Tensor


def check_positive(name: str, value: float) -> float:
    """The value as a float, or a ValueError."""
    if isinstance(value, bool | str) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return float(value)


def check_integer(name: str, value: int, at_least: int) -> int:
    """The value, or a ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} must be an integer, at least {at_least}, got {value!r}")
    return value


def check_fraction(name: str, value: float) -> float:
    """The value as a float, or a ValueError."""
    if isinstance(value, bool | str) or not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value!r}")
    return float(value)


def check_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape as a tuple, or a ValueError."""
    if len(shape) == 0:
        raise ValueError("shape must name at least one axis, got an empty list")
    return tuple(check_integer("every axis of shape", axis, at_least=1) for axis in shape)


def check_points(x: Tensor, dim: int) -> None:
    """Refuse events that would broadcast into wrong densities."""
    if x.ndim != 2 or x.shape[1] != dim:
        raise ValueError(f"events of this density have shape (batch, {dim}), got {tuple(x.shape)}")

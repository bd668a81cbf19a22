"""Noise around an event: conditional laws that perturb data, with the ratio of both directions."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor


class Perturbation(ABC):
    """A conditional law p_c(y | x) as a map of the event and of Gaussian noise.

    One of the user's own writes both methods; a symmetric law's log ratio is 0.
    """

    @abstractmethod
    def perturb(
        self, x: Float[Tensor, "batch *shape"], z: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch *shape"]:
        """y ~ p_c(· | x), of z ~ N(0, I)."""

    @abstractmethod
    def log_ratio(
        self, x: Float[Tensor, "batch *shape"], y: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, " batch"]:
        """log p_c(y | x) - log p_c(x | y)."""


class GaussianPerturbation(Perturbation):
    """y = x + εz, symmetric.

    Args:
        scale: ε, in the data's units, positive.

    Raises:
        ValueError: a scale that is not positive.
    """

    def __init__(self, scale: float = 0.3) -> None:
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.scale = scale

    def perturb(
        self, x: Float[Tensor, "batch *shape"], z: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch *shape"]:
        """x + εz."""
        return x + self.scale * z

    def log_ratio(
        self, x: Float[Tensor, "batch *shape"], y: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, " batch"]:
        """0."""
        return x.new_zeros(len(x))


class ShrinkingPerturbation(Perturbation):
    """y = a x + εz, which draws events toward the origin: y does not drift away as ε grows.

    log p_c(y | x) - log p_c(x | y) = (1 - a²) (‖x‖² - ‖y‖²) / (2ε²).

    Args:
        shrink: a, in (0, 1].
        scale: ε, in the data's units, positive.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(self, shrink: float = 0.9, scale: float = 0.3) -> None:
        if not 0 < shrink <= 1 or not scale > 0:
            raise ValueError(f"shrink must be in (0, 1] and scale positive, got {shrink} and {scale}")
        self.shrink = shrink
        self.scale = scale

    def perturb(
        self, x: Float[Tensor, "batch *shape"], z: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch *shape"]:
        """a x + εz."""
        return self.shrink * x + self.scale * z

    def log_ratio(
        self, x: Float[Tensor, "batch *shape"], y: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, " batch"]:
        """(1 - a²) (‖x‖² - ‖y‖²) / (2ε²)."""
        difference = x.flatten(1).square().sum(1) - y.flatten(1).square().sum(1)
        return (1 - self.shrink**2) * difference / (2 * self.scale**2)

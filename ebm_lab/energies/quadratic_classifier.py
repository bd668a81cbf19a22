"""A classifier of quadratic logits: the closed form behind checks of networks with several outputs."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.energies.classifier import ClassifierEnergy
from ebm_lab.energies.energy import Energy
from ebm_lab.energies.quadratic import Quadratic


class QuadraticClassifier(ClassifierEnergy):
    """f_y(x) = a_y - ½ (x - μ_y)ᵀ P_y (x - μ_y): Gaussian classes, each with a precision of its own.

    Starts at a = 0, μ = 0, P = I.

    Args:
        shape: shape of one event; it is flattened.
        num_classes: C, at least 1.
        base: energy E₀ that is added; None adds nothing.

    Raises:
        ValueError: fewer than one class.
    """

    def __init__(self, shape: tuple[int, ...], *, num_classes: int, base: Energy | None = None) -> None:
        super().__init__(shape, num_classes=num_classes, base=base)
        self.heights = nn.Parameter(torch.zeros(num_classes))
        self.classes = nn.ModuleList(Quadratic(self.shape) for _ in range(num_classes))

    def class_logits(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch classes"]:
        """a_y - ½ (x - μ_y)ᵀ P_y (x - μ_y)."""
        return self.heights - torch.stack([quadratic(x) for quadratic in self.classes], 1)

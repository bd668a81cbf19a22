"""One-parameter energies and deterministic designs, on which losses have values that a person can derive."""

import torch

from ebm_lab.energies import Energy


class Scaled(Energy):
    """E(x) = λ ‖x‖² / 2, the one-parameter test model."""

    def __init__(self, precision: float, dim: int = 1) -> None:
        super().__init__()
        self.shape = (dim,)
        self.precision = torch.nn.Parameter(torch.tensor(precision, dtype=torch.float64))

    def forward(self, x):
        return 0.5 * self.precision * x.square().sum(1)


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def normal_grid(num: int, scale: float = 1.0) -> torch.Tensor:
    """Quantiles of N(0, scale²) at the middles of `num` equal parts: averages over it are near exact."""
    u = (torch.arange(num, dtype=torch.float64) + 0.5) / num
    return scale * torch.special.ndtri(u)[:, None]

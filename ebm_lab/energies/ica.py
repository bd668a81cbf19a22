"""The energy of independent component analysis: logistic sources behind a matrix that is learned."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from ebm_lab.domains import CONTINUOUS
from ebm_lab.energies.energy import Energy
from ebm_lab.energies.layers import Layer


def log_logistic(s: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """log p(s) = -s - 2 log(1 + e^-s) of the standard logistic law: variance π²/3, entropy 2 nats."""
    return -softplus(s) - softplus(-s)  # no |s|, whose second derivative autograd takes for 0 at 0


class ICA(Energy):
    """E(x) = -Σ_i log p((W x)_i) with p the standard logistic density; log Z = -log |det W|.

    At W = B⁻¹ it is the law of x = B s with logistic sources s; so it is where rows of W are exchanged or
    change their sign. W starts at I / √d, which gives W x the sources' variance where B has entries of
    variance 1.

    Args:
        shape: shape of one event; it is flattened into d numbers.

    Cost: d² operations an event.
    Reference: Grathwohl et al., Learning the Stein discrepancy for training and evaluating energy-based
        models, arXiv:2002.05616. The model is Bell & Sejnowski's, Neural Computation 1995.
    """

    domains = CONTINUOUS
    base = None  # added to its one layer: nothing

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        dim = math.prod(self.shape)
        self.unmixing = nn.Parameter(torch.eye(dim) / math.sqrt(dim))

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """-Σ_i log p((W x)_i)."""
        return -log_logistic(x.flatten(1) @ self.unmixing.T).sum(1)

    def layers(self) -> list[Layer]:
        """One: -log p of each of W x."""
        return [Layer(self.unmixing, torch.zeros_like(self.unmixing[0]), lambda a: -log_logistic(a))]

    def log_partition(self) -> Float[Tensor, ""]:
        """log Z = -log |det W|."""
        return -torch.linalg.slogdet(self.unmixing)[1]

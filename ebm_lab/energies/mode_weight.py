"""The energy of two modes of which all is known but the weight."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ebm_lab.domains import CONTINUOUS
from ebm_lab.energies.energy import Energy
from ebm_lab.energies.noise_levels import need_level


class ModeWeight(Energy):
    """E(x) = -log [w N(x; -m e, s² I) + (1 - w) N(x; m e, s² I)], w = 1 / (1 + e^-a); log Z = 0.

    e is the first axis, and the logit a the only parameter: what a method learns of it is what it sees of
    the masses of modes, apart from all else.

    Args:
        shape: shape of one event; it is flattened into d numbers.
        distance: m of each mode from 0, positive.
        scale: s, positive.
        weight: w at the start, between 0 and 1.

    Raises:
        ValueError: for a number out of its range.
    """

    domains = CONTINUOUS

    def __init__(
        self, shape: tuple[int, ...], *, distance: float = 6.0, scale: float = 1.0, weight: float = 0.9
    ) -> None:
        super().__init__()
        if distance <= 0 or scale <= 0 or not 0 < weight < 1:
            raise ValueError(
                "distance and scale must be positive and weight between 0 and 1, got "
                f"{distance}, {scale} and {weight}"
            )
        self.shape = tuple(shape)
        self.distance, self.scale = distance, scale
        self.logit = nn.Parameter(torch.tensor(math.log(weight / (1 - weight))))

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """-log [w N(x; -m e, s² I) + (1 - w) N(x; m e, s² I)]."""
        return self._with_variance(x, x.new_tensor(self.scale**2))

    def _with_variance(
        self, x: Float[Tensor, "batch *shape"], variance: Float[Tensor, "..."]
    ) -> Float[Tensor, " batch"]:
        flat = x.flatten(1)
        around = (flat.square().sum(1) + self.distance**2) / (2 * variance)
        tilt = self.distance * flat[:, 0] / variance  # ‖x ± m e‖² / 2s² = around ± tilt
        terms = torch.stack([logsigmoid(self.logit) - tilt, logsigmoid(-self.logit) + tilt])
        constant = 0.5 * flat.shape[1] * (variance.log() + math.log(2 * math.pi))
        # logaddexp's second derivative overflows where the terms differ by 88
        return around + constant - torch.logsumexp(terms, 0)

    def log_partition(self) -> Float[Tensor, ""]:
        """0: both modes are normalised and their weights sum to 1."""
        return torch.zeros_like(self.logit)


class NoisedModeWeight(ModeWeight):
    """The same at every level of noise: E(x, σ) with s² + σ² for s², one weight for all levels.

    What ties the levels of a network together by an identity of its inputs is here a parameter in common.
    """

    noise_conditional = True

    def forward(
        self, x: Float[Tensor, "batch *shape"], sigma: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, " batch"]:
        """E(x, σ), with one level for all events or one for each."""
        need_level(sigma)
        return self._with_variance(x, self.scale**2 + torch.as_tensor(sigma).to(x).reshape(-1).square())

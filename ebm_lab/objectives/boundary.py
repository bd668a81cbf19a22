"""Score matching on domains with an edge: weights that vanish there make the integration by parts hold."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data import Batch, InMemoryData
from ebm_lab.energies import Energy, ScoreNetwork, score_and_diagonal
from ebm_lab.objectives.derivatives import check_chunk_size, check_size
from ebm_lab.objectives.objective import Objective, Parts

WEIGHTS = ("square", "linear", "clipped")


def weighted_loss(
    model: Energy | ScoreNetwork,
    x: Float[Tensor, "batch *shape"],
    g: Float[Tensor, "batch *shape"],
    slope: Float[Tensor, "batch *shape"],
    chunk_size: int | None = None,
) -> Float[Tensor, ""]:
    """mean Σ_i [g_i ∂_i s_i + g'_i s_i + ½ g_i s_i²] with weights g_i(x_i) ≥ 0; g = 1 is `implicit_loss`.

    Equal to E Σ_i ½ g_i (s_i - s_data,i)² up to a constant where p g s vanishes at the edges.

    Args:
        g, slope: the weights and their derivatives g'_i(x_i).
        chunk_size: coordinates whose graph is in memory; None keeps that of all.

    Cost: see `score_and_diagonal`, and the parameter gradient of it.
    Reference: Hyvärinen 2007, Some extensions of score matching, CSDA 51; Yu, Drton & Shojaie 2019,
        Generalized score matching for non-negative data, JMLR 20.
    """
    s, diagonal = score_and_diagonal(model, x, chunk_size)
    return (g * diagonal + slope * s + 0.5 * g * s.square()).flatten(1).sum(1).mean()


class BoundaryWeightedScoreMatching(Objective):
    """Score matching weighted by the distance of every coordinate to the edges of its domain.

    Args:
        weight: square, linear or clipped.
        clip: c of the clipped weight, in the data's units.
        chunk_size: coordinates whose graph is in memory; None keeps that of all.

    Raises:
        ValueError: for an unknown weight, a clip that is not positive or a chunk_size below 1.
        UserError: for events of more than 256 numbers.
    """

    needs_second_derivatives = True
    has_held_out_loss = True
    monitor = "val/loss"
    notes = (
        "Score matching cannot see the weights of separated modes: the Fisher divergence is its measure, "
        "KL is not.",
    )

    def __init__(
        self,
        parts: Parts,
        *,
        weight: Literal["square", "linear", "clipped"] = "square",
        clip: float = 1.0,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(parts)
        if weight not in WEIGHTS:
            raise ValueError(f"weight must be one of {', '.join(WEIGHTS)}, got {weight!r}")
        if not 0 < clip < math.inf:
            raise ValueError(f"clip must be a positive number, got {clip}")
        self.weight = weight
        self.clip = clip
        self.chunk_size = check_chunk_size(chunk_size)

    @classmethod
    def check_data(cls, data: InMemoryData) -> None:
        """Refuse events of too many numbers."""
        super().check_data(data)
        check_size(cls.__name__, math.prod(data.shape), "fewer of them, or objective=pcd")

    def distance(self, x: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        """Of every coordinate to the nearest edge, and its derivative."""
        raise NotImplementedError

    def square(self, x: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        """A smooth weight that vanishes at the edges with its derivative, and the latter."""
        raise NotImplementedError

    def weights(self, x: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        """g and g'."""
        if self.weight == "square":
            return self.square(x)
        distance, slope = self.distance(x)
        if self.weight == "linear":
            return distance, slope
        return distance.clamp(max=self.clip), torch.where(distance < self.clip, slope, 0.0)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The weighted loss."""
        return weighted_loss(self.energy, batch.x, *self.weights(batch.x), self.chunk_size)

"""An estimate of log Z, however it was made: a number, its error bar, and the side on which it errs."""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Side = Literal["low", "high", "either"]


class LogPartition(NamedTuple):
    """An estimate of log Z = log ∫ exp(-E(x)) dx, in nats.

    Attributes:
        value: the estimate.
        error: its error bar, ≥ 0: a standard error, or the bound that a deterministic rule gives.
        effective_samples: independent draws of equal weight that would be as good; infinite where nothing
            was drawn.
        side: where the estimate lies on average: low (a likelihood looks too high), high (it looks too low),
            or either.
        method: how it was made, as the note of a table says it.
    """

    value: float
    error: float
    effective_samples: float
    side: Side
    method: str

    def shifted(self, constant: float) -> "LogPartition":
        """The estimate of log Z + constant."""
        return self._replace(value=self.value + constant)


def from_log_weights(log_weights: Float[Tensor, " num"], method: str, side: Side = "low") -> LogPartition:
    """log Z from independent log w_i with E[w] = Z (side low), or with E[1/w] = 1/Z (side high).

        low:  log (1/n) Σ w_i        high:  -log (1/n) Σ 1/w_i        ESS = (Σ w^±1)² / Σ w^±2

    By Jensen's inequality the first lies below log Z on average and the second above, by about half the
    squared error; P(log Ẑ > log Z + b) < e^-b by Markov's. Error bar: standard error of the mean over that
    mean (delta method). Below some tens of effective samples neither value nor error bar can be trusted.

    Args:
        log_weights: log w_i, at least two; -inf (no weight) is allowed.

    Raises:
        ValueError: for fewer than two, a NaN, or weights that are all 0.
    """
    num = len(log_weights)
    log_weights = log_weights.detach().double()
    signed = -log_weights if side == "high" else log_weights
    log_sum = torch.logsumexp(signed, 0)
    if num < 2 or not log_sum.isfinite():
        raise ValueError(
            f"log Z needs at least 2 weights with a finite sum, got {num} of log sum {log_sum:g}"
        )
    effective = 1 / (signed - log_sum).exp().square().sum()
    variance = (1 / effective - 1 / num).clamp(min=0) * num / (num - 1)
    log_mean = float(log_sum) - math.log(num)
    return LogPartition(
        value=-log_mean if side == "high" else log_mean,
        error=float(variance.sqrt()),
        effective_samples=float(effective),
        side=side,
        method=method,
    )

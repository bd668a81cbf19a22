"""Weighted draws: their effective share, the mean of their weights, and resampling. All take log weights."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def effective_share(log_weights: Float[Tensor, "*populations num"]) -> Float[Tensor, "*populations"]:
    """(Σ w)² / (n Σ w²) in float64, in (0, 1]: 1 where all weigh the same."""
    log_weights = log_weights.double()
    log_sum, log_squares = log_weights.logsumexp(-1), (2 * log_weights).logsumexp(-1)
    return (2 * log_sum - log_squares - math.log(log_weights.shape[-1])).exp()


def log_mean_exp(log_weights: Float[Tensor, "*populations num"]) -> Float[Tensor, "*populations"]:
    """log (1/n) Σ w."""
    return log_weights.logsumexp(-1) - math.log(log_weights.shape[-1])


def systematic(
    log_weights: Float[Tensor, "*populations num"], u: Float[Tensor, "*populations"]
) -> Int[Tensor, "*populations num"]:
    """Parents by systematic resampling: draw i, of share s_i, has ⌊n s_i⌋ or ⌈n s_i⌉ children.

    Args:
        log_weights: log w_i; the shares are their softmax, in float64.
        u: one uniform a population, which shifts a comb of n teeth.

    Reference: Kitagawa 1996, J. Comput. Graph. Stat. 5, appendix; Douc, Cappé & Moulines 2005.
    """
    num = log_weights.shape[-1]
    edges = log_weights.double().softmax(-1).cumsum(-1)
    comb = (torch.arange(num, device=edges.device) + u.double()[..., None]) / num
    return torch.searchsorted(edges, comb, right=True).clamp(max=num - 1)

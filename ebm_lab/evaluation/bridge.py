"""log Z between two laws from draws of both: Bennett's acceptance ratio."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.evaluation.partition import LogPartition

BISECTIONS = 100  # of an interval of nats, down to the last bit


def bennett(
    log_weights_start: Float[Tensor, " first"],
    log_weights_end: Float[Tensor, " second"],
    method: str = "Bennett's acceptance ratio",
) -> LogPartition:
    """r = log Z_1/Z_0 from log w = log q̃_1/q̃_0 at n_0 draws of p_0 and at n_1 draws of p_1: the root of

        Σ_{x ~ p_0} σ(log w(x) - r + m) = Σ_{x ~ p_1} σ(r - m - log w(x)),    m = log n_1/n_0

    the best of all bridge estimators. The weights may also be those of a climb and of one in reverse
    (`climb`, `climb_back`), which obey the same identity (Crooks). Consistent, with a bias of the order of
    the squared error on either side. Error bar: delta method, √(c_0/n_0 + c_1/n_1), with c the squared
    coefficient of variation of each side's σ.

    Raises:
        ValueError: for fewer than two weights on a side, or weights that are not finite.
    Reference: Bennett 1976, J. Comput. Phys. 22, equations 10 to 12; Meng & Wong 1996, Statistica Sinica 6,
        section 3; Shirts et al. 2003, PRL 91, 140601, for weights of trajectories.
    """
    start, end = log_weights_start.detach().double(), log_weights_end.detach().double()
    if min(len(start), len(end)) < 2 or not (start.isfinite().all() and end.isfinite().all()):
        raise ValueError("Bennett's ratio needs at least 2 finite log weights on each side")
    shift = math.log(len(end) / len(start))
    both = torch.cat([start, end])
    low, high = float(both.min()) - abs(shift) - 1, float(both.max()) + abs(shift) + 1
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        excess = (start - middle + shift).sigmoid().sum() - (middle - shift - end).sigmoid().sum()
        low, high = (middle, high) if excess > 0 else (low, middle)
    sides = [(start - low + shift).sigmoid(), (low - shift - end).sigmoid()]
    effective = [float(side.sum().square() / side.square().sum()) for side in sides]
    variance = sum(1 / e - 1 / len(side) for e, side in zip(effective, sides, strict=True))
    return LogPartition(low, math.sqrt(max(variance, 0.0)), sum(effective), "either", method)

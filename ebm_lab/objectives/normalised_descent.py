"""Normalised gradient descent: steps of a given length, however flat or steep the loss."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class NormalisedGradientDescent(torch.optim.Optimizer):
    """θ ← θ - lr ∇L / ‖∇L‖, one norm over all parameters of all groups; a zero gradient is no step.

    Args:
        params: parameters or groups of them.
        lr: length of a step, positive; a group with its own scales its part of the direction.

    Raises:
        ValueError: a learning rate that is not positive.
    Reference: Nesterov 1984; Hazan, Levy & Shalev-Shwartz 2015, arXiv 1507.02030, algorithm 1.
    """

    def __init__(self, params: Iterable[Any], *, lr: float = 1e-2) -> None:
        if not lr > 0:
            raise ValueError(f"lr must be positive, got {lr}")
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = [(g["lr"], [p for p in g["params"] if p.grad is not None]) for g in self.param_groups]
        norm = nn.utils.get_total_norm([p.grad for _, parameters in groups for p in parameters])
        if norm > 0:
            for lr, parameters in groups:
                for parameter in parameters:
                    parameter.sub_(lr * parameter.grad / norm)
        return loss

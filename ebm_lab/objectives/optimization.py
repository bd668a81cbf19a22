"""How one player learns: the optimizer, its schedule, the clip of its gradient, its micro-batches."""

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
}


class Optimization:
    """A recipe that builds an optimizer and its learning-rate schedule for a set of parameters.

    The rate at iteration t is lr · warm(t) · (final + (1 - final) · shape(t / length)), with
    warm(t) = min(1, (t + 1) / warmup) and `shape` falling from 1 to 0.

    Args:
        algorithm: makes the optimizer from parameter groups, such as a partial `torch.optim.Adam`.
        lr: largest learning rate.
        schedule: shape of the decay: constant, linear or cosine.
        length: iterations over which the schedule runs.
        warmup: iterations of linear warm-up.
        final: fraction of `lr` that is left at the end.
        clip: largest norm of the gradient over all the player's parameters; None clips nothing.
        micro_batches: equal parts into which a batch is split, their gradients accumulated.

    Raises:
        ValueError: for a number out of its range or an unknown schedule.
    """

    def __init__(
        self,
        *,
        algorithm: Callable[[list[dict[str, Any]]], Optimizer],
        lr: float = 1e-3,
        schedule: str = "constant",
        length: int = 1,
        warmup: int = 0,
        final: float = 0.0,
        clip: float | None = None,
        micro_batches: int = 1,
    ) -> None:
        if lr <= 0:
            raise ValueError(f"lr must be positive, got {lr}")
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
        if warmup < 0 or not 0 <= final <= 1:
            raise ValueError(f"warmup must be >= 0 and final in [0, 1], got {warmup} and {final}")
        if clip is not None and clip <= 0:
            raise ValueError(f"clip must be positive, or null for none, got {clip}")
        if micro_batches < 1:
            raise ValueError(f"micro_batches must be at least 1, got {micro_batches}")
        self.algorithm = algorithm
        self.lr = lr
        self.schedule = schedule
        self.length = length
        self.warmup = warmup
        self.final = final
        self.clip = clip
        self.micro_batches = micro_batches

    def factor(self, iteration: int) -> float:
        """Learning rate at `iteration` over the largest one."""
        warm = min(1.0, (iteration + 1) / self.warmup) if self.warmup else 1.0
        progress = min(1.0, iteration / max(1, self.length))
        return warm * (self.final + (1 - self.final) * SCHEDULES[self.schedule](progress))

    def build(self, groups: list[dict[str, Any]]) -> tuple[Optimizer, LambdaLR]:
        """Optimizer and schedule; a group's `lr_factor` multiplies its learning rate.

        Raises:
            ValueError: when the algorithm refuses its arguments.
        """
        groups = [{**g, "lr": self.lr * g.get("lr_factor", 1.0)} for g in groups]
        try:
            optimizer = self.algorithm(groups)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"the optimizer refuses its settings ({error}): mend optimizer.algorithm"
            ) from error
        return optimizer, LambdaLR(optimizer, self.factor)

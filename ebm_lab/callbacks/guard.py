"""Stops a run whose loss explodes, before the next checkpoint is written."""

from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from ebm_lab.errors import Diverged
from ebm_lab.objectives import Objective


class Guard(Callback):
    """Raise `Diverged` when a loss leaves [-limit, limit]; non-finite ones the objective refuses by itself.

    The last checkpoint is then the last good one: it was written before, and nothing is written after.

    Args:
        limit: largest |loss|, positive.

    Raises:
        ValueError: for a limit that is not positive.
    """

    def __init__(self, *, limit: float = 1e8) -> None:
        if limit <= 0:
            raise ValueError(f"limit must be positive, got {limit}")
        self.limit = limit

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Objective, optimizer: Any) -> None:
        """Judge the losses that were just computed, before they move the weights."""
        worst = max(abs(float(loss)) for loss in pl_module.losses.values())
        if trainer.world_size > 1:
            worst = float(
                trainer.strategy.reduce(torch.tensor(worst, device=pl_module.device), reduce_op="max")
            )
        if worst > self.limit:
            seen = ", ".join(f"{k} {float(v):.4g}" for k, v in pl_module.metrics.items())
            raise Diverged(
                f"the loss exploded past callbacks.guard.limit={self.limit:g} at iteration "
                f"{pl_module.iteration + 1} ({seen})"
            )

"""Stops a run whose loss explodes before the next checkpoint is written, and says how it may start again."""

from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from ebm_lab.errors import Diverged
from ebm_lab.objectives import Objective


class Guard(Callback):
    """Raise `Diverged` when a loss leaves [-limit, limit]; non-finite ones the objective refuses by itself.

    The last checkpoint is then the last good one: it was written before, and nothing is written after. With
    `restart`, the run goes back to it with a smaller learning rate, at most `max_restarts` times; a first
    checkpoint is written before the first iteration. Restarts and rates are part of the checkpoint, so that
    a run that is killed after a restart continues as it would have.

    Args:
        limit: largest |loss|, positive.
        restart: whether a diverged run starts again from its last checkpoint.
        max_restarts: restarts of a run, at least 1.
        lr_factor: what every learning rate is multiplied by at a restart, in (0, 1).

    Attributes:
        restarts: how often this run has started again.

    Raises:
        ValueError: for a number out of its range.
    """

    def __init__(
        self, *, limit: float = 1e8, restart: bool = False, max_restarts: int = 3, lr_factor: float = 0.5
    ) -> None:
        if limit <= 0:
            raise ValueError(f"limit must be positive, got {limit}")
        if max_restarts < 1:
            raise ValueError(f"max_restarts must be at least 1 (restart=false is none), got {max_restarts}")
        if not 0 < lr_factor < 1:
            raise ValueError(f"lr_factor must lie between 0 and 1, got {lr_factor}")
        self.limit = limit
        self.restart = restart
        self.max_restarts = max_restarts
        self.lr_factor = lr_factor
        self.restarts = 0

    @property
    def note(self) -> str | None:
        """What a reader of the results must know; None of a run that never diverged."""
        if not self.restarts:
            return None
        times = "once" if self.restarts == 1 else f"{self.restarts} times"
        return (
            f"The run diverged and started again {times} from its last checkpoint (run.log says why); its "
            f"learning rates are {self.lr_factor**self.restarts:g} times the configured ones."
        )

    def may_restart(self, checkpoint: dict[str, Any]) -> bool:
        """Whether a run that diverged after this checkpoint has a restart left."""
        return self.restart and self._restarts_of(checkpoint) < self.max_restarts

    def slow_down(self, checkpoint: dict[str, Any]) -> None:
        """Make of the last checkpoint the one to start again from: one restart more, smaller rates."""
        for optimizer in checkpoint["optimizer_states"]:
            for group in optimizer["param_groups"]:
                group["lr"] *= self.lr_factor
                group["initial_lr"] *= self.lr_factor
        for schedule in checkpoint["lr_schedulers"]:
            for rates in ("base_lrs", "_last_lr"):
                schedule[rates] = [rate * self.lr_factor for rate in schedule[rates]]
        self.restarts = self._restarts_of(checkpoint) + 1
        checkpoint["callbacks"][self.state_key] = self.state_dict()

    def _restarts_of(self, checkpoint: dict[str, Any]) -> int:
        return checkpoint["callbacks"].get(self.state_key, {}).get("restarts", 0)

    def on_train_start(self, trainer: Trainer, pl_module: Objective) -> None:
        """Have something to go back to."""
        if self.restart and pl_module.iteration == 0 and not self.restarts:
            for checkpoints in trainer.checkpoint_callbacks:
                checkpoints.save(trainer, "last")

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

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: Objective,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log the restarts of a run that had some."""
        if self.restarts and pl_module.iteration % trainer.log_every_n_steps == 0:
            pl_module.log_at_iteration("train", {"restarts_of_run": self.restarts})

    def state_dict(self) -> dict[str, Any]:
        """Restarts so far."""
        return {"restarts": self.restarts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restarts so far."""
        self.restarts = state_dict["restarts"]

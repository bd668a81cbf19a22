"""When a run ends: after so many iterations, seconds or energy evaluations, whichever comes first."""

import time
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from ebm_lab.objectives import Objective


class Budget(Callback):
    """Stop training when one of its limits is reached.

    Args:
        iterations: number of batches; None for no limit.
        seconds: time spent in training, interruptions left out; None for no limit.
        energy_evaluations: evaluations of E at one event on this process, samplers included; None: no limit.

    Raises:
        ValueError: when no limit is set, or one is not positive.
    """

    def __init__(
        self,
        *,
        iterations: int | None = None,
        seconds: float | None = None,
        energy_evaluations: int | None = None,
    ) -> None:
        limits = {"iterations": iterations, "seconds": seconds, "energy_evaluations": energy_evaluations}
        if all(limit is None for limit in limits.values()):
            raise ValueError("a run needs a length: set iterations, seconds or energy_evaluations")
        for name, limit in limits.items():
            if limit is not None and limit <= 0:
                raise ValueError(f"{name} must be positive, got {limit}")
        self.iterations = iterations
        self.seconds = seconds
        self.energy_evaluations = energy_evaluations
        self._spent = 0.0
        self._resumed_at = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, earlier parts of a resumed run included."""
        return self._spent + (time.monotonic() - self._resumed_at if self._resumed_at else 0.0)

    def is_spent(self, objective: Objective) -> bool:
        """Whether a limit is reached."""
        return (
            (self.iterations is not None and objective.iteration >= self.iterations)
            or (self.seconds is not None and self.elapsed >= self.seconds)
            or (
                self.energy_evaluations is not None
                and objective.energy_evaluations >= self.energy_evaluations
            )
        )

    def on_train_start(self, trainer: Trainer, pl_module: Objective) -> None:
        """Start the clock."""
        self._resumed_at = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: Objective,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Ask for the end; on several processes the first decides for all."""
        spent = self.is_spent(pl_module)
        if self.seconds is not None and trainer.world_size > 1:
            spent = bool(trainer.strategy.broadcast(torch.tensor(spent)))
        trainer.should_stop = trainer.should_stop or spent

    def state_dict(self) -> dict[str, Any]:
        """Seconds so far."""
        return {"seconds": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Seconds of the earlier parts."""
        self._spent = state_dict["seconds"]

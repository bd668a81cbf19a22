"""A progress bar that counts iterations and says when the run ends."""

import logging
import sys
from typing import Any

from pytorch_lightning import Callback, Trainer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)

from ebm_lab.objectives import Objective

log = logging.getLogger("ebm_lab")


class Progress(Callback):
    """A bar with iterations, time left and the loss on a terminal; a line at every validation elsewhere.

    Args:
        iterations: planned length of the run; None when only time or evaluations limit it.
    """

    def __init__(self, *, iterations: int | None = None) -> None:
        self.iterations = iterations
        self._bar: Bar | None = None

    def on_train_start(self, trainer: Trainer, pl_module: Objective) -> None:
        """Show the bar on a terminal."""
        if not (trainer.is_global_zero and sys.stdout.isatty()):
            return
        self._bar = Bar(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[seen]}"),
        )  # fmt: skip
        self._task = self._bar.add_task("", total=self.iterations, completed=pl_module.iteration, seen="")
        self._bar.start()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: Objective,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move the bar; read the metrics only as often as they are logged."""
        if self._bar is None:
            return
        update: dict[str, Any] = {"completed": pl_module.iteration}
        if pl_module.iteration % trainer.log_every_n_steps == 0:
            update["seen"] = _summary(pl_module)
        self._bar.update(self._task, **update)

    def on_validation_end(self, trainer: Trainer, pl_module: Objective) -> None:
        """A line for logs and for those who watch no terminal."""
        if self._bar is None and trainer.is_global_zero:
            log.info(
                "iteration %d of %s: %s", pl_module.iteration, self.iterations or "?", _summary(pl_module)
            )

    def on_exception(self, trainer: Trainer, pl_module: Objective, exception: BaseException) -> None:
        """Lightning tears no callback down after an exception."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: Objective, stage: str) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _summary(objective: Objective) -> str:
    names = [k for k in objective.metrics if k.partition("_")[0] == "loss"]
    names += [k for k in ("energy_gap", "accuracy", "log_z") if k in objective.metrics]
    return "  ".join(f"{k} {float(objective.metrics[k]):.3g}" for k in names)

"""Checkpoints from which a run continues bit for bit, written so that no kill can damage them."""

import logging
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Checkpoint

from ebm_lab.errors import Stopped
from ebm_lab.objectives import Objective
from ebm_lab.run_folder import replace_durably

log = logging.getLogger("ebm_lab")

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Checkpoints(Checkpoint):
    """`last.ckpt` every so many iterations and at the end, `best.ckpt` by the objective's own monitor.

    A checkpoint holds weights, optimizers, schedules, averaged weights, position in the data, chains and
    every random state. It is written beside the old one and put in its place in one step. SIGTERM and
    Ctrl-C end the run after the iteration in progress, with everything saved.

    Args:
        folder: where the files go.
        every: iterations between saves of `last.ckpt`.
        digest: fingerprint of the run's config, stored in each file.

    Raises:
        ValueError: when `every` is less than 1.
    """

    def __init__(self, folder: str, *, every: int = 500, digest: str = "") -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.folder = Path(folder)
        self.every = every
        self.digest = digest
        self.best: float | None = None
        self._states: list[dict[str, Any]] | None = None
        self._said = False
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: Objective) -> None:
        """Put the random states of this process back, and listen for the end."""
        if self._states:
            _set_random_states(self._states[trainer.global_rank])
        if signal.getsignal(signal.SIGTERM) is not None:
            self._handlers = {s: signal.signal(s, self._on_signal) for s in SIGNALS}

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._signal is not None:  # asked twice: at once, with what the last checkpoint holds
            raise KeyboardInterrupt
        self._signal = number

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: Objective,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save when it is time; where a validation follows this iteration, after it."""
        if not _validation_follows(trainer, pl_module):
            self._save_or_stop(trainer, pl_module)

    def _save_or_stop(self, trainer: Trainer, objective: Objective) -> None:
        signalled = self._signalled(trainer)
        if signalled or self._is_due(trainer, objective):
            self.save(trainer, "last")
        if signalled:
            raise Stopped(
                f"stopped at iteration {objective.iteration}, everything saved: continue with "
                f"resume={self.folder.parent}",
                128 + (self._signal or signal.SIGTERM),
            )

    def on_validation_end(self, trainer: Trainer, pl_module: Objective) -> None:
        """Keep the best so far, then do what was put off."""
        if trainer.sanity_checking:
            return
        value = trainer.callback_metrics.get(pl_module.monitor)
        if value is None:
            self._say_there_is_no_best(pl_module.monitor)
        elif self.best is None or float(value) < self.best:
            self.best = float(value)
            self.save(trainer, "best")
        self._save_or_stop(trainer, pl_module)

    def _say_there_is_no_best(self, monitor: str) -> None:
        if not self._said:
            log.info(
                "no best.ckpt is kept: nothing in this run measures %s (callbacks.samples=null?)", monitor
            )
            self._said = True

    def _is_due(self, trainer: Trainer, objective: Objective) -> bool:
        return trainer.should_stop or objective.iteration % self.every == 0

    def _signalled(self, trainer: Trainer) -> bool:
        if trainer.world_size == 1:
            return self._signal is not None
        return bool(trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False))

    def save(self, trainer: Trainer, name: str) -> None:
        """Write `name`.ckpt. Every rank takes part: each adds its own chains and random states."""
        temporary = self.folder / f".{name}.ckpt.new"
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            replace_durably(temporary, self.folder / f"{name}.ckpt")
        trainer.strategy.barrier("checkpoint")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Objective, checkpoint: dict[str, Any]) -> None:
        """Add the fingerprint of the config and the global random states of all processes."""
        checkpoint["digest"] = self.digest
        checkpoint["random_states"] = pl_module.gather(_random_states())

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Objective, checkpoint: dict[str, Any]) -> None:
        """Keep them until training starts: what is built before draws numbers too."""
        self._states = checkpoint["random_states"]

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The best value so far."""
        self.best = state_dict["best"]

    def teardown(self, trainer: Trainer, pl_module: Objective, stage: str) -> None:
        """Give the signals back."""
        self._give_signals_back()

    def on_exception(self, trainer: Trainer, pl_module: Objective, exception: BaseException) -> None:
        """Give the signals back: Lightning tears no callback down after an exception."""
        self._give_signals_back()

    def _give_signals_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def _validation_follows(trainer: Trainer, objective: Objective) -> bool:
    if not trainer.enable_validation:
        return False
    return trainer.should_stop or objective.iteration % trainer.val_check_batch == 0


def _random_states() -> dict[str, Any]:
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached),
        "python": (version, list(internal), gauss),
    }


def _set_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))

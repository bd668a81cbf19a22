"""Looks at the model while it trains: samples from one fixed noise, their distance to held-out data."""

import logging
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor

from ebm_lab.data import InMemoryData
from ebm_lab.data.seeding import seeded_generator
from ebm_lab.energies import Energy
from ebm_lab.evaluation import energy_gap, evaluate_in_chunks, median_bandwidths, mmd, plots
from ebm_lab.evaluation.final import PER_CLASS
from ebm_lab.objectives import Objective
from ebm_lab.samplers import Kernel

log = logging.getLogger("ebm_lab")

LOOKING = 2  # random stream of a seed


class Samples(Callback):
    """At every validation: draw, measure and picture samples, always from the same random numbers.

    The generator is this callback's own and starts anew at each look, so that pictures can be compared and
    a run that is watched ends in the same weights as one that is not.

    Args:
        folder: where the pictures go.
        kernel: kernel that draws them, where the objective has no way of its own.
        num_steps: its steps.
        num_samples: how many are drawn.
        seed: of the generator.

    Raises:
        ValueError: for fewer than 3 samples.
    """

    def __init__(
        self, folder: str, *, kernel: Kernel, num_steps: int, num_samples: int = 256, seed: int = 0
    ) -> None:
        if num_samples < 3:
            raise ValueError(f"num_samples must be at least 3, got {num_samples}")
        self.folder = Path(folder)
        self.kernel = kernel
        self.num_steps = num_steps
        self.num_samples = num_samples
        self.seed = seed

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: Objective) -> None:
        """Look; the averaged weights are in place by now, where there are any."""
        distance = self._look(trainer, pl_module) if trainer.is_global_zero else None
        # Set for the best checkpoint, on every rank: all take part in saving it.
        trainer.callback_metrics["val/mmd"] = torch.tensor(trainer.strategy.broadcast(distance))

    def _look(self, trainer: Trainer, pl_module: Objective) -> float:
        data: InMemoryData = trainer.datamodule
        generator = seeded_generator(self.seed, LOOKING, device=pl_module.device)
        held_out = data.val_x.to(pl_module.device, pl_module.dtype)
        with pl_module.uncounted(), pl_module.drawing_from(generator):
            draws = pl_module.walk(self.num_samples, self.kernel, self.num_steps, generator)
            samples, model = pl_module.jump(draws), pl_module.model()
            distance = self._log_numbers(pl_module, model, draws, samples, held_out)
            noise = pl_module.noise.sample(self.num_samples, generator)
            of_classes = pl_module.conditional_samples(PER_CLASS, self.kernel, self.num_steps, generator)
            self._log_pictures(trainer, pl_module, model, samples, held_out, noise, of_classes)
        return distance

    def _log_numbers(
        self, objective: Objective, model: Energy, draws: Tensor, samples: Tensor, held_out: Tensor
    ) -> float:
        distance, _ = mmd(samples, held_out, *median_bandwidths(held_out))
        metrics = {"mmd": distance}
        if isinstance(model, Energy):
            metrics["energy_gap"] = energy_gap(model, objective.corrupted(held_out), draws)[0]
        objective.log_at_iteration("val", metrics)
        return distance

    def _log_pictures(
        self,
        trainer: Trainer,
        objective: Objective,
        model: Any,
        samples: Tensor,
        held_out: Tensor,
        noise: Tensor,
        of_classes: Tensor | None,
    ) -> None:
        data: InMemoryData = trainer.datamodule
        pictures = {"samples": plots.picture(samples, held_out, data)}
        if of_classes is not None:
            pictures["classes"] = plots.class_rows(of_classes, data)
        if isinstance(model, Energy):
            sets = {"data": held_out[: self.num_samples], "samples": samples, "noise": noise}
            energies = {name: evaluate_in_chunks(model, x).cpu() for name, x in sets.items()}
            pictures["energies"] = plots.histogram(energies)
            _to_wandb(trainer, objective.iteration, energies)
        for name, figure in pictures.items():
            if figure is None:
                continue
            path = plots.save(figure, self.folder / f"{name}_{objective.iteration:07d}.png")
            for logger in _wandb_loggers(trainer):
                logger.log_image(f"samples/{name}", [str(path)], step=objective.iteration)


def _wandb_loggers(trainer: Trainer) -> list[WandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def _to_wandb(trainer: Trainer, iteration: int, energies: dict[str, Tensor]) -> None:
    """Energies as histograms that wandb draws over the iterations."""
    loggers = _wandb_loggers(trainer)
    if not loggers:
        return
    from wandb import Histogram  # a second to import, and not every run logs to wandb

    histograms = {f"energies/{name}": Histogram(values.numpy()) for name, values in energies.items()}
    for logger in loggers:
        logger.log_metrics(histograms, step=iteration)

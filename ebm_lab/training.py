"""One run from its config to its report: fit, resume, evaluate, and leave the process as it was found."""

import io
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from ebm_lab import cli
from ebm_lab.building import Built, build, make_trainer, read_checkpoint, refusals
from ebm_lab.callbacks import Budget, Guard
from ebm_lab.errors import UserError
from ebm_lab.evaluation import Measurement, from_json, plots, to_json
from ebm_lab.evaluation.final import Findings
from ebm_lab.evaluation.report import format_number, write_report
from ebm_lab.loggers import MetricsFile, read_metrics
from ebm_lab.run_folder import MAY_CHANGE, RunFolder, default_folder, write_atomically

log = logging.getLogger("ebm_lab")
for library in ("pytorch_lightning", "lightning_fabric"):
    logging.getLogger(library).setLevel(logging.WARNING)  # no tips, no list of absent devices
warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's use of torch's own past
warnings.filterwarnings("ignore", message=".*torch.jit.script.*")  # torch.func.jvp of torch's own past

FOLDER_OF_RANKS = "EBM_LAB_RUN_FOLDER"  # tells the other processes of a run where the first one writes


def run(cfg: DictConfig) -> dict[str, Measurement]:
    """Start a run, or continue the one in `resume`; its final measurements by name.

    Raises:
        UserError: for a mistake in the config or the folder, before anything is trained.
        Diverged: when the loss stops being finite or explodes, and no restart is left; the last checkpoint is
            the last good one.
        Stopped: when a signal ended training, with everything saved.
    """
    sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
    chosen = cli.choices()
    name = f"{chosen['objective']}-{chosen['data']}-s{cfg.seed}"
    joins = FOLDER_OF_RANKS in os.environ  # started by the first process of a run, into its folder
    fresh = cfg.resume is None and not joins
    if "LOCAL_RANK" in os.environ and not joins:
        raise UserError("a run starts its own processes: python train.py trainer=ddp, not under torchrun")
    if cfg.resume is not None:
        folder, cfg = _continued(cfg)
        about = folder.read_about()
    else:
        folder = RunFolder(os.environ[FOLDER_OF_RANKS] if joins else _output_dir(cfg, name, sweeping))
        about = {"name": name, "choices": chosen, "overrides": cli.overrides()}
    _check_devices(cfg, sweeping)
    with open_dict(cfg):
        cfg.output_dir = str(folder.path)
    return train(cfg, folder, about, fresh)


def train(
    cfg: DictConfig, folder: RunFolder, about: dict[str, Any], fresh: bool = True
) -> dict[str, Measurement]:
    """Train and evaluate `cfg` in a folder that must be new where `fresh`, else from its last checkpoint."""
    with _isolated():
        if cfg.threads < 1:
            raise UserError(f"threads must be at least 1, got {cfg.threads}")
        torch.set_num_threads(cfg.threads)
        if fresh:
            folder.refuse_occupied()
        built = build(cfg)
        if fresh:
            folder.claim(cfg, about)
        os.environ[FOLDER_OF_RANKS] = str(folder.path)
        with _log_file(folder), _released_if_untrained(folder, fresh):
            while (found := _train(cfg, folder, about, built)) is None:
                built = build(cfg)
            return found


def _train(
    cfg: DictConfig, folder: RunFolder, about: dict[str, Any], built: Built
) -> dict[str, Measurement] | None:
    """From the last checkpoint, where there is one, to the report; None where it must be called again."""
    checkpoint = folder.checkpoint()
    saved = read_checkpoint(checkpoint, cfg) if checkpoint.exists() else None
    started = saved["objective"]["iteration"] if saved else 0
    log.info("%s in %s%s", about["name"], folder.path, f", from iteration {started}" if saved else "")
    for line in _health(built):
        log.info(line)
    trainer = make_trainer(cfg, folder, built.evaluation, about)
    for logger in trainer.loggers:
        if isinstance(logger, MetricsFile):
            logger.truncate(started)
    guard = _guard(trainer, saved)
    with _wandb_finished(trainer):
        untrained = _untrained(folder, trainer, built, is_fresh=saved is None)
        begun = time.monotonic()
        if not _is_finished(trainer, built, saved):
            try:
                trainer.fit(built.objective, datamodule=built.data, ckpt_path=checkpoint if saved else None)
            except cli.DIVERGENCE as error:
                _go_back(cfg, folder, guard, error)
                return None
        else:
            built.objective.restore(saved)
        if not trainer.is_global_zero:
            return {}
        log.info("trained for %.0f s; evaluating", time.monotonic() - begun)
        findings = _evaluate(trainer, built)
        notes = [*findings.notes, *([guard.note] if guard is not None and guard.note else [])]
        _write(cfg, folder, about, built, findings._replace(notes=notes), untrained)
        _summarise(trainer, findings.measurements)
    return {m.name: m for m in findings.measurements}


def _guard(trainer: Trainer, saved: dict[str, Any] | None) -> Guard | None:
    """What watches over divergence, knowing the restarts so far; refused where it cannot restart."""
    guard = next((c for c in trainer.callbacks if isinstance(c, Guard)), None)
    if guard is None:
        return None
    if guard.restart and trainer.world_size > 1:
        raise UserError("callbacks.guard.restart works in one process: set it to false, or trainer.devices=1")
    if saved is not None and guard.state_key in saved["callbacks"]:
        guard.load_state_dict(saved["callbacks"][guard.state_key])
    return guard


def _go_back(cfg: DictConfig, folder: RunFolder, guard: Guard | None, error: Exception) -> None:
    """Prepare the last checkpoint for another start, or raise the error that ended this one."""
    if guard is None or not guard.restart or not folder.checkpoint().exists():
        raise error
    saved = read_checkpoint(folder.checkpoint(), cfg)
    if not guard.may_restart(saved):
        raise error
    guard.slow_down(saved)
    best = folder.checkpoint("best")
    if best.exists():  # chosen on the way that is given up, perhaps: what follows is compared with it
        saved["callbacks"]["Checkpoints"] = read_checkpoint(best, cfg)["callbacks"]["Checkpoints"]
    content = io.BytesIO()
    torch.save(saved, content)
    write_atomically(folder.checkpoint(), content.getvalue())
    log.warning(
        "diverged: %s; restart %d of %d from iteration %d, learning rates %g times the configured ones",
        error, guard.restarts, guard.max_restarts, saved["objective"]["iteration"],
        guard.lr_factor**guard.restarts,
    )  # fmt: skip


# --- where a run lives -------------------------------------------------------------------------------


def _continued(cfg: DictConfig) -> tuple[RunFolder, DictConfig]:
    """The folder in `resume` and its own config, with the length, logger and device that were asked for."""
    folder = RunFolder(cfg.resume)
    saved = folder.saved_config()
    if cfg.output_dir is not None:
        raise UserError("a resumed run writes into its own folder: leave output_dir out")
    for override in cli.overrides():
        key = override.lstrip("+~").partition("=")[0].partition("@")[0]
        if key.partition(".")[0] not in MAY_CHANGE:
            raise UserError(
                f"{override} cannot change in a run that goes on (only {', '.join(MAY_CHANGE[:-2])} can): "
                "start a new run with it"
            )
        if key not in ("resume", "output_dir"):
            _take_over(saved, cfg, key)
    return folder, saved


def _take_over(saved: DictConfig, cfg: DictConfig, key: str) -> None:
    """Only what was typed: what else the run was started with stays."""
    group = key.rpartition(".")[0]
    if group and OmegaConf.select(saved, group) is None:
        raise UserError(f"the run has no {group} of which {key} could change: it was started without")
    OmegaConf.update(saved, key, OmegaConf.select(cfg, key), merge=False)


def _output_dir(cfg: DictConfig, name: str, sweeping: bool) -> str:
    if sweeping and cfg.output_dir is not None:
        raise UserError(
            "in a sweep every job has a folder of its own: use hydra.sweep.dir in place of output_dir"
        )
    if sweeping:
        return HydraConfig.get().runtime.output_dir
    return cfg.output_dir or str(default_folder(name))


def _check_devices(cfg: DictConfig, sweeping: bool) -> None:
    devices = cfg.trainer.get("devices", 1)
    if sweeping and str(devices) not in ("1", "auto"):
        raise UserError(
            "a sweep runs its jobs on one device each: leave trainer.devices=1, and give each device a sweep"
        )


# --- around training -----------------------------------------------------------------------------------


def _untrained(folder: RunFolder, trainer: Trainer, built: Built, is_fresh: bool) -> list[Measurement]:
    """The same measurements before the first step, kept in the folder for a run that goes on."""
    if is_fresh and trainer.is_global_zero:
        measurements = _evaluate(trainer, built).measurements
        write_atomically(folder.untrained, to_json(measurements).encode())
    return from_json(folder.untrained.read_text()) if folder.untrained.exists() else []


def _evaluate(trainer: Trainer, built: Built) -> Findings:
    """Measure on the trainer's device (Lightning leaves the module on the CPU), in evaluation mode."""
    built.objective.to(trainer.strategy.root_device).eval()
    with refusals("evaluation"):
        findings = built.evaluation(built.objective, built.data)
    built.objective.train()
    return findings


def _is_finished(trainer: Trainer, built: Built, saved: dict[str, Any] | None) -> bool:
    """Whether the checkpoint has reached the length that is asked for."""
    if saved is None:
        return False
    objective, budget = built.objective, next(c for c in trainer.callbacks if isinstance(c, Budget))
    for name in ("iteration", "energy_evaluations"):
        setattr(objective, name, saved["objective"][name])
    budget.load_state_dict(saved["callbacks"][budget.state_key])
    return budget.is_spent(objective)


@contextmanager
def _isolated() -> Iterator[None]:
    """Leave the process as it was found: the jobs of a sweep share one."""
    environment, dtype, threads = dict(os.environ), torch.get_default_dtype(), torch.get_num_threads()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)


@contextmanager
def _released_if_untrained(folder: RunFolder, fresh: bool) -> Iterator[None]:
    """A mistake that only the first iteration could tell leaves the folder free."""
    try:
        yield
    except (UserError, InstantiationException, MisconfigurationException):
        if fresh and not folder.checkpoint().exists():
            folder.release()
        raise


@contextmanager
def _log_file(folder: RunFolder) -> Iterator[None]:
    """What is said on the terminal is kept in the folder; one process of a run speaks."""
    if rank_zero_only.rank != 0:
        log.setLevel(logging.WARNING)
        yield
        return
    handler = logging.FileHandler(folder.log)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


@contextmanager
def _wandb_finished(trainer: Trainer) -> Iterator[None]:
    """Close the wandb run with the right exit code: the next job of a sweep opens its own."""
    try:
        yield
    finally:
        failed = sys.exc_info()[0] is not None
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish(exit_code=int(failed))


# --- what a run leaves -----------------------------------------------------------------------------------


def _write(
    cfg: DictConfig,
    folder: RunFolder,
    about: dict[str, Any],
    built: Built,
    findings: Findings,
    untrained: list[Measurement],
) -> None:
    write_atomically(folder.results, to_json(findings.measurements).encode())
    figures = _figures(folder, built, findings)
    notes = [*built.objective.notes, *findings.notes, *_health(built)]
    write_report(
        folder.path,
        about["name"],
        OmegaConf.to_yaml(cfg, resolve=True),
        findings.measurements,
        untrained,
        figures,
        notes,
    )
    before = {m.name: m for m in untrained}
    for m in findings.measurements:
        was = f"   (untrained {format_number(before[m.name].value)})" if m.name in before else ""
        log.info("  %-16s %s %s%s", m.name, format_number(m.value, m.error), m.unit, was)
    for note in notes:
        log.info("note: %s", note)
    log.info("numbers:  %s", folder.results)
    log.info("pictures: %s", folder.samples)
    log.info("report:   %s", folder.report)


def _figures(folder: RunFolder, built: Built, findings: Findings) -> dict[str, Any]:
    """Pictures of the report, by caption."""
    figures = {}
    if findings.grid is not None:
        true = findings.grid.evaluate(built.data.density.log_prob)
        figures["Model density beside the true density"] = plots.landscape(
            findings.grid.reshape(findings.log_density).cpu(),
            findings.grid.reshape(true).cpu(),
            findings.grid.half_width,
        )
    samples = plots.picture(findings.samples, built.data.test_x, built.data)
    if samples is not None:
        figures["Samples" if len(built.data.shape) == 3 else "Samples beside data"] = samples
    if findings.of_classes is not None:
        rows_of_classes = plots.class_rows(findings.of_classes, built.data)
        if rows_of_classes is not None:
            figures["Samples of each class"] = rows_of_classes
    rows = read_metrics(folder.metrics)
    if rows:
        figures["Training"] = plots.curves(rows)
    names = {caption: caption.lower().replace(" ", "_") for caption in figures}
    return {c: plots.save(f, folder.samples / f"final_{names[c]}.png") for c, f in figures.items()}


def _health(built: Built) -> list[str]:
    """What the reader must know about how the samples of training were drawn."""
    objective, sampler = built.objective, built.objective.sampler
    if not objective.trains_by_sampling:
        return []
    notes = []
    if sampler.describe():
        claim = (
            "" if sampler.temperature is not None else " It has no temperature, so no likelihood is claimed."
        )
        notes.append(f"Sampler: {sampler.describe()}.{claim}")
    if sampler.temperature not in (None, 1):
        T = f"{sampler.temperature:g}"
        notes.append(f"Trained at temperature {T}: the model, its energies and likelihoods are of E / {T}.")
    return notes


def _summarise(trainer: Trainer, measurements: list[Measurement]) -> None:
    """The final numbers as the summary of the wandb run."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update({f"final/{m.name}": m.value for m in measurements})

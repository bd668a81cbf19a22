"""The one module that turns configs into objects: runs to train, and trained runs to look at."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from ebm_lab.binding import check_bindings
from ebm_lab.callbacks import Budget
from ebm_lab.data import InMemoryData
from ebm_lab.data.seeding import seeded_generator
from ebm_lab.domains import check_domain
from ebm_lab.energies import Energy, ScoreNetwork
from ebm_lab.errors import UserError
from ebm_lab.evaluation import Measurement, from_json
from ebm_lab.evaluation.final import Evaluation
from ebm_lab.noise import Noise
from ebm_lab.objectives import Objective, Parts
from ebm_lab.run_folder import RunFolder, digest
from ebm_lab.samplers import Kernel

PREPARING = 3  # random stream of a seed


@dataclass
class Built:
    """All objects of a run but its trainer."""

    data: InMemoryData
    objective: Objective
    evaluation: Evaluation


@dataclass
class Run:
    """A trained run, as `load_run` gives it.

    Attributes:
        energy: the model, x -> E(x) with base term and temperature applied; p(x) = exp(-E(x)) / Z.
        log_z: the objective's own log Z, where it has one.
        sampler: a kernel that draws from `energy`: the one that the run was evaluated with.
        num_steps: its steps from the noise.
        data: its data, set up.
        results: final measurements by name; empty where the run has not ended.
        objective: the LightningModule.
        config: the resolved config.
        path: the folder.
    """

    energy: Energy | ScoreNetwork
    log_z: float | None
    sampler: Kernel
    num_steps: int
    data: InMemoryData
    results: dict[str, Measurement]
    objective: Objective
    config: DictConfig
    path: Path


def build(cfg: DictConfig) -> Built:
    """Data, networks, sampler, noise and objective of a config, seeded, fitted and checked.

    Raises:
        UserError: for a key that no constructor takes, a value that one refuses, or parts that do not fit.
    """
    check_bindings(cfg)
    with refusals("seed"):
        seed_everything(cfg.seed, workers=True, verbose=False)
    data = _make(cfg, "data")
    with refusals("data"):
        data.setup()
    noise: Noise = _make(cfg, "noise")
    parts = Parts(
        energy=_make(cfg, "energy"),
        sampler=_make(cfg, "sampler").on(noise),
        noise=noise,
        optimizer=_make(cfg, "optimizer"),
    )
    evaluation: Evaluation = _make(cfg, "evaluation")
    check_domain("evaluation.kernel", evaluation.kernel, data.domain)
    objective = _make_objective(cfg, parts, data)
    evaluation.kernel = evaluation.kernel.on(objective.noise)
    evaluation.kernel.check(objective.model())
    return Built(data, objective, evaluation)


def _make_objective(cfg: DictConfig, parts: Parts, data: InMemoryData) -> Objective:
    get_class(cfg.objective._target_).check_data(data)
    deferred = instantiate(cfg.objective, _partial_=True, _convert_="all")
    with refusals("objective"):
        objective: Objective = deferred(parts=parts)
        objective.seed = cfg.seed
        objective.check(data)
        preparing = seeded_generator(cfg.seed, PREPARING, device=data.train_x.device)
        with objective.drawing_from(preparing), objective.uncounted():
            objective.fit_densities(data.train_x, data.train_labels)
            _check_model(objective.model(), data)
            objective.check_noise(data.train_x, "training")
            objective.prepare(data.train_x)
            objective.check_noise(torch.cat([data.val_x, data.test_x]), "held-out")
    return objective


def _check_model(model: Energy | ScoreNetwork, data: InMemoryData) -> None:
    """Two events through what is trained, so that a wrong shape answers now and in words."""
    with torch.no_grad():
        try:
            model(data.train_x[:2])
        except (RuntimeError, TypeError) as error:
            raise UserError(
                f"energy: {type(model).__name__} cannot evaluate data of shape {data.shape} ({error})"
            ) from error


def make_trainer(
    cfg: DictConfig, folder: RunFolder, evaluation: Evaluation, about: dict[str, Any]
) -> Trainer:
    """Trainer, callbacks and loggers of a config, all writing into the run's folder."""
    callbacks = _make_callbacks(cfg, evaluation)
    return instantiate(
        cfg.trainer,
        callbacks=callbacks,
        enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),  # or Lightning adds its own
        logger=_make_loggers(cfg, about) or False,
        default_root_dir=str(folder.path),
        _convert_="all",
    )


def _make_callbacks(cfg: DictConfig, evaluation: Evaluation) -> list[Callback]:
    """In the order of the config; what only the builder knows is handed over by name."""
    known = {
        "samples": {"kernel": evaluation.kernel, "num_steps": evaluation.num_steps},
        "checkpoints": {"digest": digest(cfg)},
    }
    made = []
    for name, node in cfg.callbacks.items():
        if node is not None:
            if "_target_" not in node:
                raise UserError(
                    f"callbacks.{name} sets {', '.join(node)} of a callback that is not there: leave that "
                    f"out (~callbacks.{name}), or give its _target_"
                )
            with refusals(f"callbacks.{name}"):
                made.append(instantiate(node, _partial_=True, _convert_="all")(**known.get(name, {})))
    if not any(isinstance(callback, Budget) for callback in made):
        raise UserError("callbacks.budget is what ends a run: leave it in, and set iterations or seconds")
    return made


def _make_loggers(cfg: DictConfig, about: dict[str, Any]) -> list[Logger]:
    identity = {
        "name": about["name"],
        "group": about["name"].rpartition("-s")[0],
        "tags": [
            f"{k}={v}" for k, v in about["choices"].items() if k in ("objective", "data", "energy", "sampler")
        ],
        "config": OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True),
    }
    made = []
    nodes = cfg.logger if rank_zero_only.rank == 0 else {}  # one process of a run writes
    for name, node in nodes.items():
        if node is None:
            continue
        extra = {}
        if name == "wandb":
            extra = {k: v for k, v in identity.items() if not node.get(k)}
        with refusals(f"logger.{name}"):
            made.append(instantiate(node, _partial_=True, _convert_="all")(**extra))
    return made


def _make(cfg: DictConfig, group: str) -> Any:
    return instantiate(cfg[group], _convert_="all")


@contextmanager
def refusals(where: str) -> Iterator[None]:
    """A constructor's ValueError is the user's to mend: one sentence that says where."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def read_checkpoint(path: Path, cfg: DictConfig) -> dict[str, Any]:
    """A checkpoint's content.

    Raises:
        UserError: when the file is missing, cut short, or belongs to another config.
    """
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} is cut short or damaged ({type(error).__name__}): put another in its place, or "
            "start again in a new folder"
        ) from error
    if checkpoint.get("digest") != digest(cfg):
        raise UserError(
            f"{path} was written by a run of another config than {path.parent.parent / 'config.yaml'}"
        )
    return checkpoint


def load_run(path: str | Path, checkpoint: str = "last") -> Run:
    """A trained run from its folder, on the CPU.

    Args:
        path: the run's folder.
        checkpoint: last or best. Weights are the averaged ones where the run kept an average.

    Raises:
        UserError: when the folder holds no run, or its checkpoint cannot be used.
    """
    folder = RunFolder(path)
    cfg = folder.saved_config()
    saved = read_checkpoint(folder.checkpoint(checkpoint), cfg)
    with torch.random.fork_rng():
        built = build(_without_long_fits(cfg))
    built.objective.restore(saved)
    built.objective.eval()
    results = from_json(folder.results.read_text()) if folder.results.exists() else []
    return Run(
        energy=built.objective.model(),
        log_z=built.objective.log_z(),
        sampler=built.evaluation.kernel,
        num_steps=built.evaluation.num_steps,
        data=built.data,
        results={m.name: m for m in results},
        objective=built.objective,
        config=cfg,
        path=folder.path,
    )


def _without_long_fits(cfg: DictConfig) -> DictConfig:
    """The config with one step for the fit of its flows, whose weights the checkpoint holds: minutes."""
    for place in ("noise", "objective.flow"):
        if OmegaConf.select(cfg, f"{place}._target_") == "ebm_lab.noise.Flow":
            cfg = OmegaConf.merge(cfg, OmegaConf.from_dotlist([f"{place}.fit_steps=1"]))
    return cfg

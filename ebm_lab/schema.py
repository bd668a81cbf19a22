"""The root of every run's config: a misspelt key or a wrong type at the top level fails at composition."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from ebm_lab import resolvers


@dataclass
class RunSchema:
    """Groups, and the few keys that belong to no group."""

    energy: Any = MISSING
    conditioning: Any = None
    noise: Any = MISSING
    sampler: Any = MISSING
    optimizer: Any = MISSING
    evaluation: Any = MISSING
    log_z: Any = MISSING
    objective: Any = MISSING
    data: Any = MISSING
    trainer: Any = MISSING
    callbacks: Any = MISSING
    logger: Any = MISSING
    seed: int = 0
    iterations: int = 4000  # length of the run, in batches
    seconds: float | None = None  # or stop after so many seconds of training
    energy_evaluations: int | None = None  # or after so many evaluations of E at one event
    threads: int = 1  # of PyTorch on the CPU: small networks are slower with more
    output_dir: str | None = None  # null: outputs/<date>/<time>-<objective>-<data>-s<seed>
    resume: str | None = None  # folder of a run to continue


@dataclass
class SampleSchema:
    """What `scripts/sample.py` takes."""

    sampler: Any = None
    run: str = MISSING
    num_samples: int = 64
    num_steps: int | None = None  # null: as many as the evaluation of the run
    checkpoint: str = "last"
    seed: int = 0


@dataclass
class EvaluateSchema:
    """What `scripts/evaluate.py` takes."""

    log_z: Any = None
    run: str = MISSING
    num_samples: int = 500
    num_steps: int | None = None  # null: as many as the evaluation of the run
    checkpoint: str = "last"
    seed: int = 0
    ood: str | None = None  # another option of data, of the same shape: is it told from the run's?
    long_run: int = 0  # further steps of the run's sampler from the samples; 0: off
    fid: bool = False  # FID and KID, which need the extra: pip install 'ebm_lab[fid]'


def register() -> None:
    """Put the schema where the defaults lists find it, and the resolvers where interpolations do."""
    resolvers.register()
    ConfigStore.instance().store(name="run_schema", node=RunSchema)
    ConfigStore.instance().store(name="sample_schema", node=SampleSchema)
    ConfigStore.instance().store(name="evaluate_schema", node=EvaluateSchema)

"""Does every objective learn what mathematics says it learns? `python scripts/verify.py [objective ...]`

For each objective in configs/objective, or in DIR/objective with `--config-dir DIR`, on each of its known
truths (for most the quadratic energy on Gaussian data in 2 and in 10 dimensions; for what takes binary data
an Ising model besides): train its loss, with the numbers of its YAML, in independent replicas, and compare
what it learned with the closed form, the method's own bias included. One row a number; exit code 1 when one
is off. A new objective is verified by existing.
"""

import argparse
import logging
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import hydra
import torch
from hydra.utils import get_class
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging
from rich.console import Console
from rich.table import Table
from scipy import stats

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.callbacks import Budget
from ebm_lab.cli import CONFIGS
from ebm_lab.objectives import KnownTruth, Objective

REPLICAS = 8
LIMIT = stats.t.ppf(1 - 1e-3 / 2, REPLICAS - 1)  # of |z|: one false alarm in a thousand rows
PRECISION = 0.02  # largest standard error over max(1, |expected|): noise must not hide a bias
ROUNDING = 1e-5  # of numbers of size 1 learned in single precision, where no replica differs: not an error
PROBLEM = [
    "logger=none", "iterations=800", "optimizer.lr=0.02", "data.batch_size=1000",
]  # fmt: skip


class Replica(NamedTuple):
    """What one run learned, what it should have learned, and how long it took."""

    learned: dict[str, float]
    expected: dict[str, float]
    seconds: float


def method_of(objective: str, search_path: tuple[str, ...] = ()) -> type[Objective]:
    """The class behind `objective=`."""
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=[f"objective={objective}", *search_path])
    return get_class(cfg.objective._target_)


def train_replica(
    objective: str, problem: type[KnownTruth], size: int, seed: int, search_path: tuple[str, ...] = ()
) -> Replica:
    """One run, on data of its own; `search_path` overrides where Hydra looks for configs."""
    _quiet()
    begun = time.monotonic()
    method = method_of(objective, search_path)
    overrides = [f"objective={objective}", f"seed={seed}", f"data.seed={seed}", *search_path]
    posed = [*PROBLEM, *problem.posed(size), *method.truth_overrides]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=posed + overrides)
    built = build(cfg)
    truth = problem.of(built.data)
    trainer = Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False, limit_val_batches=0,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[Budget(iterations=cfg.iterations), EMAWeightAveraging(decay=0.98, use_buffers=False)],
    )  # fmt: skip
    trainer.fit(built.objective, datamodule=built.data)
    learned, expected = built.objective.learned(truth), built.objective.known_truth(truth)
    numbers = [{k: float(v) for k, v in found.items()} for found in (learned, expected)]
    return Replica(*numbers, time.monotonic() - begun)


def rows(objective: str, size: int | str, runs: list[Replica]) -> Iterator[tuple[str, ...]]:
    """One row a number: expected, learned, standard error, z, seconds of all replicas, verdict."""
    seconds = sum(run.seconds for run in runs)
    for name, expected in runs[0].expected.items():
        learned = [run.learned[name] for run in runs]
        mean, error = statistics.mean(learned), statistics.stdev(learned) / math.sqrt(len(runs))
        size_of, z = max(1, abs(expected)), (mean - expected) / error
        right = abs(z) < LIMIT or abs(mean - expected) < ROUNDING * size_of
        verdict = "ok" if right and error < PRECISION * size_of else "FAILS"
        numbers = (f"{expected:.5f}", f"{mean:.5f}", f"{error:.5f}", f"{z:+.1f}", f"{seconds:.0f}")
        yield (objective, str(size), name, *numbers, verdict)


def _quiet() -> None:
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    schema.register()


def _options(configs: Path) -> list[str]:
    return sorted(f.stem for f in (configs / "objective").glob("*.yaml"))


def main() -> int:
    """The table; 1 when a row fails, 2 for an unknown objective."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("objectives", nargs="*", help="default: all")
    parser.add_argument("--config-dir", type=Path, help="verify the objectives of this folder")
    arguments = parser.parse_args()
    configs = arguments.config_dir
    own = _options(CONFIGS if configs is None else configs)
    if not own:
        print(f"error: {configs} holds no objective/*.yaml to verify", file=sys.stderr)
        return 2
    known, chosen = {*own, *_options(CONFIGS)}, arguments.objectives or own
    unknown = [name for name in chosen if name not in known]
    if unknown:
        print(
            f"error: there is no objective {unknown[0]}: choose from {', '.join(sorted(known))}",
            file=sys.stderr,
        )
        return 2
    search_path = () if configs is None else (f"hydra.searchpath=[file://{configs.resolve()}]",)
    return _verify(chosen, search_path)


def _verify(objectives: list[str], search_path: tuple[str, ...]) -> int:
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table(title=f"{REPLICAS} replicas; a row passes while |z| < {LIMIT:.1f}")
    for column in ("objective", "size", "number", "expected", "learned", "s.e.", "z", "seconds", "verdict"):
        table.add_column(column)
    failed = False
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        jobs = {
            (objective, f"{size} {problem.unit}".strip()): [
                pool.submit(train_replica, objective, problem, size, seed, search_path)
                for seed in range(REPLICAS)
            ]
            for objective in objectives
            for problem in method_of(objective, search_path).truths()
            for size in problem.sizes
        }
        for (objective, size), replicas in jobs.items():
            for row in rows(objective, size, [replica.result() for replica in replicas]):
                table.add_row(*row)
                failed |= row[-1] == "FAILS"
    console.print(table)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""The command line inside this process, and runs small enough for tests."""

import contextlib
import io
import itertools
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.core.global_hydra import GlobalHydra

from ebm_lab.cli import run_command

TINY = [
    "trainer.accelerator=cpu",
    "logger=csv",
    "callbacks.samples=null",
    "energy.width=8",
    "energy.depth=1",
    "data.num_train=300",
    "data.num_val=40",
    "data.num_test=40",
    "data.batch_size=32",
    "evaluation.num_samples=40",
    "evaluation.num_steps=2",
    "evaluation.grid_points=61",
]
"""A default run of a second, evaluation included."""


def wandb_records(file: Path, patience: float = 60.0) -> list[Any]:
    """The records of an offline run that has ended.

    wandb's service writes the last of them a moment after `finish` has returned, later on a busy machine.
    """
    deadline = time.monotonic() + patience
    while True:
        records = _records(file)
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        assert time.monotonic() < deadline, f"{file} ends without the run's exit after {patience:g} s"
        time.sleep(0.1)


def _records(file: Path) -> list[Any]:
    """LevelDB's log format: blocks of 32 KiB with records in pieces."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, piece, records = file.read_bytes(), 7, b"", []
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:  # too little for a header: padding
            position += 32768 - position % 32768
            continue
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        if position + 7 + length > len(content):  # still being written
            break
        piece += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            records.append(Record.FromString(piece))
            piece = b""
    return records


class Outcome(NamedTuple):
    """How a command ended, and all that it printed."""

    code: int
    text: str


def command(*arguments: str, script: str = "train") -> Outcome:
    """`python train.py ARGUMENTS`, in this process."""
    from ebm_lab import evaluating, sampling, training

    task = {"train": training.run, "sample": sampling.draw, "evaluate": evaluating.evaluate}[script]
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    log = logging.getLogger("ebm_lab")
    argv, level = sys.argv, log.level
    sys.argv = [f"{script}.py", *arguments]
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    GlobalHydra.instance().clear()
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            run_command(lambda cfg: task(cfg) and None, script)
    except SystemExit as end:
        return Outcome(end.code or 0, text.getvalue())
    finally:
        sys.argv = argv
        log.removeHandler(handler)
        log.setLevel(level)
    raise AssertionError("run_command always exits")


def child(arguments: list[str], log: str, pause: tuple[str, int] | None = None) -> None:
    """Body of a process that runs a command; at the n-th passage of a place it leaves a mark and waits.

    Places: `step` (a training step is done), `validation` (its end), `before_replace` and `after_replace`
    (of last.ckpt), `torn` (half of last.ckpt is written).
    """
    text = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(text, 1)
    os.dup2(text, 2)
    torch.set_num_threads(1)
    if pause is not None:
        _pause(*pause, mark=Path(f"{log}.mark"))
    outcome = command(*arguments)
    os.write(1, outcome.text.encode())
    os._exit(outcome.code)


def _pause(place: str, passage: int, mark: Path) -> None:
    from pytorch_lightning import Trainer

    from ebm_lab.callbacks import Checkpoints
    from ebm_lab.objectives import Objective

    passages = itertools.count(1)

    def wait(path: object = None) -> None:
        if next(passages) != passage:
            return
        if place == "torn":
            os.truncate(path, os.path.getsize(path) // 2)
        stops = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, stops)  # so that none arrives between the mark and the wait
        mark.touch()
        while not signal.sigpending() & stops:
            time.sleep(0.01)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)

    replace, step = os.replace, Objective.training_step
    validation_end, save = Checkpoints.on_validation_end, Trainer.save_checkpoint

    def waiting_replace(source: str, target: str) -> None:
        is_last = str(target).endswith("last.ckpt")
        if is_last and place == "before_replace":
            wait()
        replace(source, target)
        if is_last and place == "after_replace":
            wait()

    def waiting_step(self: Objective, *args: object) -> None:
        step(self, *args)
        wait()

    def waiting_validation_end(self: Checkpoints, *args: object) -> None:
        wait()
        validation_end(self, *args)

    def waiting_save(self: Trainer, path: Path) -> None:
        save(self, path)
        if "last" in Path(path).name:
            wait(path)

    holder, name, replacement = {
        "step": (Objective, "training_step", waiting_step),
        "validation": (Checkpoints, "on_validation_end", waiting_validation_end),
        "torn": (Trainer, "save_checkpoint", waiting_save),
    }.get(place, (os, "replace", waiting_replace))
    setattr(holder, name, replacement)


CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["ebm_lab.training", "ebm_lab.sampling", "commands"])


def start(arguments: list[str], log: Path, pause: tuple[str, int] | None = None) -> multiprocessing.Process:
    """The command in a process of its own, forked from one that has everything imported."""
    process = CHILDREN.Process(target=child, args=(arguments, str(log), pause))
    process.start()
    return process


def wait_for(condition: Callable[[], bool], process: multiprocessing.Process, log: Path) -> None:
    """Until the condition holds; fails when the process ends before."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.is_alive(), f"ended with {process.exitcode}: {log.read_text()}"
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two checkpoints differ, in bits."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [path]
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [d for key in a for d in differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [d for i, pair in enumerate(zip(a, b, strict=True)) for d in differences(*pair, f"{path}/{i}")]
    return [] if a == b else [path]

"""A run that diverges goes back to its last checkpoint with a smaller learning rate, when it is asked to."""

import os
import signal
from pathlib import Path

import pytest
from commands import command, start, wait_for
from test_resume import assert_same_run, differences, last

from ebm_lab.callbacks import Guard
from ebm_lab.loggers import read_metrics

RUN = [
    "objective=dsm", "data=gaussian", "energy=quadratic", "optimizer=sgd", "optimizer.schedule=constant",
    "trainer.accelerator=cpu", "logger=csv", "callbacks.samples=null", "data.num_train=300",
    "data.num_val=40", "data.num_test=40", "data.batch_size=32", "evaluation.num_samples=40",
    "evaluation.num_steps=2", "evaluation.grid_points=61", "iterations=20", "callbacks.checkpoints.every=3",
    "trainer.val_check_interval=5", "trainer.log_every_n_steps=1", "callbacks.guard.limit=1e4",
]  # fmt: skip
GUARDED = ["callbacks.guard.restart=true", "callbacks.guard.lr_factor=0.1"]
AT_ONCE = "optimizer.lr=2"  # from iteration 2 on
LATER = [AT_ONCE, "optimizer.warmup=40"]  # when the rate has grown


def said(folder: Path) -> str:
    return (folder / "run.log").read_text()


def test_started_again_it_is_the_run_of_the_smaller_rate(tmp_path):
    """From the checkpoint before the first iteration, with the same events and random numbers."""
    again, slow = tmp_path / "again", tmp_path / "slow"
    assert command(*RUN, *GUARDED, AT_ONCE, f"output_dir={again}").code == 0
    assert command(*RUN, *GUARDED, "optimizer.lr=0.2", f"output_dir={slow}").code == 0
    a, b = last(again), last(slow)
    keys = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "objective")
    assert differences({k: a[k] for k in keys}, {k: b[k] for k in keys}) == []
    assert a["callbacks"]["Guard"] == {"restarts": 1} and b["callbacks"]["Guard"] == {"restarts": 0}
    assert "diverged: the loss exploded past callbacks.guard.limit=10000 at iteration 2" in said(again)
    assert "restart 1 of 3 from iteration 0, learning rates 0.1 times the configured ones" in said(again)
    assert "note: The run diverged and started again once" in said(again)
    assert "diverged" not in said(slow)
    rows = read_metrics(again / "metrics.csv")
    assert [row["iteration"] for row in rows] == [str(i) for i in range(1, 21)]
    assert {row["train/restarts_of_run"] for row in rows} == {"1.0"}
    assert "train/restarts_of_run" not in read_metrics(slow / "metrics.csv")[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    outcome = command(*RUN, *GUARDED, *LATER, f"output_dir={folder}")
    assert outcome.code == 0, outcome.text
    assert last(folder)["callbacks"]["Guard"]["restarts"] >= 1
    return folder


@pytest.mark.parametrize(
    "pause", [("before_replace", 1), ("step", 3), ("step", 14), ("after_replace", 5)], ids=str
)
def test_killed_before_and_after_a_restart_it_ends_as_it_would_have(whole, tmp_path, pause):
    folder, log = tmp_path / "run", tmp_path / "log"
    process = start([*RUN, *GUARDED, *LATER, f"output_dir={folder}"], log, pause)
    wait_for(Path(f"{log}.mark").exists, process, log)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    outcome = command(f"resume={folder}")
    assert outcome.code == 0, outcome.text
    assert_same_run(folder, whole)


def test_it_gives_up_after_the_last_restart(tmp_path):
    folder = tmp_path / "run"
    hopeless = ["optimizer.lr=1e6", "callbacks.guard.max_restarts=2"]
    outcome = command(*RUN, *GUARDED, *hopeless, f"output_dir={folder}")
    assert outcome.code == 1
    assert "restart 2 of 2" in said(folder) and "restart 3" not in said(folder)
    assert "exploded past callbacks.guard.limit" in outcome.text or "is not finite" in outcome.text
    assert last(folder)["objective"]["iteration"] == 0


def test_without_being_asked_it_stops(tmp_path):
    outcome = command(*RUN, AT_ONCE, f"output_dir={tmp_path / 'run'}")
    assert outcome.code == 1 and "restart" not in outcome.text


def test_several_processes_are_refused(tmp_path):
    outcome = command(*RUN, *GUARDED, "trainer=ddp", f"output_dir={tmp_path / 'run'}")
    assert outcome.code == 2
    assert "callbacks.guard.restart works in one process" in outcome.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0.0}, "limit must be positive"),
        ({"max_restarts": 0}, "max_restarts must be at least 1"),
        ({"lr_factor": 1.0}, "lr_factor must lie between 0 and 1"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Guard(**arguments)


def test_every_rate_shrinks_and_restarts_are_counted():
    checkpoint = {
        "optimizer_states": [
            {"param_groups": [{"lr": 1.0, "initial_lr": 2.0}, {"lr": 3.0, "initial_lr": 4.0}]}
        ],
        "lr_schedulers": [{"base_lrs": [2.0, 4.0], "_last_lr": [1.0, 3.0]}],
        "callbacks": {},
    }
    guard = Guard(restart=True, max_restarts=2, lr_factor=0.5)
    for number in (1, 2):
        assert guard.may_restart(checkpoint)
        guard.slow_down(checkpoint)
        assert checkpoint["callbacks"]["Guard"] == {"restarts": number}
    assert not guard.may_restart(checkpoint)
    assert checkpoint["optimizer_states"][0]["param_groups"][1] == {"lr": 0.75, "initial_lr": 1.0}
    assert checkpoint["lr_schedulers"][0] == {"base_lrs": [0.5, 1.0], "_last_lr": [0.25, 0.75]}
